import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import { negative, populate, punch } from './backing.ts'
import { filePage, nextSlotStart, privateFrame, slotAt } from './memslots.ts'
import type { Privacy } from './privacy.ts'

/**
 * The model of the 2022 thread (kvm-guest-memory.md a.1): a guest frame is private when its slot has a memfile and the
 * page is populated there. Fallocate converts to private, punch hole to shared: the backing store itself is the truth.
 */
export const populated: Privacy = {
  preparedByFallocate: true,
  setAttribute: () => false,

  isPrivate(_host, vm, gfn) {
    const slot = slotAt(vm, gfn)
    return slot !== undefined && privateFrame(slot, gfn) >= 0
  },

  runEnd(_host, vm, gfn, end) {
    const slot = slotAt(vm, gfn)
    if (slot === undefined) return nextSlotStart(vm, gfn, end)
    const slotEnd = Math.min(end, slot.firstGfn + slot.pages)
    const memfile = slot.file
    if (memfile === null) return slotEnd
    const first = filePage(slot, gfn)
    const last = first + slotEnd - gfn
    const present = translation.isPresent(pageMap.get(memfile.backing, first))
    let page = pageMap.nextRun(memfile.backing, first, last)
    while (page < last && translation.isPresent(pageMap.get(memfile.backing, page)) === present) {
      page = pageMap.nextRun(memfile.backing, page, last)
    }
    return gfn + page - first
  },

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
      if (memfile === null) {
        if (toPrivate) return negative('EINVAL')
      } else {
        const first = filePage(slot, at)
        const last = first + pieceEnd - at
        if (toPrivate) {
          const refusal = populate(host, memfile, first - (first % memfile.span), folioEnd(last, memfile.span))
          if (refusal !== undefined) return negative(refusal.errno)
        } else if (first % memfile.span !== 0 || last % memfile.span !== 0) return negative('EINVAL')
        else punch(host, memfile, first, last)
      }
      at = pieceEnd
    }
    return 0
  },
}

const folioEnd = (page: number, span: number): number => Math.ceil(page / span) * span
