import * as pageMap from '../hw/shared/page-map.ts'
import { isPrivateAttribute, storeAttribute } from './attributes.ts'
import { negative, punch } from './backing.ts'
import { filePage, nextSlotStart, slotAt } from './memslots.ts'
import type { Privacy } from './privacy.ts'

/**
 * Linux since 6.8 (kvm-guest-memory.md b, c.5): a per-frame attribute, independent of population, shared by default.
 * Asked for a conversion, the VMM does much as QEMU does (f): it sets the attribute, and punches what has become shared.
 * What has become private keeps its shared side, so that the doubled memory is there to be seen.
 */
export const attributes: Privacy = {
  preparedByFallocate: false,
  setAttribute(host, vm, start, end, isPrivate) {
    storeAttribute(host, vm, start, end, isPrivate)
    return true
  },

  isPrivate: (_host, vm, gfn) => isPrivateAttribute(vm, gfn),

  runEnd: (_host, vm, gfn, end) => pageMap.nextRun(vm.attributes, gfn, end),

  convert(host, vm, gfn, pages, toPrivate) {
    const end = gfn + pages
    for (let at = gfn; at < end; ) {
      const slot = slotAt(vm, at)
      if (slot === undefined) {
        if (toPrivate) return negative('EINVAL')
        at = nextSlotStart(vm, at, end)
        continue
      }
      const pieceEnd = Math.min(end, slot.firstGfn + slot.pages)
      const memfile = slot.file
      if (memfile === null && toPrivate) return negative('EINVAL')
      storeAttribute(host, vm, at, pieceEnd, toPrivate)
      if (memfile !== null && !toPrivate) {
        const first = filePage(slot, at)
        const last = first + pieceEnd - at
        punch(host, memfile, Math.ceil(first / memfile.span) * memfile.span, last - (last % memfile.span))
      }
      at = pieceEnd
    }
    return 0
  },
}
