import * as pageMap from '../hw/shared/page-map.ts'
import * as partial from './partial-blocks.ts'

/**
 * The free physical memory of a host, in frames of 4 KiB (at most 2^31). Deterministic plain data; change it through
 * this module alone. Frames come from blocks of 2 MiB that are partly in use already, so that whole blocks last for
 * large pages; a block whose frames are all free is whole again, and merges with its neighbours.
 */
export type FramePool = {
  readonly frames: number
  /** Frames that are free now. */
  free: number
  /** 1 for each block whose 512 frames are all free. */
  readonly whole: pageMap.PageMap
  /** No block below this one is whole. */
  lowest: number
  readonly partial: partial.PartialBlocks
}

export type FrameRun = { readonly start: number; readonly count: number }

/** In frames: any, 2 MiB or 1 GiB. */
export type FrameAlignment = 1 | 512 | 262144

const BLOCK = partial.BLOCK_FRAMES
const MASK = BLOCK - 1
/** How many partly used blocks are searched for a contiguous place before a whole block is broken up. */
const SEARCHED_PARTIALS = 16

const blocksOf = (pool: FramePool): number => Math.ceil(pool.frames / BLOCK)

/** A pool of `frames` frames (at most 2^31), of which the first `reserved` are not to be had. */
export function create(frames: number, reserved = 0): FramePool {
  const pool = { frames, free: 0, whole: pageMap.create(), lowest: 0, partial: partial.create() }
  if (reserved < frames) free(pool, reserved, frames - reserved)
  return pool
}

/** How many frames are free. */
export const freeFrames = (pool: FramePool): number => pool.free

/** How many blocks of 2 MiB are free as a whole. Costs what the runs of such blocks cost. */
export const freeBlocks = (pool: FramePool): number => pageMap.countNonZero(pool.whole, pool.lowest, blocksOf(pool))

/** Whether a frame is free. */
export function isFree(pool: FramePool, frame: number): boolean {
  if (pageMap.get(pool.whole, frame >>> 9) !== 0) return true
  const record = partial.find(pool.partial, frame >>> 9)
  return record !== 0 && partial.hasFrame(pool.partial, record, frame & MASK)
}

/** Takes one frame and returns it, or −1 when there is none. Allocates nothing. */
export function allocateOne(pool: FramePool): number {
  if (pool.free === 0) return -1
  let record = pool.partial.head
  if (record === 0) {
    const block = pageMap.nextNonZero(pool.whole, pool.lowest, blocksOf(pool))
    pageMap.set(pool.whole, block, 0)
    pool.lowest = block + 1
    record = partial.add(pool.partial, block, true)
  }
  pool.free--
  const base = partial.blockOf(pool.partial, record) * BLOCK
  return base + partial.takeLowest(pool.partial, record)
}

/**
 * Takes `count` frames and returns where they are: ascending runs, merged, and few: one
 * run where a free stretch of whole blocks holds all of it, else the largest first. Each run starts at, and is, a multiple of
 * `alignment`; precondition: so is `count`. Undefined, and nothing taken, when there isn't enough.
 */
export function allocate(pool: FramePool, count: number, alignment: FrameAlignment): FrameRun[] | undefined {
  if (count > pool.free) return undefined
  const taken: FrameRun[] = []
  const missing = count < BLOCK ? count : takeWhole(pool, count, alignment, taken)
  if (missing < 0) return undefined
  if (missing > 0) takeSmall(pool, missing, taken)
  return merged(taken)
}

/**
 * The first of `count` free frames in a row, a power of two up to a block and aligned to their number; -1, and nothing
 * taken, when there are none. As a buddy allocator does it, a whole block is broken up only for want of a smaller place.
 */
export function allocateAligned(pool: FramePool, count: number): number {
  const near = alignedPlace(pool, count, SEARCHED_PARTIALS)
  const whole = near < 0 ? pageMap.nextNonZero(pool.whole, pool.lowest, blocksOf(pool)) : 0
  const start = near >= 0 ? near : whole < blocksOf(pool) ? whole * BLOCK : alignedPlace(pool, count, Infinity)
  if (start >= 0) take(pool, start, count)
  return start
}

