import type { PageDescription } from '../hw/contract.ts'
import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import type { HostContext } from './context.ts'
import { filePage, nextSlotStart, slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import type { MemslotState, VmState } from './state.ts'

/** A maximal run of guest frames that agree in everything a client can see of them. */
export type PageRun = {
  readonly start: number
  count: number
  readonly owner: string
  readonly visibility: 'private' | 'shared'
  readonly backing: { readonly private: boolean; readonly shared: boolean }
  readonly hardware: PageDescription['hardware']
}

const NOTHING: PageDescription['hardware'] = {}

/** Pages of a slot that are looked at between two looks at whether there is to be more. */
const STRETCH = 262144

/** Calls `emit` with the maximal runs of [start, end), in order, until it returns false. Cost grows with runs. */
export function forEachPageRun(
  host: HostContext,
  vm: VmState,
  start: number,
  end: number,
  emit: (run: PageRun) => unknown,
): void {
  let open: PageRun | undefined
  let more = true
  const push = (run: PageRun): void => {
    if (open !== undefined && agrees(open, run)) {
      open.count += run.count
      return
    }
    if (open !== undefined && more) more = emit(open) !== false
    open = run
  }
  let at = start
  while (at < end && more) {
    const slot = slotAt(vm, at)
    const isPrivate = privacyOf(vm).isPrivate(host, vm, at)
    const slotEnd =
      slot === undefined ? nextSlotStart(vm, at, end) : Math.min(end, slot.firstGfn + slot.pages, at + STRETCH)
    const pieceEnd = privacyOf(vm).runEnd(host, vm, at, slotEnd)
    if (slot === undefined) push(run(at, pieceEnd - at, 'none', isPrivate, false, false, NOTHING))
    else describeSlotPiece(host, vm, slot, at, pieceEnd, isPrivate, push)
    at = pieceEnd
  }
  if (open !== undefined && more) emit(open)
}

const run = (
  start: number,
  count: number,
  owner: string,
  isPrivate: boolean,
  hasPrivate: boolean,
  hasShared: boolean,
  hardware: PageDescription['hardware'],
): PageRun => ({
  start,
  count,
  owner,
  visibility: isPrivate ? 'private' : 'shared',
  backing: { private: hasPrivate, shared: hasShared },
  hardware,
})

function describeSlotPiece(
  host: HostContext,
  vm: VmState,
  slot: MemslotState,
  start: number,
  end: number,
  isPrivate: boolean,
  push: (run: PageRun) => void,
): void {
  const memfile = slot.file
  let at = start
  while (at < end) {
    const page = filePage(slot, at)
    const value = memfile === null ? translation.ABSENT : pageMap.get(memfile.backing, page)
    const backingEnd = memfile === null ? end : at + pageMap.nextRun(memfile.backing, page, page + end - at) - page
    const hasPrivate = translation.isPresent(value)
    const { present: hasShared, end: stop } = sharedRun(vm, slot, at, backingEnd)
    if (hasPrivate) {
      let gfn = at
      host.hardware.describe(vm.id, at, translation.target(page, value), stop - at, (count, state) => {
        const owner = isPrivate ? state.owner : 'host'
        push(run(gfn, count, owner, isPrivate, true, hasShared, state.hardware))
        gfn += count
      })
    } else push(run(at, stop - at, isPrivate ? 'none' : 'host', isPrivate, false, hasShared, NOTHING))
    at = stop
  }
}

function sharedRun(vm: VmState, slot: MemslotState, gfn: number, end: number): { present: boolean; end: number } {
  if (slot.hva === null) return { present: false, end }
  const first = gfn - slot.firstGfn + slot.hva
  const last = first + end - gfn
  const present = translation.isPresent(pageMap.get(vm.userspace, first))
  const stop = present ? pageMap.nextRun(vm.userspace, first, last) : pageMap.nextNonZero(vm.userspace, first, last)
  return { present, end: gfn + stop - first }
}

function agrees(a: PageRun, b: PageRun): boolean {
  return (
    a.owner === b.owner &&
    a.visibility === b.visibility &&
    a.backing.private === b.backing.private &&
    a.backing.shared === b.backing.shared &&
    (a.hardware === b.hardware || hardwareText(a.hardware) === hardwareText(b.hardware))
  )
}

const texts = new WeakMap<object, string>()

/** The hardware state as JSON; backends give the same object for the same state, so this is mostly a look-up. */
export function hardwareText(hardware: PageDescription['hardware']): string {
  let text = texts.get(hardware)
  if (text === undefined) {
    text = JSON.stringify(hardware)
    texts.set(hardware, text)
  }
  return text
}
