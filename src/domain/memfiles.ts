import * as pageMap from '../hw/shared/page-map.ts'
import { MAX_FILE_PAGES, punch } from './backing.ts'
import type { HostContext } from './context.ts'
import { accept, conflict, kernelRefusal, type Result } from './refusal.ts'
import type { Consumer, MemfileState, NotifierFlags, VmState } from './state.ts'

export type MemfileOptions = {
  readonly id: string
  readonly name: string | null
  readonly size: bigint
  /** Pages in a folio: 1, 512 or 262144. */
  readonly span: number
  readonly placed: boolean
}

/** KVM_CREATE_GUEST_MEMFD (kvm-guest-memory.md c.1), in the state before it knows its technology (a.4). */
export function createMemfile(host: HostContext, options: MemfileOptions): Result<MemfileState> {
  const unit = 4096n * BigInt(options.span)
  if (options.size <= 0n || options.size >= 2n ** 63n || options.size % unit !== 0n) {
    const detail = `The size must be a positive multiple of ${unit} bytes below 2^63.`
    return kernelRefusal('EINVAL', 'bad-memfile-size', detail, '/size')
  }
  const memfile: MemfileState = {
    id: options.id,
    name: options.name,
    pages: Number(options.size / 4096n),
    span: options.span,
    placed: options.placed,
    vm: null,
    state: 'unbound',
    backing: pageMap.create(),
    allocated: 0,
    bindings: [],
    consumers: [],
    revision: host.seq,
  }
  host.state.memfiles.set(memfile.id, memfile)
  host.changes.memfile(memfile.id)
  return accept(memfile)
}

/** Binds a memfile to the VM that will use it: its state becomes the technology's initial one (a.4). */
export function bindMemfile(host: HostContext, memfile: MemfileState, vm: VmState): Result<MemfileState> {
  if (memfile.state !== 'unbound') {
    const detail = `Memfile "${memfile.id}" is ${memfile.state}; a memfile binds once.`
    return conflict('memfile-not-unbound', detail, { currentState: memfile.state, allowedStates: ['unbound'] })
  }
  const { mappable, movable, reclaimable } = host.backend.properties
  const flags = { userInaccessible: !mappable, unmovable: !movable, unreclaimable: !reclaimable }
  const registered = registerConsumer(memfile, vm.id, flags)
  if (!registered.ok) return registered
  memfile.vm = vm
  memfile.state = 'bound'
  touchMemfile(host, memfile)
  return accept(memfile)
}

/** Registers a consumer with the notifier. All consumers of a memfile must agree on the flags (a.4): else EINVAL. */
export function registerConsumer(memfile: MemfileState, name: string, flags: NotifierFlags): Result<Consumer> {
  if (memfile.consumers.some((other) => other.name === name)) {
    return kernelRefusal('EEXIST', 'consumer-exists', `"${name}" already consumes this memfile.`, '/name')
  }
  const other = memfile.consumers.find((consumer) => !sameFlags(consumer.flags, flags))
  if (other !== undefined) {
    const detail = `"${other.name}" registered with other flags, and every consumer of a memfile must agree.`
    return kernelRefusal('EINVAL', 'notifier-flags-conflict', detail, '/flags')
  }
  const consumer = { name, flags, populated: 0, invalidated: 0 }
  memfile.consumers.push(consumer)
  return accept(consumer)
}

const sameFlags = (a: NotifierFlags, b: NotifierFlags): boolean =>
  a.userInaccessible === b.userInaccessible && a.unmovable === b.unmovable && a.unreclaimable === b.unreclaimable

/** Closes the file: slots stay, unbacked, and can only be deleted (b.3). */
export function deleteMemfile(host: HostContext, memfile: MemfileState): void {
  releasePages(host, memfile)
  for (const binding of memfile.bindings) {
    if (memfile.vm !== null) {
      host.changes.pagesOf(memfile.vm.id, binding.firstGfn, binding.firstGfn + binding.pages)
    }
  }
  detachSlots(memfile)
  host.state.memfiles.delete(memfile.id)
  host.changes.memfile(memfile.id)
}

function detachSlots(memfile: MemfileState): void {
  for (const slot of memfile.vm?.slots ?? []) if (slot.file === memfile) slot.file = null
}

/** The VM of a memfile is gone: its pages are the host's again, and the file lives on without a guest (b.3, e). */
export function releaseMemfile(host: HostContext, memfile: MemfileState): void {
  releasePages(host, memfile)
  detachSlots(memfile)
  memfile.bindings.length = 0
  memfile.consumers.length = 0
  memfile.vm = null
  memfile.state = 'released'
  touchMemfile(host, memfile)
}

const releasePages = (host: HostContext, memfile: MemfileState): void => {
  if (memfile.allocated > 0) punch(host, memfile, 0, Math.min(memfile.pages, MAX_FILE_PAGES))
}

export function touchMemfile(host: HostContext, memfile: MemfileState): void {
  memfile.revision = host.seq
  host.changes.memfile(memfile.id)
}

/** Populating and punching need a memfile that has been bound once. */
export function requireBoundOnce(memfile: MemfileState): Result<MemfileState> {
  if (memfile.state !== 'unbound') return accept(memfile)
  const detail = `Memfile "${memfile.id}" is unbound: only bind and delete are legal.`
  return conflict('memfile-unbound', detail, { currentState: 'unbound', allowedStates: ['bound', 'released'] })
}
