import * as PageMap from '../shared/page-map.ts'
import {
  ASSIGNED,
  asidOf,
  FIRMWARE,
  HV_FIXED,
  IMMUTABLE,
  LARGE,
  MAX_ENTRY_ASID,
  METADATA_MARK,
  type PageState,
  RECLAIM,
  stateOf,
} from './states.ts'

/**
 * The Reverse Map Table of one machine (amd-sev-snp.md b.1) as plain data, one value a run of pages that agree.
 * `gpas` holds, for an entry with an ASID, the low 32 bits of `gfn - frame`, which contiguous pages share; for one
 * without, the firmware's mark. `gpaHighs` holds what a gfn has above 32 bits. Both may hold anything for an entry that
 * isn't assigned.
 */
export type Rmp = {
  readonly frames: number
  /** First frame of the table's own memory, at the top. */
  readonly ownStart: number
  readonly entries: PageMap.PageMap
  readonly gpas: PageMap.PageMap
  readonly gpaHighs: PageMap.PageMap
  /** Assigned 4 KiB pages of each ASID: the counters in the table's first 0x4000 bytes. */
  readonly counters: Float64Array
}

export const BLOCK = 512
const PAGE = 4096
const BOOKKEEPING = 0x4000
const ENTRY_BYTES = 16
const LOW = 0x100000000
/** GPAs have at most 52 bits. */
export const GFN_LIMIT = 2 ** 40

/** A new machine after SNP_INIT: DRAM is Hypervisor, the table's pages Firmware, the rest of its 2M pages HV-Fixed. */
export function createRmp(frames: number): Rmp {
  const size = BOOKKEEPING + ENTRY_BYTES * frames
  const ownStart = Math.max(0, Math.floor((frames - Math.ceil(size / PAGE)) / BLOCK) * BLOCK)
  const rmp: Rmp = {
    frames,
    ownStart,
    entries: PageMap.create(),
    gpas: PageMap.create(),
    gpaHighs: PageMap.create(),
    counters: new Float64Array(MAX_ENTRY_ASID + 1),
  }
  const tableEnd = Math.min(frames, ownStart + Math.ceil(size / PAGE))
  PageMap.setRange(rmp.entries, ownStart, tableEnd, FIRMWARE)
  PageMap.setRange(rmp.entries, tableEnd, frames, HV_FIXED)
  return rmp
}

export const metadataBytes = (rmp: Rmp): number => (rmp.frames - rmp.ownStart) * PAGE

export const blockOf = (frame: number): number => frame - (frame % BLOCK)

/** Attributes of an entry. Precondition: frame < frames. */
export const entryOf = (rmp: Rmp, frame: number): number => PageMap.get(rmp.entries, frame)

/** The guest frame of an entry that has an ASID. */
export const gfnOf = (rmp: Rmp, frame: number): number =>
  ((PageMap.get(rmp.gpas, frame) + frame) >>> 0) + PageMap.get(rmp.gpaHighs, frame) * LOW

/** The GPA field of an assigned entry without ASID; 0 for all others. */
export function markOf(rmp: Rmp, frame: number): number {
  const entry = entryOf(rmp, frame)
  return entry & ASSIGNED && asidOf(entry) === 0 ? PageMap.get(rmp.gpas, frame) : 0
}

export const metadataOwner = (mark: number): number => mark - METADATA_MARK

/** Whether a page's entry says that it's `gfn`. Precondition: the entry has an ASID. */
export const isGfn = (rmp: Rmp, frame: number, gfn: number): boolean => gfnOf(rmp, frame) === gfn

/** What software reads from an entry: inside a 2M page all but the first read assigned=1, asid=0 (amd-sev-snp.md b.1). */
export function rawEntry(rmp: Rmp, frame: number): number {
  const entry = entryOf(rmp, frame)
  return entry & LARGE && frame % BLOCK !== 0 ? RECLAIM : entry
}

/** A page's state as the firmware finds it; Default beyond the table. */
export function rawState(rmp: Rmp, frame: number): PageState {
  if (frame >= rmp.frames) return 'Default'
  const entry = rawEntry(rmp, frame)
  return stateOf(entry, markOf(rmp, frame))
}

/** A page's state where the first entry of a 2M page speaks for all of it. */
export function stateAt(rmp: Rmp, frame: number): PageState {
  if (frame >= rmp.frames) return 'Default'
  return stateOf(entryOf(rmp, frame), markOf(rmp, frame))
}

/** Writes entries [start, end) alike: contiguous guest pages from `gpa` if they have an ASID, else `gpa` is the mark. */
export function writeEntries(rmp: Rmp, start: number, end: number, entry: number, gpa: number): void {
  count(rmp, start, end, entry)
  if (end - start === 1) {
    PageMap.set(rmp.entries, start, entry)
    PageMap.set(rmp.gpas, start, asidOf(entry) === 0 ? gpa : (gpa - start) >>> 0)
  } else {
    PageMap.setRange(rmp.entries, start, end, entry)
    PageMap.setRange(rmp.gpas, start, end, asidOf(entry) === 0 ? gpa : (gpa - start) >>> 0)
  }
  writeHighs(rmp, start, end, asidOf(entry) === 0 ? 0 : gpa)
}

function writeHighs(rmp: Rmp, start: number, end: number, gfn: number): void {
  for (let at = start; at < end; ) {
    const high = Math.floor((gfn + at - start) / LOW)
    const next = high === 0 && gfn === 0 ? end : Math.min(end, start + (high + 1) * LOW - gfn)
    PageMap.setRange(rmp.gpaHighs, at, next, high)
    at = next
  }
}

/** Changes attributes of entries [start, end) that keep their ASID and GPA. */
export const changeEntries = (rmp: Rmp, start: number, end: number, entry: number): void =>
  PageMap.setRange(rmp.entries, start, end, entry)

function count(rmp: Rmp, start: number, end: number, entry: number): void {
  const { counters } = rmp
  for (let at = start; at < end; ) {
    const old = entryOf(rmp, at)
    const next = end - at === 1 ? end : PageMap.nextRun(rmp.entries, at, end)
    const asid = asidOf(old)
    if (asid !== 0) counters[asid] = (counters[asid] ?? 0) - (next - at)
    at = next
  }
  const asid = asidOf(entry)
  if (asid !== 0) counters[asid] = (counters[asid] ?? 0) + (end - start)
}

/** Whether a page may become another's by RMPUPDATE at all: not HV-Fixed and not the table's own. */
export const isFixed = (entry: number): boolean => (entry & (ASSIGNED | IMMUTABLE)) === IMMUTABLE
