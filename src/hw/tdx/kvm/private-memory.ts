import type { Mapping, Verdict } from '../../contract.ts'
import * as PageMap from '../../shared/page-map.ts'
import * as Translation from '../../shared/translation.ts'
import { type Host, tdOf } from '../data.ts'
import { type Level, SPAN, startAt } from '../module/geometry.ts'
import { OP_STATE } from '../module/op-states.ts'
import { isFree } from '../module/pamt.ts'
import { firstMissingTable, frameAt, leafAt, levelOfLeaf, stateOfLeaf, tableRunEnd, walk } from '../module/sept.ts'
import { addTable, augRange, removeRange } from '../module/sept-ranges.ts'
import { STATE } from '../module/states.ts'
import type { Td } from '../module/td.ts'
import { gpaw } from '../module/td-params.ts'
import { advanceEpoch, demandsTracking, kickAll } from '../module/tracking.ts'
import { OK, refuse } from './refusal.ts'
import { isAlive, keep } from './vm.ts'

/**
 * KVM's private fault (intel-tdx.md d.3): SEPT.ADD of the tables that are missing, then PAGE.AUG in 4K pages. Pages the
 * TD has there already stay as they are. Before the TD is RUNNABLE KVM adds nothing: a page that fallocate has filled by
 * then waits for its fault.
 */
export function assign(host: Host, vm: string, gfn: number, frame: number, count: number): Verdict {
  const td = tdOf(host.data, vm)
  if (td === undefined || !isAlive(td)) return refuse('EIO', 'td-not-alive', 'The TD is dead or being torn down.')
  if (td.opState !== OP_STATE.RUNNABLE) return OK
  if (gfn + count > privateFrames(td))
    return refuse('EFAULT', 'gpa-beyond-width', `Private addresses have ${gpaw(td.params) - 1} bits.`)
  const end = gfn + count
  for (let at = gfn; at < end; ) {
    const next = count === 1 ? end : PageMap.nextRun(td.sept.entries, at, end)
    const source = frame + at - gfn
    const verdict =
      leafAt(td.sept, at) === 0 ? augment(host, vm, td, at, source, next - at) : same(td, at, source, next)
    if (!verdict.ok) return verdict
    at = next
  }
  return OK
}

/** Frames below the shared bit (d.1). */
export const privateFrames = (td: Td): number => (gpaw(td.params) === 48 ? NARROW : WIDE)
const NARROW = 2 ** 35
const WIDE = 2 ** 39

function augment(host: Host, vm: string, td: Td, gfn: number, frame: number, count: number): Verdict {
  if (PageMap.get(td.sept.entries, gfn) !== 0) return entryRefused(gfn)
  const end = gfn + count
  for (let at = gfn; at < end; ) {
    if (isHidden(td, at)) return entryRefused(at)
    const tables = addTables(host, vm, td, at)
    if (!tables.ok) return tables
    const next = count === 1 ? end : Math.min(tableRunEnd(td.sept, at, end, 0), visibleEnd(td, at))
    if (!isFree(host.data.pamt, frame + at - gfn, next - at)) return PAGE_NOT_FREE
    augRange(host.data, td, at, frame + at - gfn, next - at)
    at = next
  }
  return OK
}

/** Whether a blocked table hides the entry of `gfn` from SEAMCALLs too (0.3 step 4). */
export const isHidden = ({ sept }: Td, gfn: number): boolean =>
  sept.blockedTables > 0 && walk(sept, gfn, 0).state === STATE.NL_BLOCKED

/** Where what is true of `gfn` by {@link isHidden} may end. */
const visibleEnd = ({ sept }: Td, gfn: number): number =>
  sept.blockedTables > 0 ? startAt(gfn, 1) + SPAN[1] : Number.POSITIVE_INFINITY

export const PAGE_NOT_FREE = refuse(
  'EIO',
  'page-not-free',
  'The module has a page already that the kernel held for free.',
)

/** SEPT.ADD of every table that a 4K entry at `gfn` needs and has not. Those that were added stay where it is refused. */
export function addTables(host: Host, vm: string, td: Td, gfn: number): Verdict {
  for (;;) {
    const level = firstMissingTable(td.sept, gfn, 0)
    if (level === 0) return OK
    const frame = host.machine.allocateFrame()
    if (frame < 0) return refuse('ENOMEM', 'no-table-page', 'There is no memory for a page of the Secure EPT.')
    if (!isFree(host.data.pamt, frame, 1)) {
      host.machine.freeFrame(frame)
      return PAGE_NOT_FREE
    }
    keep(host, vm, frame, 1)
    addTable(host.data, td, gfn, level, frame)
  }
}

