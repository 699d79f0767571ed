/** Levels of a table entry (arm-cca.md 3): 3 = 4 KiB, 2 = 2 MiB, 1 = 1 GiB, 0 = 512 GiB, -1 with LPA2 only. */
export type Level = -1 | 0 | 1 | 2 | 3

export const PAGE_SIZE = 4096
export const PAGE_BITS = 12
export const ENTRIES = 512
/** Pages of the widest IPA space: 52 bits. */
export const MAX_PAGES = 2 ** 40

const SPANS = [512 ** 4, 512 ** 3, 512 ** 2, 512, 1] as const

/** 4 KiB pages that an entry of a level covers. */
export const spanOf = (level: number): number => SPANS[level + 1] as number

/** Which entry of its level covers a page, counted from IPA 0. */
export const indexAt = (page: number, level: number): number => (level === 3 ? page : Math.floor(page / spanOf(level)))

/** First page of the entry of `level` that covers `page`. */
export const startAt = (page: number, level: number): number => page - (page % spanOf(level))

/**
 * The page after the last one of the table that holds the entry of `level` for `page` (arm-cca.md 5): a table has 512
 * entries, each of concatenated root tables is one, and that of level -1 has the 16 that 52 bits leave.
 */
export function tableEnd(page: number, level: number): number {
  const pages = spanOf(level) * ENTRIES
  return Math.min(MAX_PAGES, page - (page % pages) + pages)
}

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`
/** The address of a page or frame, below 2^52: exact as a number. */
export const addressOf = (page: number): string => hex(page * PAGE_SIZE)
