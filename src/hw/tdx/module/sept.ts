import * as PageMap from '../../shared/page-map.ts'
import * as Translation from '../../shared/translation.ts'
import { indexAt, type Level, SPAN, startAt } from './geometry.ts'
import { type EntryState, STATE } from './states.ts'

/**
 * One TD's Secure EPT (intel-tdx.md c) as plain data. A leaf is as many equal values of `entries` as it has pages,
 * `state | level << 8`, with their translations in `frames` (src/hw/shared/translation.ts); both are 0 where no leaf is.
 * `tables[level]` holds the non-leaf entries of each level by their index there. An entry is there only if all above it
 * are, mapped or blocked; a leaf and a table never share an entry.
 */
export type Sept = {
  /** Level of the root's entries: 3, or 4 in a 5-level tree. */
  top: Level
  readonly entries: PageMap.PageMap
  readonly frames: PageMap.PageMap
  readonly tables: readonly SeptTables[]
  /** Entries that are NL_BLOCKED: while it is 0 no leaf is hidden. */
  blockedTables: number
}

/** `states` is 0, NL_MAPPED or NL_BLOCKED; `frames` the translation from an entry's index to the page of its table. */
export type SeptTables = { readonly states: PageMap.PageMap; readonly frames: PageMap.PageMap }

/** What an entry says. `frame` is the leaf's first, or the table's; -1 for FREE. */
export type Entry = { readonly level: Level; readonly state: EntryState; readonly frame: number }

export const createSept = (top: Level): Sept => ({
  top,
  entries: PageMap.create(),
  frames: PageMap.create(),
  tables: SPAN.map(() => ({ states: PageMap.create(), frames: PageMap.create() })),
  blockedTables: 0,
})

export const leafWord = (state: EntryState, level: Level): number => state | (level << 8)
export const stateOfLeaf = (leaf: number): EntryState => (leaf & 0xff) as EntryState
export const levelOfLeaf = (leaf: number): Level => (leaf >>> 8) as Level

export const tablesAt = (sept: Sept, level: Level): SeptTables => sept.tables[level] as SeptTables

export const tableState = (sept: Sept, gfn: number, level: Level): number =>
  PageMap.get(tablesAt(sept, level).states, indexAt(gfn, level))

/** Frame of the table that the entry of `level` points at. Precondition: it does. */
export function tableFrame(sept: Sept, gfn: number, level: Level): number {
  const index = indexAt(gfn, level)
  return Translation.target(index, PageMap.get(tablesAt(sept, level).frames, index))
}

/** Frame of a page under a leaf. Precondition: there is one. */
export const frameAt = (sept: Sept, gfn: number): number => Translation.target(gfn, PageMap.get(sept.frames, gfn))

/** The entry of `level` that covers `gfn`, whatever hides it. */
export function entryAt(sept: Sept, gfn: number, level: Level): Entry {
  if (level > 0) {
    const state = tableState(sept, gfn, level)
    if (state !== STATE.FREE) return { level, state: state as EntryState, frame: tableFrame(sept, gfn, level) }
  }
  const leaf = PageMap.get(sept.entries, gfn)
  if (leaf === 0 || levelOfLeaf(leaf) !== level) return { level, state: STATE.FREE, frame: -1 }
  return { level, state: stateOfLeaf(leaf), frame: frameAt(sept, startAt(gfn, level)) }
}

/** The walk to `level` (intel-tdx.md 0.3 step 4): where it ends above `level`, at what isn't NL_MAPPED, that entry. */
export function walk(sept: Sept, gfn: number, level: Level): Entry {
  let at = sept.top
  while (at > level && tableState(sept, gfn, at) === STATE.NL_MAPPED) at--
  return entryAt(sept, gfn, at)
}

/**
 * The leaf that a guest's access to `gfn` meets, as in `entries`; 0 when there is none, or when a blocked table hides
 * it. Allocates nothing.
 */
export function leafAt(sept: Sept, gfn: number): number {
  const leaf = PageMap.get(sept.entries, gfn)
  return leaf === 0 || sept.blockedTables === 0 || !isHidden(sept, gfn) ? leaf : 0
}

function isHidden(sept: Sept, gfn: number): boolean {
  for (let level: number = sept.top; level > 0; level--)
    if (tableState(sept, gfn, level as Level) === STATE.NL_BLOCKED) return true
  return false
}

/**
 * The highest level above `level` whose entry for `gfn` has no table: what SEPT.ADD must fill next, or 0 when an entry of
 * `level` can be written. A leaf of that level lies in the way of the table, and counts as missing. Allocates nothing.
 */
export function firstMissingTable(sept: Sept, gfn: number, level: Level): Level | 0 {
  const parent = (level + 1) as Level
  if (level >= sept.top || tableState(sept, gfn, parent) !== STATE.FREE) return 0
  let at = sept.top
  while (tableState(sept, gfn, at) !== STATE.FREE) at--
  return at
}

/** Where the run of pages that have a table for entries of `level`, or of pages that have none, ends; at most `end`. */
export function tableRunEnd(sept: Sept, gfn: number, end: number, level: Level): number {
  const parent = (level + 1) as Level
  const span = SPAN[parent]
  const { states } = tablesAt(sept, parent)
  const index = indexAt(gfn, parent)
  return Math.min(end, PageMap.nextRun(states, index, Math.max(index, indexAt(end - 1, parent)) + 1) * span)
}
