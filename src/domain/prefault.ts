import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import { populate } from './backing.ts'
import type { HostContext } from './context.ts'
import { filePage, slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import * as stage2 from './stage2.ts'
import type { VmState } from './state.ts'

/**
 * Populates and maps a run of private pages, from `gfn` to at most `end`, in one step: what the guest's faults would come
 * to one by one. Returns false when there is nothing to gain and the fault itself must be looked at.
 */
export function prefault(host: HostContext, vm: VmState, gfn: number, end: number): boolean {
  const slot = slotAt(vm, gfn)
  const memfile = slot?.file
  if (slot === undefined || !memfile || memfile.span !== 1) return false
  if (!privacyOf(vm).isPrivate(host, vm, gfn)) return false
  if (stage2.translate(host, vm, gfn, true) !== undefined) return false
  const first = filePage(slot, gfn)
  // One hole, or frames that lie together: looking beyond them again for every run would cost their square.
  const runEnd = pageMap.nextRun(memfile.backing, first, first + Math.min(end, slot.firstGfn + slot.pages) - gfn)
  const last = first + privacyOf(vm).runEnd(host, vm, gfn, gfn + runEnd - first) - gfn
  if (populate(host, memfile, first, last) !== undefined) return false
  const value = pageMap.get(memfile.backing, first)
  const count = pageMap.nextRun(memfile.backing, first, last) - first
  const verdict = host.hardware.assign(vm.id, gfn, translation.target(first, value), count, 1)
  if (!verdict.ok) return false
  stage2.installPrivateRun(host, vm, gfn, gfn + count)
  host.changes.pagesOf(vm.id, gfn, gfn + count)
  return true
}
