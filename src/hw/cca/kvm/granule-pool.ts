import * as PageMap from '../../shared/page-map.ts'
import { type Host, vmOf } from '../data.ts'
import { isHostMemory } from '../rmm/granules.ts'
import { delegateRange, undelegateRange } from '../rmm/rtt-ranges.ts'

/** In a VM's map of pages: the kernel's, lent to the RMM. */
export const LENT = 1

/** A page of the kernel's as a DELEGATED granule, for one VM; -1 when memory is gone. */
export function takeGranule(host: Host, pages: PageMap.PageMap): number {
  const frame = host.machine.allocateFrame()
  if (frame < 0) return -1
  if (!isHostMemory(host.data.granules, frame)) {
    host.machine.freeFrame(frame)
    return -1
  }
  delegateRange(host, frame, 1)
  PageMap.set(pages, frame, LENT)
  return frame
}

/** What {@link takeGranule} gave and nothing came of: a page of the kernel's again. Precondition: it is DELEGATED. */
export function giveGranuleBack(host: Host, pages: PageMap.PageMap, frame: number): void {
  undelegateRange(host, frame, 1)
  PageMap.set(pages, frame, 0)
  host.machine.freeFrame(frame)
}

/** The kernel's pages from `frame` are the RMM's until the VM is gone. */
export const keep = (host: Host, vm: string, frame: number, count: number): void =>
  PageMap.setRange(vmOf(host.data, vm).pages, frame, frame + count, LENT)