/** Such a place in one of the first `searched` partly used blocks, or -1. */
function alignedPlace({ partial: blocks }: FramePool, count: number, searched: number): number {
  let left = searched
  for (let record = blocks.head; record !== 0 && left > 0; record = partial.nextOf(blocks, record), left--) {
    if (partial.freeIn(blocks, record) < count) continue
    for (let at = 0; at < BLOCK; at += count)
      if (partial.hasFrame(blocks, record, at) && partial.endOfRun(blocks, record, at, at + count) === at + count)
        return partial.blockOf(blocks, record) * BLOCK + at
  }
  return -1
}

/**
 * Takes these very frames, if they are all free, and tells whether it did: for the tables that hardware or firmware
 * puts at a fixed place.
 */
export function claim(pool: FramePool, start: number, count: number): boolean {
  if (start + count > pool.frames || !isAll(pool, start, count, true)) return false
  take(pool, start, count)
  return true
}

/** Gives back frames that are in use. To give back any that aren't is a bug of the caller, and throws. */
export function free(pool: FramePool, start: number, count: number): void {
  if (count === 1) {
    freeOne(pool, start)
    return
  }
  const end = start + count
  if (end > pool.frames || !isAll(pool, start, count, false)) throw notInUse(start, end)
  const first = Math.ceil(start / BLOCK)
  const last = end >>> 9
  if (first > last) freePart(pool, start, end)
  else {
    if (start < first * BLOCK) freePart(pool, start, first * BLOCK)
    if (first < last) {
      pageMap.setRange(pool.whole, first, last, 1)
      if (first < pool.lowest) pool.lowest = first
    }
    if (last * BLOCK < end) freePart(pool, last * BLOCK, end)
  }
  pool.free += count
}

function freeOne(pool: FramePool, frame: number): void {
  const block = frame >>> 9
  let record = partial.find(pool.partial, block)
  const isFreeNow =
    record === 0 ? pageMap.get(pool.whole, block) !== 0 : partial.hasFrame(pool.partial, record, frame & MASK)
  if (isFreeNow || frame >= pool.frames) throw notInUse(frame, frame + 1)
  if (record === 0) record = partial.add(pool.partial, block, false)
  partial.putFrame(pool.partial, record, frame & MASK)
  pool.free++
  if (partial.freeIn(pool.partial, record) === BLOCK) becomeWhole(pool, record)
}

const notInUse = (start: number, end: number): Error => new Error(`frames ${start} to ${end - 1} are not all in use`)

/** Puts back frames [start, end) of one block. */
function freePart(pool: FramePool, start: number, end: number): void {
  const block = start >>> 9
  const record = partial.find(pool.partial, block) || partial.add(pool.partial, block, false)
  const from = start & MASK
  partial.mark(pool.partial, record, from, from + end - start, true)
  if (partial.freeIn(pool.partial, record) === BLOCK) becomeWhole(pool, record)
}

function becomeWhole(pool: FramePool, record: number): void {
  const block = partial.blockOf(pool.partial, record)
  partial.drop(pool.partial, record)
  pageMap.set(pool.whole, block, 1)
  if (block < pool.lowest) pool.lowest = block
}

/** Whether frames are all free, or all in use. */
function isAll(pool: FramePool, start: number, count: number, free: boolean): boolean {
  const end = start + count
  let at = start
  while (at < end) {
    const block = at >>> 9
    const base = block * BLOCK
    const record = partial.find(pool.partial, block)
    if (record !== 0) {
      const from = at - base
      const stop = Math.min(end - base, BLOCK)
      if (partial.hasFrame(pool.partial, record, from) !== free) return false
      if (stop - from > 1 && partial.endOfRun(pool.partial, record, from, stop) < stop) return false
      at = base + stop
      continue
    }
    const whole = pageMap.get(pool.whole, block)
    if (whole !== (free ? 1 : 0)) return false
    if (end <= base + BLOCK) return true
    // All blocks that are whole, or all that aren't: but among the latter there may be partly used ones.
    let next = pageMap.nextRun(pool.whole, block, Math.ceil(end / BLOCK))
    if (whole === 0) next = pageMap.nextNonZero(pool.partial.records, block, next)
    at = next * BLOCK
  }
  return true
}

/** Takes frames that are all free. */
function take(pool: FramePool, start: number, count: number): void {
  pool.free -= count
  const end = start + count
  const first = Math.ceil(start / BLOCK)
  const last = end >>> 9
  if (first > last) takePart(pool, start, end)
  else {
    if (start < first * BLOCK) takePart(pool, start, first * BLOCK)
    pageMap.setRange(pool.whole, first, last, 0)
    if (last * BLOCK < end) takePart(pool, last * BLOCK, end)
  }
}

