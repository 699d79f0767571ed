import * as pageMap from '../hw/shared/page-map.ts'
import { mergeWindows } from './changes.ts'
import type { HostContext } from './context.ts'
import * as framePool from './frame-pool.ts'
import { hvaFrame, slotAt } from './memslots.ts'
import { accept, kernelRefusal, type Result } from './refusal.ts'
import type { MappingState, PinState, VmState } from './state.ts'
import { touch } from './userspace.ts'

/** Pages one pin or mapping may cover: 4 GiB. */
const MAX_PAGES = 1048576

/** A long-term pin (GUP, DMA, VFIO) of shared memory: faults every page in and keeps it alive (kvm-guest-memory.md a.5). */
export function pin(
  host: HostContext,
  vm: VmState,
  id: string,
  firstGfn: number,
  pages: number,
  by: string,
): Result<PinState> {
  const range = checkShared(vm, firstGfn, pages)
  if (!range.ok) return range
  if (untouchedPages(vm, firstGfn, pages) > framePool.freeFrames(host.state.pool)) return outOfMemory()
  const frames: { start: number; count: number }[] = []
  for (let gfn = firstGfn; gfn < firstGfn + pages; gfn++) {
    const slot = slotAt(vm, gfn)
    const frame = slot?.hva == null ? -1 : touch(host, vm, gfn - slot.firstGfn + slot.hva)
    if (frame < 0) {
      dropFrames(host, frames)
      return outOfMemory()
    }
    host.state.pinned.set(frame, (host.state.pinned.get(frame) ?? 0) + 1)
    const last = frames.at(-1)
    if (last !== undefined && last.start + last.count === frame) last.count++
    else frames.push({ start: frame, count: 1 })
  }
  const state = { id, firstGfn, pages, by, frames }
  vm.pins.set(id, state)
  host.changes.pagesOf(vm.id, firstGfn, firstGfn + pages)
  return accept(state)
}

const outOfMemory = () => kernelRefusal('ENOMEM', 'out-of-memory', 'The host has no memory left.')

/** Pages of the VMM behind a range of shared memory that have no host frame yet. Slots may show the same memory twice. */
function untouchedPages(vm: VmState, firstGfn: number, pages: number): number {
  const bounds: number[] = []
  for (let gfn = firstGfn; gfn < firstGfn + pages; ) {
    const slot = slotAt(vm, gfn)
    if (slot === undefined || slot.hva === null) break
    const end = Math.min(firstGfn + pages, slot.firstGfn + slot.pages)
    bounds.push(hvaFrame(slot, slot.hva, gfn), hvaFrame(slot, slot.hva, end))
    gfn = end
  }
  let untouched = 0
  for (const { start, end } of mergeWindows(bounds)) {
    untouched += end - start - pageMap.countNonZero(vm.userspace, start, end)
  }
  return untouched
}

export function unpin(host: HostContext, vm: VmState, state: PinState): void {
  vm.pins.delete(state.id)
  dropFrames(host, state.frames)
}

function dropFrames(host: HostContext, frames: PinState['frames']): void {
  const { pinned, orphans } = host.state
  for (const { start, count } of frames) {
    for (let frame = start; frame < start + count; frame++) {
      const left = (pinned.get(frame) ?? 1) - 1
      if (left > 0) {
        pinned.set(frame, left)
        continue
      }
      pinned.delete(frame)
      if (orphans.delete(frame)) host.memory.freeFrame(frame)
    }
  }
}

/** An mmap of guest memory in host userspace. Private memory of a file that the host cannot map is ENODEV (c.2). */
export function map(
  host: HostContext,
  vm: VmState,
  id: string,
  firstGfn: number,
  pages: number,
  memory: 'shared' | 'private',
): Result<MappingState> {
  if (memory === 'private' && !host.backend.properties.mappable) {
    return kernelRefusal('ENODEV', 'memory-not-mappable', 'This memory cannot be mapped by the host.', '/memory')
  }
  const range = checkShared(vm, firstGfn, pages)
  if (!range.ok) return range
  const state = { id, firstGfn, pages }
  vm.mappings.set(id, state)
  return accept(state)
}

function checkShared(vm: VmState, firstGfn: number, pages: number): Result<undefined> {
  if (pages > MAX_PAGES) {
    return kernelRefusal('EINVAL', 'range-too-long', `At most ${MAX_PAGES} pages at once.`, '/length')
  }
  let gfn = firstGfn
  while (gfn < firstGfn + pages) {
    const slot = slotAt(vm, gfn)
    if (slot === undefined || slot.hva === null) {
      return kernelRefusal('EFAULT', 'not-shared-memory', 'No shared memory is mapped in this range.', '/gpa')
    }
    gfn = slot.firstGfn + slot.pages
  }
  return accept(undefined)
}
