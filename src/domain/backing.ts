import type { Fault, HwRefusal } from '../hw/contract.ts'
import { ERRNO, type Errno } from '../hw/shared/errno.ts'
import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import type { HostContext } from './context.ts'
import * as framePool from './frame-pool.ts'
import type { Refusal } from './refusal.ts'
import * as stage2 from './stage2.ts'
import type { Binding, MemfileState, VmState } from './state.ts'

/**
 * Populating and freeing the pages of a memfile, and telling whoever consumes it: the notifier of
 * kvm-guest-memory.md a.1 and d.4. Ranges are pages of the file, already checked to lie inside it and on folio borders.
 */

/** Pages a memfile can hold memory for; a file may be larger, but nothing can be populated beyond this. */
export const MAX_FILE_PAGES = 2 ** 40

const OUT_OF_MEMORY: PopulateRefusal = {
  kind: 'kernel',
  code: 'out-of-memory',
  errno: 'ENOMEM',
  detail: 'The host has no memory left.',
}
const NOT_CLEARED: PopulateRefusal = {
  kind: 'kernel',
  code: 'hardware-refused',
  errno: 'EFAULT',
  detail: 'The kernel could not clear a page that it holds for free.',
}

/** A refusal of memory always has an errno. */
export type PopulateRefusal = Refusal & { readonly errno: Errno }

const refusedByHardware = ({ errno, detail, hardware }: HwRefusal): PopulateRefusal => ({
  kind: 'kernel',
  code: errno === 'ENOMEM' ? 'out-of-memory' : 'hardware-refused',
  errno,
  detail,
  ...(hardware === undefined ? {} : { hardware }),
})

/** Fills every hole of [first, end). Returns undefined, or what stopped it; what was filled stays (c.3). */
export function populate(
  host: HostContext,
  memfile: MemfileState,
  first: number,
  end: number,
): PopulateRefusal | undefined {
  if (end - first === 1) {
    return translation.isPresent(pageMap.get(memfile.backing, first)) ? undefined : fillPage(host, memfile, first)
  }
  let page = first
  while (page < end) {
    const runEnd = pageMap.nextRun(memfile.backing, page, end)
    if (!translation.isPresent(pageMap.get(memfile.backing, page))) {
      const refusal = fillHole(host, memfile, page, runEnd)
      if (refusal !== undefined) return refusal
    }
    page = runEnd
  }
  return undefined
}

function fillPage(host: HostContext, memfile: MemfileState, page: number): PopulateRefusal | undefined {
  if (page >= MAX_FILE_PAGES) return OUT_OF_MEMORY
  const frame = framePool.allocateOne(host.state.pool)
  return frame < 0 ? OUT_OF_MEMORY : attach(host, memfile, page, frame, 1)
}

function fillHole(host: HostContext, memfile: MemfileState, first: number, end: number): PopulateRefusal | undefined {
  if (end - first === 1) return fillPage(host, memfile, first)
  if (end > MAX_FILE_PAGES) return OUT_OF_MEMORY
  const pool = host.state.pool
  const alignment = memfile.span as framePool.FrameAlignment
  const wanted = end - first
  const available = Math.min(wanted, framePool.freeFrames(pool))
  const runs = allocateUpTo(pool, available - (available % memfile.span), alignment)
  let page = first
  for (const [index, run] of runs.entries()) {
    const refusal = attach(host, memfile, page, run.start, run.count)
    if (refusal !== undefined) {
      for (const unused of runs.slice(index + 1)) framePool.free(pool, unused.start, unused.count)
      return refusal
    }
    page += run.count
  }
  return page < end ? OUT_OF_MEMORY : undefined
}

/** As many frames as there are, at the alignment asked for, up to `count`. */
function allocateUpTo(
  pool: framePool.FramePool,
  count: number,
  alignment: framePool.FrameAlignment,
): readonly framePool.FrameRun[] {
  if (count === 0) return []
  const all = framePool.allocate(pool, count, alignment)
  if (all !== undefined || alignment === 1) return all ?? []
  const runs: framePool.FrameRun[] = []
  for (let left = count; left > 0; left -= alignment) {
    const folio = framePool.allocate(pool, alignment, alignment)
    if (folio === undefined) break
    runs.push(...folio)
  }
  return runs
}

function attach(
  host: HostContext,
  memfile: MemfileState,
  page: number,
  frame: number,
  count: number,
): PopulateRefusal | undefined {
  if (!clearByKernel(host, frame, count)) return NOT_CLEARED
  const value = translation.encode(page, frame)
  if (count === 1) pageMap.set(memfile.backing, page, value)
  else pageMap.setRange(memfile.backing, page, page + count, value)
  memfile.allocated += count
  host.changes.memfile(memfile.id)
  return notifyPopulated(host, memfile, page, frame, count)
}

