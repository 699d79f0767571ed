/** Levels of a Secure EPT entry (intel-tdx.md c.2): 0 = 4K, 1 = 2M, 2 = 1G, 3 = 512G, 4 in 5-level trees only. */
export type Level = 0 | 1 | 2 | 3 | 4

/** 4 KiB pages that an entry of each level covers. */
export const SPAN = [1, 512, 512 ** 2, 512 ** 3, 512 ** 4] as const

/** Which entry of its level covers `gfn`. Precondition: gfn < 2^40. */
export const indexAt = (gfn: number, level: Level): number =>
  level === 0 ? gfn : Math.floor(gfn / (SPAN[level] as number))

/** First gfn of the entry of `level` that covers `gfn`. */
export const startAt = (gfn: number, level: Level): number => gfn - (gfn % SPAN[level])

export const PAGE_BITS = 12n
export const PAGE_SIZE = 4096

/** Physical address bits of this machine below its HKID bits, and all of them (intel-tdx.md 0.3). */
export const ADDRESS_BITS = 45n
export const KEY_BITS = 7n

export const hex = (value: bigint | number): string => `0x${value.toString(16)}`
export const addressOf = (frame: number): string => hex(BigInt(frame) << PAGE_BITS)
