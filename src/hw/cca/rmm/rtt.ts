import * as PageMap from '../../shared/page-map.ts'
import * as Translation from '../../shared/translation.ts'
import { ENTRIES, indexAt, MAX_PAGES, spanOf, startAt, tableEnd } from './geometry.ts'
import { ENTRY, highOf } from './states.ts'

/**
 * One Realm's translation tables (arm-cca.md 4) as plain data. `entries` has each IPA page's entry (states.ts) and
 * `frames` where it is mapped (src/hw/shared/translation.ts), one value a run that agrees. `tables[level + 1]` has the
 * granule of each table that an entry of `level` points at, by that entry's index. A table is there only if all above
 * it are. So an entry of any level is the region below it if no table lies there, and all of its pages agree.
 */
export type Rtt = {
  /** Level of the root tables' entries: -1 to 2. */
  readonly startLevel: number
  readonly rootFrame: number
  readonly rootTables: number
  /** First unprotected page, PAR, and the first page that doesn't exist. */
  readonly unprotectedPage: number
  readonly endPage: number
  readonly entries: PageMap.PageMap
  readonly frames: PageMap.PageMap
  readonly tables: readonly PageMap.PageMap[]
}

/** What an entry says. `frame` is the first it maps, or its table's granule; -1 for neither. `word`: states.ts. */
export type Entry = {
  readonly level: number
  readonly page: number
  readonly state: 'UNASSIGNED' | 'ASSIGNED' | 'TABLE'
  readonly word: number
  readonly frame: number
}

/** `s2sz` is the width of an IPA in bits. Every protected entry is UNASSIGNED and EMPTY. */
export const createRtt = (s2sz: number, startLevel: number, rootFrame: number, rootTables: number): Rtt => ({
  startLevel,
  rootFrame,
  rootTables,
  unprotectedPage: 2 ** (s2sz - 13),
  endPage: 2 ** (s2sz - 12),
  entries: PageMap.create(),
  frames: PageMap.create(),
  tables: [-1, 0, 1, 2].map(() => PageMap.create()),
})

export const tablesAt = (rtt: Rtt, level: number): PageMap.PageMap => rtt.tables[level + 1] as PageMap.PageMap

export const isProtected = (rtt: Rtt, page: number): boolean => page < rtt.unprotectedPage

/** Whether the entry of `level` for `page` points at a table. False for level 3. */
export const isTable = (rtt: Rtt, page: number, level: number): boolean =>
  level < 3 && PageMap.get(tablesAt(rtt, level), indexAt(page, level)) !== Translation.ABSENT

/** Granule of the table that the entry of `level` points at. Precondition: it does. */
export function tableFrame(rtt: Rtt, page: number, level: number): number {
  const index = indexAt(page, level)
  return Translation.target(index, PageMap.get(tablesAt(rtt, level), index))
}

/** HIPAS and RIPAS of a page (states.ts). Allocates nothing. */
export const stateAt = (rtt: Rtt, page: number): number => PageMap.get(rtt.entries, page)

const WORD_SPAN = 2 ** 31

/** Where a page is mapped, -1 when it isn't. Allocates nothing. Precondition: page < endPage. */
export function frameAt(rtt: Rtt, page: number): number {
  const value = PageMap.get(rtt.frames, page)
  if (value === Translation.ABSENT) return -1
  if (page < rtt.unprotectedPage) return Translation.target(page, value)
  return hostFrame(page, value, stateAt(rtt, page))
}

/** An unprotected page may be mapped to any physical address: 40 bits of distance, the upper ones in its entry. */
const hostFrame = (page: number, value: number, entry: number): number =>
  (page + highOf(entry) * WORD_SPAN + (value % WORD_SPAN)) % MAX_PAGES

/** The level at which a walk to `level` ends (arm-cca.md 5): that of the first entry which is no TABLE. */
export function walkLevel(rtt: Rtt, page: number, level: number): number {
  let at = rtt.startLevel
  while (at < level && isTable(rtt, page, at)) at++
  return at
}

