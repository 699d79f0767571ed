import type { Machine } from '../../contract.ts'
import * as PageMap from '../../shared/page-map.ts'
import * as Translation from '../../shared/translation.ts'
import type { Host } from '../data.ts'
import { ENTRIES, indexAt, MAX_PAGES, spanOf, tableEnd } from './geometry.ts'
import { GRANULE, type Granules, setGranules } from './granules.ts'
import type { Realm } from './realm.ts'
import { isProtected, type Rtt, tableFrame, tablesAt, walkLevel } from './rtt.ts'
import { ASSIGNED, destroyedEntry, ENTRY, hostEntry, type Ripas, withRipas } from './states.ts'

/**
 * Changes of granules, entries and tables, single pages and ranges, in 4 KiB pages. None checks anything beyond its stated
 * preconditions; the commands of arm-cca.md 5 do that. One page costs no allocation.
 */

/** GRANULE_DELEGATE of frames that are all UNDELEGATED in PAS Non-secure: wiped, as tf-rmm does (arm-cca.md 2). */
export function delegateRange({ data, machine }: Host, frame: number, count: number): void {
  machine.clear(frame, count)
  setGranules(data.granules, frame, count, GRANULE.DELEGATED, 0)
}

/** GRANULE_UNDELEGATE of frames that are all DELEGATED. They are zero: whatever becomes DELEGATED is wiped then. */
export const undelegateRange = ({ data }: Pick<Host, 'data'>, frame: number, count: number): void =>
  setGranules(data.granules, frame, count, GRANULE.UNDELEGATED, 0)

/**
 * DATA_CREATE_UNKNOWN over a run: pages become ASSIGNED to frames `frame…`, RIPAS as it was (4.1). Preconditions: the
 * pages are protected and UNASSIGNED with tables down to level 3, the frames DELEGATED.
 */
export function mapData(granules: Granules, realm: Realm, page: number, frame: number, count: number): void {
  const { entries, frames } = realm.rtt
  const translation = Translation.encode(page, frame)
  if (count === 1) {
    PageMap.set(entries, page, PageMap.get(entries, page) | ASSIGNED)
    PageMap.set(frames, page, translation)
  } else {
    PageMap.transform(entries, page, page + count, (entry) => entry | ASSIGNED)
    PageMap.setRange(frames, page, page + count, translation)
  }
  setGranules(granules, frame, count, GRANULE.DATA, realm.owner)
}

/** DATA_CREATE of one page beside its contents and the measurement: A/R. Preconditions as {@link mapData}. */
export function mapRamPage(granules: Granules, realm: Realm, page: number, frame: number): void {
  mapData(granules, realm, page, frame, 1)
  PageMap.set(realm.rtt.entries, page, ENTRY.ASSIGNED_RAM)
}

/**
 * DATA_DESTROY of one page: A/R and A/D → U/D, A/E → U/E, its granule DELEGATED and wiped (4.1). Says which frame it
 * was. Precondition: an ASSIGNED page with tables down to level 3.
 */
export function destroyPage({ data, machine }: Host, realm: Realm, page: number): number {
  const { entries, frames } = realm.rtt
  const frame = Translation.target(page, PageMap.get(frames, page))
  PageMap.set(entries, page, destroyedEntry(PageMap.get(entries, page)))
  PageMap.set(frames, page, Translation.ABSENT)
  releaseData(data.granules, machine, frame, 1)
  return frame
}

/**
 * DATA_DESTROY of every ASSIGNED page of a protected range; the rest stays as it is. Says how many pages there were.
 * Precondition: no block of level 1 or 2 reaches into the range.
 */
export function destroyRange({ data, machine }: Host, realm: Realm, page: number, count: number): number {
  const { entries, frames } = realm.rtt
  const end = page + count
  let destroyed = 0
  for (let at = PageMap.nextNonZero(frames, page, end); at < end; at = PageMap.nextNonZero(frames, at, end)) {
    const next = PageMap.nextRun(frames, at, end)
    releaseData(data.granules, machine, Translation.target(at, PageMap.get(frames, at)), next - at)
    PageMap.transform(entries, at, next, destroyedEntry)
    PageMap.setRange(frames, at, next, Translation.ABSENT)
    destroyed += next - at
    at = next
  }
  return destroyed
}

function releaseData(granules: Granules, machine: Machine, frame: number, count: number): void {
  machine.clear(frame, count)
  setGranules(granules, frame, count, GRANULE.DELEGATED, 0)
}

