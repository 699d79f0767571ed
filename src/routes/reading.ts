import type { Engine } from '../domain/engine.ts'
import type { Host } from '../domain/host.ts'
import { notFound } from '../domain/refusal.ts'
import type { MemfileState, VmState } from '../domain/state.ts'
import { unwrap } from './errors.ts'

/** Reads state now, and gives it out, or says that it is not there, once everything it shows is durable. */
export function read<T>(engine: Engine, build: () => T): Promise<T> {
  engine.assertServing()
  let value: T
  try {
    value = build()
  } catch (error) {
    return engine.settled().then(() => Promise.reject(error))
  }
  return engine.settled().then(() => value)
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