/** The entry of `level` that covers `page`. Precondition: the walk reaches that level. */
export function entryAt(rtt: Rtt, page: number, level: number): Entry {
  const start = startAt(page, level)
  if (isTable(rtt, page, level))
    return { level, page: start, state: 'TABLE', word: ENTRY.UNASSIGNED_EMPTY, frame: tableFrame(rtt, page, level) }
  const word = stateAt(rtt, start)
  const frame = frameAt(rtt, start)
  return { level, page: start, state: frame < 0 ? 'UNASSIGNED' : 'ASSIGNED', word, frame }
}

/** The entry where a walk to `level` ends. */
export const walk = (rtt: Rtt, page: number, level: number): Entry => entryAt(rtt, page, walkLevel(rtt, page, level))

/** Whether an entry maps something or points at a table: ASSIGNED_NS counts (arm-cca.md 5, DATA_DESTROY). */
export const isLive = (rtt: Rtt, page: number, level: number): boolean =>
  isTable(rtt, page, level) || PageMap.get(rtt.frames, startAt(page, level)) !== Translation.ABSENT

/**
 * `top` of the commands that undo (arm-cca.md 5), as a page: `page` itself if the entry of `level` that covers it is live,
 * else the first of the next live entry in that table, else the end of the table. Precondition: the walk reaches `level`.
 */
export const nextLive = (rtt: Rtt, page: number, level: number): number =>
  isLive(rtt, page, level) ? page : nextLiveEntry(rtt, page, level)

function nextLiveEntry(rtt: Rtt, page: number, level: number): number {
  const end = tableEnd(page, level)
  const after = startAt(page, level) + spanOf(level)
  const mapped = PageMap.nextNonZero(rtt.frames, after, end)
  if (level === 3) return mapped
  const span = spanOf(level)
  const table = PageMap.nextNonZero(tablesAt(rtt, level), after / span, end / span) * span
  return Math.min(mapped < end ? startAt(mapped, level) : end, table)
}

/** Whether a table of entries of `level` at `page` has live entries: what RTT_DESTROY refuses (arm-cca.md 2, 4.2). */
export function hasLiveEntries(rtt: Rtt, page: number, level: number): boolean {
  const end = page + spanOf(level) * ENTRIES
  if (level < 3) {
    const first = indexAt(page, level)
    if (!PageMap.isAll(tablesAt(rtt, level), first, first + ENTRIES, Translation.ABSENT)) return true
  }
  return isProtected(rtt, page) && !PageMap.isAll(rtt.frames, page, end, Translation.ABSENT)
}

/**
 * Whether a table of entries of `level` at `page` folds (4.2): 512 entries that agree in state, RIPAS and attributes, and
 * that map, if they do, consecutive frames from one aligned to the parent's size.
 */
export function isHomogeneous(rtt: Rtt, page: number, level: number): boolean {
  const pages = spanOf(level) * ENTRIES
  const end = page + pages
  if (level < 3) {
    const first = indexAt(page, level)
    if (!PageMap.isAll(tablesAt(rtt, level), first, first + ENTRIES, Translation.ABSENT)) return false
  }
  if (!PageMap.isAll(rtt.entries, page, end, stateAt(rtt, page))) return false
  const value = PageMap.get(rtt.frames, page)
  if (!PageMap.isAll(rtt.frames, page, end, value)) return false
  return value === Translation.ABSENT || frameAt(rtt, page) % pages === 0
}

/** Whether a root table of a Realm has a live entry (REALM_DESTROY, 3): host memory that is mapped doesn't count. */
export const isRootLive = (rtt: Rtt): boolean =>
  !PageMap.isAll(tablesAt(rtt, rtt.startLevel), 0, Math.ceil(rtt.endPage / spanOf(rtt.startLevel)), 0) ||
  !PageMap.isAll(rtt.frames, 0, rtt.unprotectedPage, Translation.ABSENT)
