import type { RefusalDefinition } from './problem-codes.ts'

/** The refusal codes of the domain and of the shared parsers. A code without an entry gets the title of its kind. */
export const REFUSAL_CODES: Readonly<Record<string, RefusalDefinition>> = {
  'misaligned-address': {
    kind: 'invalid',
    title: 'The address is inside a page',
    meaning: 'Addresses of memory are multiples of 4 KiB.',
  },
  'size-out-of-range': {
    kind: 'invalid',
    title: 'The size does not fit in 64 bits',
    meaning: 'No system call could carry it.',
  },
  'out-of-range': {
    kind: 'invalid',
    title: 'The number is out of range',
    meaning: 'A number in the path or the query is not within its bounds.',
  },
  'invalid-cursor': {
    kind: 'invalid',
    title: 'The cursor is not one of ours',
    meaning: 'Cursors are opaque: send `nextCursor` back as it was given, to the same list.',
  },
  'misaligned-size': {
    kind: 'kernel',
    title: 'The size is not a whole number of pages',
    meaning: 'Sizes and offsets of memory are multiples of 4 KiB.',
  },
  'size-beyond-signed-64-bit': {
    kind: 'kernel',
    title: 'The size is negative to the kernel',
    meaning: 'Offsets and lengths are signed 64-bit numbers (loff_t).',
  },
}
