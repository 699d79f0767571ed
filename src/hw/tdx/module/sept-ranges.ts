import * as PageMap from '../../shared/page-map.ts'
import * as Translation from '../../shared/translation.ts'
import type { TdxData } from '../data.ts'
import { indexAt, type Level, SPAN } from './geometry.ts'
import { assignPages, freePages, PAGE_TYPE, setEpoch } from './pamt.ts'
import { frameAt, leafWord, levelOfLeaf, type Sept, stateOfLeaf, tableFrame, tablesAt } from './sept.ts'
import { type EntryState, STATE } from './states.ts'
import type { Td } from './td.ts'

/**
 * Changes of leafs and tables, with PAMT and CHLDCNT: single pages and ranges. None checks anything beyond its stated
 * preconditions; the calls of intel-tdx.md c do that. `level` is the leafs' size, which ranges are whole multiples of.
 */

/**
 * What PAGE.AUG (PENDING) and PAGE.ADD (MAPPED) do beside contents: frames `frame…` become the TD's at `gfn…`.
 * Preconditions: the entries are free and their tables there (`firstMissingTable` is 0), the frames PT_NDA.
 */
export function mapRange(
  data: TdxData,
  td: Td,
  gfn: number,
  frame: number,
  count: number,
  state: EntryState,
  level: Level,
): void {
  const { entries, frames } = td.sept
  const leaf = leafWord(state, level)
  if (count === 1) {
    PageMap.set(entries, gfn, leaf)
    PageMap.set(frames, gfn, Translation.encode(gfn, frame))
  } else {
    PageMap.setRange(entries, gfn, gfn + count, leaf)
    PageMap.setRange(frames, gfn, gfn + count, Translation.encode(gfn, frame))
  }
  assignPages(data.pamt, frame, count, PAGE_TYPE.REG, level, td.owner)
  td.childCount += count
}

/** PAGE.AUG of `count` pages: they are PENDING. Preconditions as {@link mapRange}. */
export const augRange = (data: TdxData, td: Td, gfn: number, frame: number, count: number, level: Level = 0): void =>
  mapRange(data, td, gfn, frame, count, STATE.PENDING, level)

/**
 * TDG.MEM.PAGE.ACCEPT of pages that are all PENDING leafs of one level and not hidden: they are MAPPED. The caller
 * zeroes their contents.
 */
export function acceptRange(data: TdxData, td: Td, gfn: number, count: number): void {
  if (data.poisoned.size > 0) cleanse(data, td.sept, gfn, count)
  setState(td.sept, gfn, count, STATE.MAPPED)
}

/** Gives pages that are leafs of one level another leaf state. */
function setState(sept: Sept, gfn: number, count: number, state: EntryState): void {
  const { entries } = sept
  const leaf = leafWord(state, levelOfLeaf(PageMap.get(entries, gfn)))
  if (count === 1) PageMap.set(entries, gfn, leaf)
  else PageMap.setRange(entries, gfn, gfn + count, leaf)
}

/**
 * PAGE.REMOVE of `count` pages, whatever leafs of them there are: entries FREE, frames PT_NDA. Says how many pages were
 * mapped. Preconditions: no leaf reaches over the range's borders; blocking and tracking were done, or aren't demanded.
 * Contents are the caller's.
 */
export function removeRange(data: TdxData, td: Td, gfn: number, count: number): number {
  if (count === 1) return removePage(data, td, gfn)
  const { entries, frames } = td.sept
  const end = gfn + count
  let removed = 0
  for (let at = gfn; at < end; ) {
    const next = PageMap.nextRun(frames, at, end)
    const value = PageMap.get(frames, at)
    if (Translation.isPresent(value)) {
      freeFrames(data, Translation.target(at, value), next - at)
      removed += next - at
    }
    at = next
  }
  PageMap.setRange(entries, gfn, end, 0)
  PageMap.setRange(frames, gfn, end, Translation.ABSENT)
  td.childCount -= removed
  return removed
}

function removePage(data: TdxData, td: Td, gfn: number): number {
  const { entries, frames } = td.sept
  const value = PageMap.get(frames, gfn)
  if (!Translation.isPresent(value)) return 0
  freeFrames(data, Translation.target(gfn, value), 1)
  PageMap.set(entries, gfn, 0)
  PageMap.set(frames, gfn, Translation.ABSENT)
  td.childCount--
  return 1
}

function freeFrames(data: TdxData, frame: number, count: number): void {
  freePages(data.pamt, frame, count)
  if (data.poisoned.size > 0) forget(data.poisoned, frame, count)
}

function cleanse(data: TdxData, sept: Sept, gfn: number, count: number): void {
  const end = gfn + count
  for (let at = gfn; at < end; ) {
    const next = PageMap.nextRun(sept.frames, at, end)
    forget(data.poisoned, frameAt(sept, at), next - at)
    at = next
  }
}

/** Frames are initialised or freed: their poison is gone. Costs the smaller of both numbers. */
export function forget(poisoned: Set<number>, frame: number, count: number): void {
  if (poisoned.size < count) {
    for (const one of poisoned) if (one >= frame && one < frame + count) poisoned.delete(one)
    return
  }
  for (let at = frame; at < frame + count; at++) poisoned.delete(at)
}

/** RANGE.BLOCK of one leaf or table that isn't blocked: BEPOCH := TD_EPOCH. `state` is the blocked state. */
export const blockEntry = (data: TdxData, td: Td, gfn: number, level: Level, state: EntryState): void =>
  changeEntry(data, td, gfn, level, state, td.epoch)

