import * as pageMap from '../hw/shared/page-map.ts'

/**
 * The 2 MiB blocks of a frame pool that are neither wholly free nor wholly in use, each with a bitmap of its free
 * frames. Their records live in one typed array and are linked into a list: any of them is found, added, dropped or
 * picked in constant time, and the whole is plain data.
 */
export type PartialBlocks = {
  /** Records of RECORD words each. Record 0 is never used: 0 means "none". */
  words: Uint32Array
  /** Block number → its record. */
  readonly records: pageMap.PageMap
  /** First of the list: the block that single frames come from. */
  head: number
  /** First of the records that aren't in use, linked by NEXT. */
  spare: number
  /** Records made so far, in use or spare, with record 0. */
  made: number
}

/** Frames of a block. */
export const BLOCK_FRAMES = 512
/** The bitmap: 16 words of 32 frames, set where free. */
const BITMAP_WORDS = 16
const FREE = 16
const NEXT = 17
const PREVIOUS = 18
const BLOCK = 19
const RECORD = 20
const FIRST_RECORDS = 16

export const create = (): PartialBlocks => ({
  words: new Uint32Array(RECORD * FIRST_RECORDS),
  records: pageMap.create(),
  head: 0,
  spare: 0,
  made: 1,
})

const word = (blocks: PartialBlocks, record: number, field: number): number =>
  blocks.words[record * RECORD + field] as number

/** The record of a block, or 0 if none of its frames are free or all of them are. */
export const find = (blocks: PartialBlocks, block: number): number => pageMap.get(blocks.records, block)
export const freeIn = (blocks: PartialBlocks, record: number): number => word(blocks, record, FREE)
export const blockOf = (blocks: PartialBlocks, record: number): number => word(blocks, record, BLOCK)
export const nextOf = (blocks: PartialBlocks, record: number): number => word(blocks, record, NEXT)

/** Adds a block, at the head of the list. Its frames are all in use, or all free: the caller makes that untrue. */
export function add(blocks: PartialBlocks, block: number, free: boolean): number {
  let record = blocks.spare
  if (record !== 0) blocks.spare = word(blocks, record, NEXT)
  else {
    record = blocks.made++
    if (blocks.made * RECORD > blocks.words.length) {
      const words = new Uint32Array(blocks.words.length * 2)
      words.set(blocks.words)
      blocks.words = words
    }
  }
  const { words, head } = blocks
  const at = record * RECORD
  words.fill(free ? 0xffffffff : 0, at, at + BITMAP_WORDS)
  words[at + FREE] = free ? BLOCK_FRAMES : 0
  words[at + NEXT] = head
  words[at + PREVIOUS] = 0
  words[at + BLOCK] = block
  if (head !== 0) words[head * RECORD + PREVIOUS] = record
  blocks.head = record
  pageMap.set(blocks.records, block, record)
  return record
}

/** Drops a block that has become wholly free or wholly in use. */
export function drop(blocks: PartialBlocks, record: number): void {
  const { words } = blocks
  const next = word(blocks, record, NEXT)
  const previous = word(blocks, record, PREVIOUS)
  if (next !== 0) words[next * RECORD + PREVIOUS] = previous
  if (previous !== 0) words[previous * RECORD + NEXT] = next
  else blocks.head = next
  pageMap.set(blocks.records, word(blocks, record, BLOCK), 0)
  words[record * RECORD + NEXT] = blocks.spare
  blocks.spare = record
}

/** Takes the lowest free frame of a block, counted from its first, and drops the block if that was the last. */
export function takeLowest(blocks: PartialBlocks, record: number): number {
  const { words } = blocks
  const at = record * RECORD
  let index = at
  while (words[index] === 0) index++
  const bits = words[index] as number
  const bit = 31 - Math.clz32(bits & -bits)
  words[index] = bits & (bits - 1)
  const frame = (index - at) * 32 + bit
  const free = (words[at + FREE] as number) - 1
  words[at + FREE] = free
  if (free === 0) drop(blocks, record)
  return frame
}

export const hasFrame = (blocks: PartialBlocks, record: number, frame: number): boolean =>
  ((word(blocks, record, frame >>> 5) >>> (frame & 31)) & 1) === 1

/** Puts back one frame that is in use. */
export function putFrame(blocks: PartialBlocks, record: number, frame: number): void {
  const at = record * RECORD
  blocks.words[at + (frame >>> 5)] = word(blocks, record, frame >>> 5) | (1 << (frame & 31))
  blocks.words[at + FREE] = word(blocks, record, FREE) + 1
}

/** Where frames that are as `frame` is (free or in use) end, at most at `end`; both counted from the block's first. */
export function endOfRun(blocks: PartialBlocks, record: number, frame: number, end: number): number {
  const flip = hasFrame(blocks, record, frame) ? -1 : 0
  let at = frame
  while (at < end) {
    const differing = (word(blocks, record, at >>> 5) ^ flip) >>> (at & 31)
    if (differing !== 0) return Math.min(end, at + 31 - Math.clz32(differing & -differing))
    at = (at | 31) + 1
  }
  return end
}

/** Marks frames [from, to) of a block free or in use. Precondition: all of them are the other. */
export function mark(blocks: PartialBlocks, record: number, from: number, to: number, free: boolean): void {
  const { words } = blocks
  const at = record * RECORD
  let frame = from
  while (frame < to) {
    const index = at + (frame >>> 5)
    const stop = Math.min(to, (frame | 31) + 1)
    const mask = (0xffffffff >>> (32 - (stop - frame))) << (frame & 31)
    words[index] = free ? (words[index] as number) | mask : (words[index] as number) & ~mask
    frame = stop
  }
  words[at + FREE] = (words[at + FREE] as number) + (free ? to - from : from - to)
}
