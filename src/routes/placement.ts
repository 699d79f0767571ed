import type { Engine } from '../domain/engine.ts'
import type { Host } from '../domain/host.ts'
import { conflict, invalid, notFound } from '../domain/refusal.ts'
import type { Api } from './api.ts'
import { unwrap } from './errors.ts'

/** Refuses the name of a technology that this gmemd does not emulate. */
export function requireTechnology({ backends }: Api, technology: string): void {
  if (backends.has(technology)) return
  const detail = `"${technology}" is not one of ${[...backends.keys()].join(', ')}.`
  unwrap(invalid('no-such-technology', detail, '/technology'))
}

/** The host that a request means: the one it names, or the default one of its technology. */
export function hostFor(api: Api, technology: string | undefined, name: string | undefined): Host {
  const { engine } = api
  if (technology !== undefined) requireTechnology(api, technology)
  if (name === undefined) return technology === undefined ? anyHost(engine) : defaultHost(engine, technology)
  const host = engine.hosts.get(name) ?? unwrap(notFound('host', name))
  if (technology === undefined || host.state.technology === technology) return host
  return unwrap(invalid('host-of-other-technology', `Host "${name}" is of ${host.state.technology}.`, '/host'))
}

/** The host named like the technology, else its first. */
function defaultHost(engine: Engine, technology: string): Host {
  const named = engine.hosts.get(technology)
  if (named?.state.technology === technology) return named
  for (const host of engine.hosts.values()) if (host.state.technology === technology) return host
  return unwrap(conflict('no-host', `There is no host of ${technology}; make one with POST /v1/hosts.`))
}

function anyHost(engine: Engine): Host {
  const hosts = [...engine.hosts.values()]
  return (
    hosts.find((host) => host.state.crashed === null) ?? hosts[0] ?? unwrap(conflict('no-host', 'There is no host.'))
  )
}