/** RANGE.UNBLOCK of one leaf or table. `state` is the unblocked state. */
export const unblockEntry = (data: TdxData, td: Td, gfn: number, level: Level, state: EntryState): void =>
  changeEntry(data, td, gfn, level, state, 0)

function changeEntry(data: TdxData, td: Td, gfn: number, level: Level, state: EntryState, epoch: number): void {
  const { sept } = td
  if (state === STATE.NL_BLOCKED || state === STATE.NL_MAPPED) {
    setEpoch(data.pamt, tableFrame(sept, gfn, level), 1, epoch)
    PageMap.set(tablesAt(sept, level).states, indexAt(gfn, level), state)
    sept.blockedTables += state === STATE.NL_BLOCKED ? 1 : -1
    return
  }
  setEpoch(data.pamt, frameAt(sept, gfn), SPAN[level], epoch)
  setState(sept, gfn, SPAN[level], state)
}

/**
 * SEPT.ADD: the entry of `level` that covers `gfn` points at a new table of free entries, in page `frame`.
 * Preconditions: the entry is free and its parents are there, the frame is PT_NDA.
 */
export function addTable(data: TdxData, td: Td, gfn: number, level: Level, frame: number): void {
  const { states, frames } = tablesAt(td.sept, level)
  const index = indexAt(gfn, level)
  PageMap.set(states, index, STATE.NL_MAPPED)
  PageMap.set(frames, index, Translation.encode(index, frame))
  assignPages(data.pamt, frame, 1, PAGE_TYPE.EPT, 0, td.owner)
  td.childCount++
}

/** SEPT.REMOVE: frees the entry's table and says which page it was. Precondition: a table without children. */
export function removeTable(data: TdxData, td: Td, gfn: number, level: Level): number {
  const { sept } = td
  const { states, frames } = tablesAt(sept, level)
  const index = indexAt(gfn, level)
  const frame = tableFrame(sept, gfn, level)
  if (PageMap.get(states, index) === STATE.NL_BLOCKED) sept.blockedTables--
  PageMap.set(states, index, STATE.FREE)
  PageMap.set(frames, index, Translation.ABSENT)
  freePages(data.pamt, frame, 1)
  td.childCount--
  return frame
}

/** Whether every entry of the table that the entry of `level` points at is free. */
export function isTableEmpty(sept: Sept, gfn: number, level: Level): boolean {
  if (!PageMap.isAll(sept.entries, gfn, gfn + SPAN[level], 0)) return false
  const below = (level - 1) as Level
  if (below === 0) return true
  const first = indexAt(gfn, below)
  return PageMap.isAll(tablesAt(sept, below).states, first, first + SPAN[1], STATE.FREE)
}

/**
 * PAGE.DEMOTE: a leaf of `level` becomes 512 unblocked leafs one level down, under a new table in page `frame`.
 * Preconditions: a leaf of that level; the frame is PT_NDA. `gfn` is the leaf's first.
 */
export function demoteLeaf(data: TdxData, td: Td, gfn: number, level: 1 | 2, frame: number): void {
  const { sept } = td
  const below = (level - 1) as Level
  const leaf = stateOfLeaf(PageMap.get(sept.entries, gfn))
  const state = leaf === STATE.MAPPED || leaf === STATE.BLOCKED ? STATE.MAPPED : STATE.PENDING
  const page = frameAt(sept, gfn)
  PageMap.setRange(sept.entries, gfn, gfn + SPAN[level], leafWord(state, below))
  assignPages(data.pamt, page, SPAN[level], PAGE_TYPE.REG, below, td.owner)
  setEpoch(data.pamt, page, SPAN[level], 0)
  addTable(data, td, gfn, level, frame)
}

/**
 * Whether PAGE.PROMOTE may merge what the table at `level` points at: 512 leafs one level down, all MAPPED or all
 * PENDING, contiguous from a frame aligned to the new size (intel-tdx.md c.3).
 */
export function isPromotable(sept: Sept, gfn: number, level: 1 | 2): boolean {
  const leaf = PageMap.get(sept.entries, gfn)
  const state = stateOfLeaf(leaf)
  if (levelOfLeaf(leaf) !== level - 1 || (state !== STATE.MAPPED && state !== STATE.PENDING)) return false
  const end = gfn + SPAN[level]
  return (
    frameAt(sept, gfn) % SPAN[level] === 0 &&
    PageMap.isAll(sept.entries, gfn, end, leaf) &&
    PageMap.isAll(sept.frames, gfn, end, PageMap.get(sept.frames, gfn))
  )
}

/** PAGE.PROMOTE; says which page the merged table was. Precondition: {@link isPromotable}. */
export function promoteTable(data: TdxData, td: Td, gfn: number, level: 1 | 2): number {
  const { sept } = td
  const state = stateOfLeaf(PageMap.get(sept.entries, gfn))
  const frame = removeTable(data, td, gfn, level)
  PageMap.setRange(sept.entries, gfn, gfn + SPAN[level], leafWord(state, level))
  assignPages(data.pamt, frameAt(sept, gfn), SPAN[level], PAGE_TYPE.REG, level, td.owner)
  return frame
}

/** PAGE.RELOCATE: the leaf at `gfn` points at `frame`, unblocked; the old page, which it says, is PT_NDA. 4K only. */
export function relocatePage(data: TdxData, td: Td, gfn: number, frame: number, state: EntryState): number {
  const old = frameAt(td.sept, gfn)
  removePage(data, td, gfn)
  mapRange(data, td, gfn, frame, 1, state, 0)
  return old
}
