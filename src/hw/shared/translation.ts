/**
 * Translations (gfn → pfn and the like) as PageMap values. A map holds one value for pages that agree, and the targets
 * of a contiguous mapping never do: so the value is the distance from index to target, which is the same for all of
 * them, and a mapped gibibyte is one value. 0 stays free to mean that there is no translation: bit 31 marks that there
 * is one, and the low 31 bits are `(target − index) mod 2^31`. That is enough, because targets are below 2^31.
 *
 * JavaScript's bit operators reduce any integer below 2^53 modulo 2^32 without rounding, hence also modulo 2^31.
 */

/** The value for pages that have no translation. */
export const ABSENT = 0

/** The value that maps a page index (below 2^40) to a target frame (below 2^31). Never 0. */
export const encode = (index: number, target: number): number => ((target - index) | 0x80000000) >>> 0

/** Whether a value holds a translation. */
export const isPresent = (value: number): boolean => value !== ABSENT

/** The frame that page `index` is mapped to. Precondition: the value is present. */
export const target = (index: number, value: number): number => (index + value) & 0x7fffffff