/** The kernel clears every page it hands out: a host access may have written to it while free. False when that killed the host. */
export function clearByKernel(host: HostContext, frame: number, count: number): boolean {
  const guarded = host.hardware.firstGuarded(frame, count)
  if (guarded < 0) {
    host.memory.clear(frame, count)
    return true
  }
  const check = host.hardware.checkHost(guarded, 'write', 'kernel')
  crashOn(host, guarded, 'fault' in check ? check.fault : undefined)
  return false
}

export function crashOn(host: HostContext, frame: number, fault: Fault | undefined): void {
  const what = fault === undefined ? '' : ` (${fault.name}${fault.errorCode ? ` error ${fault.errorCode}` : ''})`
  host.memory.crash(`The kernel accessed host frame 0x${frame.toString(16)}, which it does not own${what}.`)
}

function notifyPopulated(
  host: HostContext,
  memfile: MemfileState,
  page: number,
  frame: number,
  count: number,
): PopulateRefusal | undefined {
  for (const consumer of memfile.consumers) consumer.populated += count
  const vm = memfile.vm
  if (vm === null) return undefined
  for (const binding of memfile.bindings) {
    const from = Math.max(page, binding.firstPage)
    const to = Math.min(page + count, binding.firstPage + binding.pages)
    if (from >= to) continue
    const gfn = guestFrame(binding, from)
    host.changes.pagesOf(vm.id, gfn, gfn + to - from)
    if (!vm.preparedByFallocate) continue
    stage2.unmap(vm, gfn, gfn + to - from)
    const verdict = host.hardware.assign(vm.id, gfn, frame + from - page, to - from, memfile.span)
    if (!verdict.ok) return refusedByHardware(verdict.refusal)
  }
  return undefined
}

const guestFrame = (binding: Binding, page: number): number => binding.firstGfn + page - binding.firstPage

/** Frees every page of [first, end): KVM first, then the hardware, then memory (d.4, amd-sev-snp.md b.7). */
export function punch(host: HostContext, memfile: MemfileState, first: number, end: number): void {
  if (end - first === 1) {
    if (translation.isPresent(pageMap.get(memfile.backing, first))) detach(host, memfile, first, 1)
    return
  }
  let page = pageMap.nextNonZero(memfile.backing, first, end)
  while (page < end) {
    const runEnd = pageMap.nextRun(memfile.backing, page, end)
    detach(host, memfile, page, runEnd - page)
    page = pageMap.nextNonZero(memfile.backing, runEnd, end)
  }
}

/** Frees a run of pages that lie in consecutive frames. */
function detach(host: HostContext, memfile: MemfileState, page: number, count: number): void {
  const frame = translation.target(page, pageMap.get(memfile.backing, page))
  if (memfile.vm === null) free(host, frame, count)
  else invalidate(host, memfile.vm, memfile, page, frame, count)
  for (const consumer of memfile.consumers) consumer.invalidated += count
  if (count === 1) pageMap.set(memfile.backing, page, translation.ABSENT)
  else pageMap.setRange(memfile.backing, page, page + count, translation.ABSENT)
  memfile.allocated -= count
  host.changes.memfile(memfile.id)
}

/** Unmaps file pages [page, page + count) wherever a slot shows them, takes them from the hardware, and frees them. */
function invalidate(
  host: HostContext,
  vm: VmState,
  memfile: MemfileState,
  page: number,
  frame: number,
  count: number,
): void {
  let at = page
  for (const binding of memfile.bindings) {
    const from = Math.max(at, binding.firstPage)
    const to = Math.min(page + count, binding.firstPage + binding.pages)
    if (from >= to) continue
    if (from > at) release(host, vm, -1, frame + at - page, from - at)
    const gfn = guestFrame(binding, from)
    stage2.unmap(vm, gfn, gfn + to - from)
    release(host, vm, gfn, frame + from - page, to - from)
    host.changes.pagesOf(vm.id, gfn, gfn + to - from)
    at = to
  }
  if (at < page + count) release(host, vm, -1, frame + at - page, page + count - at)
}

function release(host: HostContext, vm: VmState, gfn: number, frame: number, count: number): void {
  if (host.hardware.release(vm.id, gfn, frame, count)) free(host, frame, count)
}

function free(host: HostContext, frame: number, count: number): void {
  host.memory.clear(frame, count)
  framePool.free(host.state.pool, frame, count)
}

/** A negative errno, as a VMM hands it to KVM. */
export const negative = (errno: Errno): number => -ERRNO[errno]
