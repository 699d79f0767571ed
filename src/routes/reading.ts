import type { Engine } from '../domain/engine.ts'
import type { Host } from '../domain/host.ts'
import { notFound } from '../domain/refusal.ts'
import type { MemfileState, VmState } from '../domain/state.ts'
import { ServiceError, unwrap } from './errors.ts'

/**
 * Reads state now, and gives it out, or says that it is not there, once everything it shows is durable. What was seen of
 * a group that could not be written is forgotten, and read again as it is on disk.
 */
export function read<T>(engine: Engine, build: () => T): Promise<T> {
  if (engine.failure !== undefined) return readAgain(engine, build)
  let value: T
  try {
    value = build()
  } catch (error) {
    return engine.settled().then(
      () => Promise.reject(error),
      () => readAgain(engine, build),
    )
  }
  return engine.settled().then(
    () => value,
    () => readAgain(engine, build),
  )
}

async function readAgain<T>(engine: Engine, build: () => T): Promise<T> {
  await whenServing(engine)
  const value = build()
  try {
    await engine.settled()
  } catch (cause) {
    throw new ServiceError('storage-failed', undefined, { cause })
  }
  return value
}

/** Waits while state is read back from disk; refuses when there is none to serve. */
export async function whenServing(engine: Engine): Promise<void> {
  await engine.settled().catch(() => engine.settled())
  try {
    engine.assertServing()
  } catch (cause) {
    throw new ServiceError('not-ready', undefined, { cause })
  }
}

export const hostNamed = (engine: Engine, name: string): Host =>
  engine.hosts.get(name) ?? unwrap(notFound('host', name))

export const hostOfVm = (engine: Engine, vm: string): Host => engine.hostOfVm(vm) ?? unwrap(notFound('vm', vm))

export const hostOfMemfile = (engine: Engine, memfile: string): Host =>
  engine.hostOfMemfile(memfile) ?? unwrap(notFound('memfile', memfile))

export const vmOf = (host: Host, vm: string): VmState => host.state.vms.get(vm) ?? unwrap(notFound('vm', vm))

export const memfileOf = (host: Host, memfile: string): MemfileState =>
  host.state.memfiles.get(memfile) ?? unwrap(notFound('memfile', memfile))

export const vmRevision = (host: Host, { vm }: { readonly vm: string }): number | undefined =>
  host.state.vms.get(vm)?.revision

export const memfileRevision = (host: Host, { memfile }: { readonly memfile: string }): number | undefined =>
  host.state.memfiles.get(memfile)?.revision
