import { addressOf } from '../hw/shared/address-schema.ts'
import { hostUse } from './accounting.ts'
import type { HostContext } from './context.ts'
import { presentExit } from './exits.ts'
import { forEachPageRun, type PageRun } from './ownership.ts'
import type { ExitState, MappingState, MemfileState, MemslotState, PinState, VmState } from './state.ts'

/** How the domain's things look to clients: addresses as hex strings, sizes in bytes. */

export type Json = Record<string, unknown>

const PAGE_SIZE: Readonly<Record<number, number>> = { 1: 4096, 512: 2097152, 262144: 1073741824 }

export function presentHost(host: HostContext): Json {
  const { name, technology, frames, crashed, revision, vms, memfiles } = host.state
  return {
    name,
    technology,
    memory: frames * 4096,
    capacity: frames * 4096 - host.hardware.metadataBytes,
    use: hostUse(host),
    keys: { name: host.backend.properties.keyName, ...host.hardware.keys() },
    vms: vms.size,
    memfiles: memfiles.size,
    state: crashed === null ? 'up' : 'crashed',
    reason: crashed?.reason ?? null,
    revision,
  }
}

export const vmState = (host: HostContext, vm: VmState): string =>
  host.state.crashed === null ? host.hardware.vmState(vm.id) : 'crashed'

export const presentVm = (host: HostContext, vm: VmState): Json => ({
  id: vm.id,
  name: vm.name,
  technology: vm.technology,
  host: host.state.name,
  vcpus: vm.vcpus.length,
  conversion: vm.conversion,
  privacy: vm.privacy,
  config: vm.config,
  state: vmState(host, vm),
  revision: vm.revision,
})

export const presentMemfile = (host: HostContext, memfile: MemfileState): Json => ({
  id: memfile.id,
  name: memfile.name,
  host: host.state.name,
  technology: host.state.technology,
  size: memfile.pages * 4096,
  pageSize: PAGE_SIZE[memfile.span] ?? 4096,
  state: memfile.state,
  vm: memfile.vm?.id ?? null,
  allocated: memfile.allocated * 4096,
  slots: memfile.bindings.map((binding) => ({
    slot: binding.slot,
    gpa: addressOf(binding.firstGfn),
    offset: binding.firstPage * 4096,
    size: binding.pages * 4096,
  })),
  consumers: memfile.consumers.map((consumer) => ({ ...consumer })),
  revision: memfile.revision,
})

export const presentSlot = (slot: MemslotState): Json => ({
  slot: slot.slot,
  gpa: addressOf(slot.firstGfn),
  size: slot.pages * 4096,
  memfile: slot.memfile,
  memfileOffset: slot.memfile === null ? null : slot.memfileFirstPage * 4096,
  shared: slot.hva === null ? null : { hva: addressOf(slot.hva) },
  readOnly: slot.readOnly,
  dirtyLog: slot.dirtyLog,
  revision: slot.revision,
})

export const presentPageRun = (run: PageRun): Json => ({
  gpa: addressOf(run.start),
  length: run.count * 4096,
  owner: run.owner,
  visibility: run.visibility,
  backing: run.backing,
  hardware: run.hardware,
})

/** The first `limit` runs of [start, end) and where the next page of them begins, or null. */
export function pageRuns(
  host: HostContext,
  vm: VmState,
  start: number,
  end: number,
  limit: number,
): { items: Json[]; next: number | null } {
  const items: Json[] = []
  let next: number | null = null
  forEachPageRun(host, vm, start, end, (run) => {
    if (items.length === limit) next = run.start
    else items.push(presentPageRun(run))
    return next === null
  })
  return { items, next }
}

export const presentWaiting = (state: ExitState): Json => presentExit({ exit: state.exit, id: state.id, ret: null })

export const presentMapping = (state: MappingState): Json => ({
  id: state.id,
  gpa: addressOf(state.firstGfn),
  length: state.pages * 4096,
})

export const presentPin = (state: PinState): Json => ({ ...presentMapping(state), by: state.by })