/** Takes frames [start, end) of one block. */
function takePart(pool: FramePool, start: number, end: number): void {
  const block = start >>> 9
  let record = partial.find(pool.partial, block)
  if (record === 0) {
    pageMap.set(pool.whole, block, 0)
    record = partial.add(pool.partial, block, true)
  }
  const from = start & MASK
  partial.mark(pool.partial, record, from, from + end - start, false)
  if (partial.freeIn(pool.partial, record) === 0) partial.drop(pool.partial, record)
}

/**
 * Takes frames from whole blocks: from the first run of them that holds all, else from the largest runs. Returns how
 * many frames are left to take: less than a block, or what there were no whole blocks for. An alignment above 1 leaves
 * none, or takes none and returns −1.
 */
function takeWhole(pool: FramePool, count: number, alignment: FrameAlignment, taken: FrameRun[]): number {
  const unit = alignment === 1 ? 1 : alignment / BLOCK
  const end = blocksOf(pool)
  const runs: FrameRun[] = []
  let found = 0
  let at = pageMap.nextNonZero(pool.whole, pool.lowest, end)
  while (at < end) {
    const next = pageMap.nextRun(pool.whole, at, end)
    const start = Math.ceil(at / unit) * unit * BLOCK
    const run = { start, count: Math.floor(next / unit) * unit * BLOCK - start }
    if (run.count >= count) {
      take(pool, start, count)
      taken.push({ start, count })
      return 0
    }
    if (run.count > 0) {
      runs.push(run)
      found += run.count
    }
    at = pageMap.nextNonZero(pool.whole, next, end)
  }
  if (alignment > 1 && found < count) return -1
  runs.sort((a, b) => b.count - a.count || a.start - b.start)
  let missing = count
  for (const run of runs) {
    if (missing < BLOCK) break
    const part = Math.min(run.count, missing)
    take(pool, run.start, part)
    taken.push({ start: run.start, count: part })
    missing -= part
  }
  return missing
}

/**
 * Takes less than a block, or more when no whole blocks are left: from a partly used block that has room for all of it
 * in one place, else from a whole block, else from whatever there is. Precondition: the pool has as many.
 */
function takeSmall(pool: FramePool, count: number, taken: FrameRun[]): void {
  const blocks = pool.partial
  let searched = 0
  for (
    let record = blocks.head;
    record !== 0 && searched < SEARCHED_PARTIALS;
    record = partial.nextOf(blocks, record)
  ) {
    searched++
    if (partial.freeIn(blocks, record) >= count && takeRun(pool, record, count, count, taken) > 0) return
  }
  const whole = pageMap.nextNonZero(pool.whole, pool.lowest, blocksOf(pool))
  if (whole < blocksOf(pool)) {
    take(pool, whole * BLOCK, count)
    taken.push({ start: whole * BLOCK, count })
    return
  }
  let missing = count
  while (missing > 0) missing -= takeRun(pool, blocks.head, 1, missing, taken)
}

/** Takes the first free run of a partly used block that has `least` frames, `most` of it; returns how many it took. */
function takeRun(pool: FramePool, record: number, least: number, most: number, taken: FrameRun[]): number {
  const base = partial.blockOf(pool.partial, record) * BLOCK
  let at = 0
  while (at < BLOCK) {
    const next = partial.endOfRun(pool.partial, record, at, BLOCK)
    if (next - at >= least && partial.hasFrame(pool.partial, record, at)) {
      const count = Math.min(next - at, most)
      take(pool, base + at, count)
      taken.push({ start: base + at, count })
      return count
    }
    at = next
  }
  return 0
}

function merged(runs: FrameRun[]): FrameRun[] {
  if (runs.length < 2) return runs
  runs.sort((a, b) => a.start - b.start)
  const result: FrameRun[] = []
  let { start, count } = runs[0] as FrameRun
  for (let index = 1; index < runs.length; index++) {
    const run = runs[index] as FrameRun
    if (run.start === start + count) count += run.count
    else {
      result.push({ start, count })
      start = run.start
      count = run.count
    }
  }
  result.push({ start, count })
  return result
}
