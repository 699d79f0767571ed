import { addressOf } from '../hw/shared/address-schema.ts'
import type { HostContext } from './context.ts'
import { filePage, privateFrame, sharedFrame, slotAt } from './memslots.ts'
import { forEachPageRun, type PageRun } from './ownership.ts'
import { type Json, presentPageRun } from './present.ts'
import { privacyOf } from './privacy-models.ts'
import * as stage2 from './stage2.ts'
import type { VmState } from './state.ts'

const SPAN_NAME: Readonly<Record<number, string>> = { 1: '4K', 512: '2M', 262144: '1G' }

/** One guest page with everything that decides what happens to it: slot, kind, both backings, mapping, hardware, holds. */
export function explainPage(host: HostContext, vm: VmState, gfn: number): Json {
  const slot = slotAt(vm, gfn)
  const memfile = slot?.file ?? undefined
  const isPrivate = privacyOf(vm).isPrivate(host, vm, gfn)
  const frame = slot === undefined ? -1 : privateFrame(slot, gfn)
  const shared = slot === undefined ? -1 : sharedFrame(vm, slot, gfn)
  const used = isPrivate ? frame : shared
  const mapping = stage2.translate(host, vm, gfn, isPrivate)
  let run: PageRun | undefined
  forEachPageRun(host, vm, gfn, gfn + 1, (page) => {
    run = page
    return false
  })
  const covers = (range: { firstGfn: number; pages: number }): boolean =>
    gfn >= range.firstGfn && gfn < range.firstGfn + range.pages
  return {
    ...(run === undefined ? {} : presentPageRun(run)),
    gpa: addressOf(gfn),
    slot: slot?.slot ?? null,
    attribute: isPrivate ? 'private' : 'shared',
    privacy: vm.privacy,
    memfile:
      memfile === undefined || slot === undefined ? null : { id: memfile.id, offset: filePage(slot, gfn) * 4096 },
    hpa: used < 0 ? null : addressOf(used),
    privateHpa: frame < 0 ? null : addressOf(frame),
    sharedHpa: shared < 0 ? null : addressOf(shared),
    mapping:
      mapping === undefined
        ? null
        : { hpa: addressOf(mapping.frame), pageSize: SPAN_NAME[mapping.span], private: mapping.private },
    tables: host.hardware.explain(vm.id, gfn, frame >= 0 ? frame : shared >= 0 ? shared : undefined),
    mappings: [...vm.mappings.values()].filter(covers).map((state) => state.id),
    pins: [...vm.pins.values()].filter(covers).map((state) => ({ id: state.id, by: state.by })),
  }
}
