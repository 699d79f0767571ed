/** Consecutive table entries of one size that RTT_INIT_RIPAS passes: `count` entries of `span` 4 KiB pages from `gfn`. */
export type EntryRun = { readonly gfn: number; readonly span: number; readonly count: number }

const ENTRIES = 512
const LEVELS = [2, 1, 0] as const

/** 4 KiB pages of a table entry (arm-cca.md 3): level 3 is 4 KiB, 2 is 2 MiB, 1 is 1 GiB, 0 is 512 GiB, -1 is 256 TiB. */
export const spanOf = (level: number): number => ENTRIES ** (3 - level)

/** log2 of the bytes of an entry. */
const widthOf = (level: number): number => 9 * (3 - level) + 12

/** Whether root tables of `level`, concatenated if need be, give an IPA space of `s2sz` bits (arm-cca.md 3). */
export const isRootLevel = (level: number, s2sz: number): boolean =>
  s2sz > widthOf(level) && s2sz <= widthOf(level) + (level === -1 ? 4 : 13)

/** The root level with tables concatenated wherever that saves one ([M docs/realm-vm.md 0.3], arm-cca.md 9). */
export const deepestRootLevel = (s2sz: number): number => LEVELS.find((level) => isRootLevel(level, s2sz)) ?? -1

/**
 * The entries of a range whose tables are only those it needs: each is the largest that is aligned, fits and is not above
 * the root level (arm-cca.md 8). A block that is covered in part has a table, and what is covered of it smaller entries.
 */
export function* entryRuns(gfn: number, pages: number, rootLevel: number): Generator<EntryRun> {
  const end = gfn + pages
  for (let at = gfn; at < end; ) {
    let level = 3
    while (level > rootLevel && fits(at, spanOf(level - 1), end)) level--
    const span = spanOf(level)
    const larger = level > rootLevel ? spanOf(level - 1) : Number.POSITIVE_INFINITY
    const boundary = Math.min(end, (Math.floor(at / larger) + 1) * larger)
    const count = Math.floor((boundary - at) / span)
    yield { gfn: at, span, count }
    at += count * span
  }
}

const fits = (gfn: number, span: number, end: number): boolean => gfn % span === 0 && gfn + span <= end