/**
 * What RTT_INIT_RIPAS and RTT_SET_RIPAS do beside their checks: every page's RIPAS, HIPAS as it is (4.1). Preconditions: the
 * pages are protected, no block reaches over the range's borders, and DESTROYED ones may change.
 */
export function setRipasRange(rtt: Rtt, page: number, count: number, ripas: Ripas): void {
  const { entries } = rtt
  if (count === 1) PageMap.set(entries, page, withRipas(PageMap.get(entries, page), ripas))
  else PageMap.transform(entries, page, page + count, (entry) => withRipas(entry, ripas))
}

const WORD_SPAN = 2 ** 31

/**
 * RTT_MAP_UNPROTECTED over a run: pages become ASSIGNED_NS to host memory at `frame…`. `attributes` are MemAttr and S2AP
 * as in a descriptor. Preconditions: the pages are unprotected and UNASSIGNED_NS, with tables for the entries' level.
 */
export function mapHostRange(rtt: Rtt, page: number, frame: number, count: number, attributes: number): void {
  const distance = (frame - page + MAX_PAGES) % MAX_PAGES
  const entry = hostEntry(attributes, Math.floor(distance / WORD_SPAN))
  const translation = Translation.encode(page, frame)
  if (count === 1) {
    PageMap.set(rtt.entries, page, entry)
    PageMap.set(rtt.frames, page, translation)
    return
  }
  PageMap.setRange(rtt.entries, page, page + count, entry)
  PageMap.setRange(rtt.frames, page, page + count, translation)
}

/** RTT_UNMAP_UNPROTECTED over a run of unprotected pages, mapped or not. Precondition: no block reaches over its borders. */
export function unmapHostRange(rtt: Rtt, page: number, count: number): void {
  if (count === 1) {
    PageMap.set(rtt.entries, page, ENTRY.UNASSIGNED_NS)
    PageMap.set(rtt.frames, page, Translation.ABSENT)
    return
  }
  PageMap.setRange(rtt.entries, page, page + count, ENTRY.UNASSIGNED_NS)
  PageMap.setRange(rtt.frames, page, page + count, Translation.ABSENT)
}

/**
 * RTT_CREATE: the entry of `level` - 1 that covers `page` points at a table in granule `frame`, whose entries say what it
 * said (4.2). Preconditions: the walk reaches that entry, it is no TABLE, the granule DELEGATED.
 */
export function addTable(granules: Granules, realm: Realm, page: number, level: number, frame: number): void {
  const index = indexAt(page, level - 1)
  PageMap.set(tablesAt(realm.rtt, level - 1), index, Translation.encode(index, frame))
  setGranules(granules, frame, 1, GRANULE.RTT, realm.owner)
}

/**
 * RTT_CREATE of every table that entries of `level` in [page, end) still need. `take` gives a DELEGATED granule for each,
 * or -1 when there is none. Says how far it came: `end`, or the first page whose tables aren't all there.
 */
export function addTables(
  granules: Granules,
  realm: Realm,
  page: number,
  end: number,
  level: number,
  take: () => number,
): number {
  for (let at = page; at < end; at = tableEnd(at, level))
    for (let reached = walkLevel(realm.rtt, at, level); reached < level; reached++) {
      const frame = take()
      if (frame < 0) return at
      addTable(granules, realm, at, reached + 1, frame)
    }
  return end
}

/**
 * RTT_FOLD: the table of entries of `level` at `page` becomes DELEGATED, and what it said is the entry above. Says which
 * granule it was. Precondition: the table is there and homogeneous.
 */
export function foldTable(granules: Granules, realm: Realm, page: number, level: number): number {
  const frame = tableFrame(realm.rtt, page, level - 1)
  PageMap.set(tablesAt(realm.rtt, level - 1), indexAt(page, level - 1), Translation.ABSENT)
  setGranules(granules, frame, 1, GRANULE.DELEGATED, 0)
  return frame
}

/**
 * RTT_DESTROY: as {@link foldTable}, and the entry above is UNASSIGNED/DESTROYED, or UNASSIGNED_NS with the host's
 * mappings forgotten (4.2). Precondition: a table at `page`, its first, without live entries.
 */
export function destroyTable(granules: Granules, realm: Realm, page: number, level: number): number {
  const count = spanOf(level) * ENTRIES
  if (isProtected(realm.rtt, page)) PageMap.setRange(realm.rtt.entries, page, page + count, ENTRY.UNASSIGNED_DESTROYED)
  else unmapHostRange(realm.rtt, page, count)
  return foldTable(granules, realm, page, level)
}
