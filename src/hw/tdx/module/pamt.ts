import * as PageMap from '../../shared/page-map.ts'
import { PAGE_SIZE, SPAN } from './geometry.ts'

/** Page types of PAMT (intel-tdx.md b). */
export const PAGE_TYPE = { NDA: 0, RSVD: 1, REG: 3, TDR: 4, TDCX: 5, TDVPR: 6, EPT: 8 } as const
export type PageType = (typeof PAGE_TYPE)[keyof typeof PAGE_TYPE]

const TYPE_NAMES = ['PT_NDA', 'PT_RSVD', 'PT_2', 'PT_REG', 'PT_TDR', 'PT_TDCX', 'PT_TDVPR', 'PT_7', 'PT_EPT'] as const
export const typeName = (type: number): string => TYPE_NAMES[type] ?? `PT_${type}`

/**
 * The Physical Address Metadata Table of one machine (intel-tdx.md b) as plain data, a value a run of pages that agree.
 * A page of 2M or 1G is as many equal entries. An entry is `type | size << 4 | owner << 8`; 0 is PT_NDA, free. `owner`
 * is a small number that stands for a TD: `owners` has the frame of its TDR, -1 where the number is free.
 */
export type Pamt = {
  readonly frames: number
  /** First frame of the table's own memory, at the top. */
  readonly ownStart: number
  readonly types: PageMap.PageMap
  /** BEPOCH modulo 2^32 of PT_REG and PT_EPT pages; 0 while they aren't blocked. */
  readonly epochs: PageMap.PageMap
  readonly owners: number[]
}

const ENTRY_BYTES = 16
const LOW = 0x100000000

/** A new machine: everything free but the table's own pages, 16 bytes for each page of each size. */
export function createPamt(frames: number): Pamt {
  const entries = frames + Math.ceil(frames / SPAN[1]) + Math.ceil(frames / SPAN[2])
  const ownStart = Math.max(0, frames - Math.ceil((entries * ENTRY_BYTES) / PAGE_SIZE))
  const pamt: Pamt = { frames, ownStart, types: PageMap.create(), epochs: PageMap.create(), owners: [-1] }
  PageMap.setRange(pamt.types, ownStart, frames, PAGE_TYPE.RSVD)
  return pamt
}

export const metadataBytes = (pamt: Pamt): number => (pamt.frames - pamt.ownStart) * PAGE_SIZE

export const typeOf = (entry: number): number => entry & 0xf
/** 0, 1 or 2: 4K, 2M, 1G. */
export const sizeOf = (entry: number): 0 | 1 | 2 => ((entry >>> 4) & 0xf) as 0 | 1 | 2
export const ownerOf = (entry: number): number => entry >>> 8
export const entryWord = (type: PageType, size: number, owner: number): number => (owner << 8) | (size << 4) | type

/** The entry that counts for a page: the largest that is assigned. Precondition: frame < frames. */
export const entryAt = (pamt: Pamt, frame: number): number => PageMap.get(pamt.types, frame)

/** Frame of the TDR of the TD that owns a page, -1 for pages without owner: free, reserved and TDR pages. */
export const ownerFrame = (pamt: Pamt, entry: number): number => pamt.owners[ownerOf(entry)] ?? -1

/** Whether frames [frame, frame + count) are all PT_NDA. */
export const isFree = (pamt: Pamt, frame: number, count: number): boolean =>
  count === 1 ? entryAt(pamt, frame) === 0 : PageMap.isAll(pamt.types, frame, frame + count, 0)

/** Assigns free pages, or changes the size of assigned ones. */
export function assignPages(
  pamt: Pamt,
  frame: number,
  count: number,
  type: PageType,
  size: number,
  owner: number,
): void {
  const entry = entryWord(type, size, owner)
  if (count === 1) PageMap.set(pamt.types, frame, entry)
  else PageMap.setRange(pamt.types, frame, frame + count, entry)
}

/** Makes pages PT_NDA. Whoever calls keeps the owner's CHLDCNT. */
export function freePages(pamt: Pamt, frame: number, count: number): void {
  if (count === 1) {
    PageMap.set(pamt.types, frame, 0)
    PageMap.set(pamt.epochs, frame, 0)
    return
  }
  PageMap.setRange(pamt.types, frame, frame + count, 0)
  PageMap.setRange(pamt.epochs, frame, frame + count, 0)
}

/** Records TD_EPOCH as the epoch in which pages were blocked; 0 says that they aren't. */
export const setEpoch = (pamt: Pamt, frame: number, count: number, epoch: number): void =>
  PageMap.setRange(pamt.epochs, frame, frame + count, epoch % LOW)

/**
 * BEPOCH of a blocked page, restored from its low 32 bits: the last epoch not after `now` that has them. A page that
 * stays blocked through 2^32 epochs would look younger than it is, and be tracked again at the next MEM.TRACK.
 */
export function epochOf(pamt: Pamt, frame: number, now: number): number {
  const low = PageMap.get(pamt.epochs, frame)
  return now - ((now - low) % LOW)
}

/** The lowest free owner number, now that of the TD at `tdr`. */
export function addOwner(pamt: Pamt, tdr: number): number {
  const found = pamt.owners.indexOf(-1, 1)
  const owner = found < 0 ? pamt.owners.length : found
  pamt.owners[owner] = tdr
  return owner
}

export function removeOwner(pamt: Pamt, owner: number): void {
  pamt.owners[owner] = -1
}
