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
  if (name === undefined) return technology === undefined ? anyHost(api) : defaultHost(engine, technology)
  const host = engine.hosts.get(name) ?? unwrap(notFound('host', name))
  if (technology === undefined || host.state.technology === technology) return host
  return unwrap(invalid('host-of-other-technology', `Host "${name}" is of ${host.state.technology}.`, '/host'))
}

/** The host named like the technology, else its first by name: a restart must not change where things are made. */
function defaultHost(engine: Engine, technology: string): Host {
  const named = engine.hosts.get(technology)
  if (named?.state.technology === technology) return named
  const host = byName(engine).find(({ state }) => state.technology === technology)
  return host ?? unwrap(conflict('no-host', `There is no host of ${technology}; make one with POST /v1/hosts.`))
}

/** The first default host that is up, else any that is, else any. */
function anyHost({ engine, backends }: Api): Host {
  const defaults = [...backends.keys()].flatMap((technology) => engine.hosts.get(technology) ?? [])
  const hosts = [...defaults, ...byName(engine)]
  return (
    hosts.find((host) => host.state.crashed === null) ?? hosts[0] ?? unwrap(conflict('no-host', 'There is no host.'))
  )
}

const byName = (engine: Engine): Host[] =>
  [...engine.hosts.values()].sort((a, b) => (a.state.name < b.state.name ? -1 : 1))
