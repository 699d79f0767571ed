import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import { clearByKernel } from './backing.ts'
import type { HostContext } from './context.ts'
import * as framePool from './frame-pool.ts'
import type { VmState } from './state.ts'

/** The VMM's own address space: anonymous memory behind the shared parts of memslots, populated at first touch. */

/** The host frame behind user frame `hva`, taken from the host if this is its first touch; -1 when memory is gone or the host died. */
export function touch(host: HostContext, vm: VmState, hva: number): number {
  const value = pageMap.get(vm.userspace, hva)
  if (translation.isPresent(value)) return translation.target(hva, value)
  const frame = framePool.allocateOne(host.state.pool)
  if (frame < 0 || !clearByKernel(host, frame, 1)) return -1
  pageMap.set(vm.userspace, hva, translation.encode(hva, frame))
  vm.userspacePages++
  return frame
}

/** Unmaps user frames [start, end): their memory goes back to the host, but for what a pin still holds. */
export function unmapUser(host: HostContext, vm: VmState, start: number, end: number): void {
  let page = pageMap.nextNonZero(vm.userspace, start, end)
  while (page < end) {
    const runEnd = pageMap.nextRun(vm.userspace, page, end)
    releaseFrames(host, translation.target(page, pageMap.get(vm.userspace, page)), runEnd - page)
    vm.userspacePages -= runEnd - page
    page = pageMap.nextNonZero(vm.userspace, runEnd, end)
  }
  pageMap.setRange(vm.userspace, start, end, translation.ABSENT)
}

/** A destructive conversion never meets pins: a pinned old page lives on as a separate object (kvm-guest-memory.md a.5). */
function releaseFrames(host: HostContext, frame: number, count: number): void {
  const { pinned, orphans, pool } = host.state
  if (pinned.size === 0) {
    host.memory.clear(frame, count)
    framePool.free(pool, frame, count)
    return
  }
  for (let at = frame; at < frame + count; at++) {
    if (pinned.has(at)) orphans.add(at)
    else host.memory.freeFrame(at)
  }
}