/** Pages that the TD has already: usable ones, and the same ones (idempotence). */
function same(td: Td, gfn: number, frame: number, end: number): Verdict {
  const state = stateOfLeaf(leafAt(td.sept, gfn))
  const value = Translation.encode(gfn, frame)
  const usable = state === STATE.MAPPED || state === STATE.PENDING
  return usable && PageMap.isAll(td.sept.frames, gfn, end, value) ? OK : entryRefused(gfn)
}

export const entryRefused = (gfn: number): Verdict =>
  refuse(
    'EIO',
    'sept-entry-refused',
    `The Secure EPT entry of guest frame 0x${gfn.toString(16)} is not free: KVM's mirror is wrong.`,
  )

/**
 * KVM removes private pages (d.5): BLOCK, TRACK, a kick for every vCPU inside, REMOVE; the first two only once the TD is
 * RUNNABLE. False when pages stay the TD's: one that is dead gives nothing up, and raw calls may have put a page elsewhere.
 */
export function release(host: Host, vm: string, gfn: number, frame: number, count: number): boolean {
  const td = tdOf(host.data, vm)
  if (td !== undefined && gfn >= 0 && isAlive(td) && gfn < privateFrames(td)) unmap(host, td, gfn, count)
  if (isFree(host.data.pamt, frame, count)) return true
  keep(host, vm, frame, count)
  return false
}

/** The same where the pages stay in their memfile: a slot went, or its pages became shared. */
export function unmapPrivate(host: Host, vm: string, gfn: number, count: number): void {
  const td = tdOf(host.data, vm)
  if (td !== undefined && isAlive(td) && gfn < privateFrames(td)) unmap(host, td, gfn, count)
}

function unmap(host: Host, td: Td, gfn: number, count: number): void {
  const { entries } = td.sept
  if (count === 1 && PageMap.get(entries, gfn) >>> 8 === 0) {
    if (PageMap.get(entries, gfn) !== 0) remove(host, td, gfn, 1)
    return
  }
  const end = Math.min(gfn + count, privateFrames(td))
  if (PageMap.isAll(entries, gfn, end, 0)) return
  // A larger page goes as a whole, as KVM zaps it.
  const first = startAt(gfn, leafLevel(td, gfn))
  const last = end - 1
  const stop = startAt(last, leafLevel(td, last)) + SPAN[leafLevel(td, last)]
  remove(host, td, first, stop - first)
}

/** The pages' contents go with them: KVM writes whole lines over the ciphertext. */
function remove({ data, machine }: Host, td: Td, gfn: number, count: number): void {
  const { frames } = td.sept
  track(td)
  const end = gfn + count
  for (let at = gfn; at < end; ) {
    const next = count === 1 ? end : PageMap.nextRun(frames, at, end)
    if (Translation.isPresent(PageMap.get(frames, at))) machine.clear(frameAt(td.sept, at), next - at)
    at = next
  }
  removeRange(data, td, gfn, count)
}

const leafLevel = (td: Td, gfn: number): Level => levelOfLeaf(PageMap.get(td.sept.entries, gfn))

function track(td: Td): void {
  if (!demandsTracking(td)) return
  kickAll(td)
  advanceEpoch(td)
}

/** What a private access is translated to: by leafs that are there for the guest, accepted or not (c.1, d.2). */
export function translatePrivate(host: Host, vm: string, gfn: number): Mapping | undefined {
  const td = tdOf(host.data, vm)
  if (td === undefined || gfn >= privateFrames(td)) return undefined
  const leaf = leafAt(td.sept, gfn)
  const state = stateOfLeaf(leaf)
  if (state !== STATE.MAPPED && state !== STATE.PENDING) return undefined
  return { frame: frameAt(td.sept, gfn), span: SPAN[levelOfLeaf(leaf)], private: true }
}

/** The guest frame that an address with the shared bit is an alias of, or -1 (d.1). */
export function sharedAlias(host: Host, vm: string, gfn: number): number {
  const td = tdOf(host.data, vm)
  if (td === undefined) return -1
  const first = privateFrames(td)
  return gfn >= first && gfn < 2 * first ? gfn - first : -1
}
