import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import type { HostContext } from './context.ts'
import type { MemslotState, VmState } from './state.ts'

export type Accounting = {
  /** Bytes of the memfiles that are populated. */
  private: number
  /** Bytes of the VMM's own memory that are populated. */
  shared: number
  /** Bytes of guest memory that have both at once: the doubled memory of kvm-guest-memory.md a.3. */
  both: number
}

/** Where a VM's memory goes, per slot and in all; cost grows with runs, not pages. */
export function account(host: HostContext, vm: VmState): Record<string, unknown> {
  const slots = vm.slots.map((slot) => ({ slot: slot.slot, ...accountSlot(vm, slot) }))
  const memfiles = [...host.state.memfiles.values()].filter((memfile) => memfile.vm === vm)
  const pinned = [...vm.pins.values()].reduce((sum, state) => sum + state.pages, 0)
  return {
    private: memfiles.reduce((sum, memfile) => sum + memfile.allocated, 0) * 4096,
    shared: vm.userspacePages * 4096,
    both: slots.reduce((sum, slot) => sum + slot.both, 0),
    pinned: pinned * 4096,
    metadata: host.hardware.metadataBytes,
    slots,
  }
}

function accountSlot(vm: VmState, slot: MemslotState): Accounting {
  const memfile = slot.file
  const fileEnd = slot.memfileFirstPage + slot.pages
  const privatePages = memfile === null ? 0 : pageMap.countNonZero(memfile.backing, slot.memfileFirstPage, fileEnd)
  if (slot.hva === null) return { private: privatePages * 4096, shared: 0, both: 0 }
  const sharedPages = pageMap.countNonZero(vm.userspace, slot.hva, slot.hva + slot.pages)
  let both = 0
  if (memfile !== null && privatePages > 0 && sharedPages > 0) {
    const toHva = slot.hva - slot.memfileFirstPage
    pageMap.forEachRun(memfile.backing, slot.memfileFirstPage, fileEnd, (start, end, value) => {
      if (translation.isPresent(value)) both += pageMap.countNonZero(vm.userspace, start + toHva, end + toHva)
    })
  }
  return { private: privatePages * 4096, shared: sharedPages * 4096, both: both * 4096 }
}

/** What a host's memory is used for, in bytes. */
export function hostUse(host: HostContext): { private: number; shared: number; metadata: number } {
  let privatePages = 0
  for (const memfile of host.state.memfiles.values()) privatePages += memfile.allocated
  let sharedPages = host.state.orphans.size
  for (const vm of host.state.vms.values()) sharedPages += vm.userspacePages
  return { private: privatePages * 4096, shared: sharedPages * 4096, metadata: host.hardware.metadataBytes }
}
