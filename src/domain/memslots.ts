import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import type { MemslotState, VmState } from './state.ts'

/** The memslot that holds guest frame `gfn`. */
export function slotAt(vm: VmState, gfn: number): MemslotState | undefined {
  const slots = vm.slots
  let low = 0
  let high = slots.length - 1
  while (low <= high) {
    const middle = (low + high) >>> 1
    const slot = slots[middle] as MemslotState
    if (gfn < slot.firstGfn) high = middle - 1
    else if (gfn >= slot.firstGfn + slot.pages) low = middle + 1
    else return slot
  }
  return undefined
}

/** Index of the first slot that ends beyond `gfn`: the one that holds it, or the next one. */
function indexFrom(vm: VmState, gfn: number): number {
  const slots = vm.slots
  let low = 0
  let high = slots.length
  while (low < high) {
    const middle = (low + high) >>> 1
    const slot = slots[middle] as MemslotState
    if (slot.firstGfn + slot.pages > gfn) high = middle
    else low = middle + 1
  }
  return low
}

/** The first guest frame at or after `gfn` that a memslot holds, or `end`. */
export function nextSlotStart(vm: VmState, gfn: number, end: number): number {
  const slot = vm.slots[indexFrom(vm, gfn)]
  return slot === undefined || slot.firstGfn >= end ? end : Math.max(gfn, slot.firstGfn)
}

/** Whether a slot other than `except` holds any of `pages` guest frames from `firstGfn`. */
export function meetsSlot(vm: VmState, firstGfn: number, pages: number, except?: MemslotState): boolean {
  for (let index = indexFrom(vm, firstGfn); ; index++) {
    const slot = vm.slots[index]
    if (slot === undefined || slot.firstGfn >= firstGfn + pages) return false
    if (slot !== except) return true
  }
}

/** The page of the slot's memfile behind guest frame `gfn`. */
export const filePage = (slot: MemslotState, gfn: number): number => gfn - slot.firstGfn + slot.memfileFirstPage

/** The host user frame behind guest frame `gfn` of a slot with a shared part. */
export const hvaFrame = (slot: MemslotState, hva: number, gfn: number): number => gfn - slot.firstGfn + hva

/** Host frame that backs `gfn` privately, or -1. */
export function privateFrame(slot: MemslotState, gfn: number): number {
  const memfile = slot.file
  if (memfile === null) return -1
  const page = filePage(slot, gfn)
  const value = pageMap.get(memfile.backing, page)
  return translation.isPresent(value) ? translation.target(page, value) : -1
}

/** Host frame that backs `gfn` in the slot's shared part, or -1. */
export function sharedFrame(vm: VmState, slot: MemslotState, gfn: number): number {
  if (slot.hva === null) return -1
  const page = hvaFrame(slot, slot.hva, gfn)
  const value = pageMap.get(vm.userspace, page)
  return translation.isPresent(value) ? translation.target(page, value) : -1
}

/** Puts a slot where its first guest frame belongs. */
export function insertSlot(vm: VmState, slot: MemslotState): void {
  vm.slots.splice(indexFrom(vm, slot.firstGfn), 0, slot)
}

export function removeSlot(vm: VmState, slot: MemslotState): void {
  vm.slots.splice(indexFrom(vm, slot.firstGfn), 1)
}
