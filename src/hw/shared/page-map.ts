import {
  discard,
  equalNodes,
  fillPages,
  isUniform,
  joinSlot,
  type PageNode,
  recycle,
  SLOTS,
  skipSlots,
  splitSlot,
  take,
  writeSlot,
} from './page-map-node.ts'

/**
 * A number for every page: index 0 ≤ i < 2^40, value 0 ≤ v < 2^32, 0 where nothing was set. It's a radix tree in the
 * shape of the hardware's page tables (4 KiB, 2 MiB, 1 GiB, then regions of 512 GiB), in which whatever agrees is one
 * value: cost grows with the borders between runs, never with pages.
 *
 * Plain data that structured clone and v8.serialize copy; change it through this module alone. Mind that
 * v8.deserialize makes typed arrays that are windows into the bytes it read: two maps read from the same bytes would
 * be one, so read each from a copy of its own.
 *
 * Ranges are [start, end), in pages. Indexes are integers and not checked; a value must be unsigned (`x >>> 0`).
 */
export type PageMap = {
  /** The value of each region of 512 GiB; 0 for one that is split. Regions beyond the last are 0. */
  values: Uint32Array
  /** The tree of each region whose pages differ. As long as `values`. */
  readonly regions: (PageNode | null)[]
}

const GIB_SHIFT = 18
const BLOCK_SHIFT = 9
const MASK = 511
/** Pages of a region: 2^27. Indexes are beyond what shifts reach, so regions are found by division. */
const REGION = 2 ** 27

/** A map in which every page is 0. */
export const create = (): PageMap => ({ values: new Uint32Array(1), regions: new Array(1).fill(null) })

/** The value of a page. Allocates nothing. */
export function get(map: PageMap, index: number): number {
  const high = index < REGION ? 0 : Math.floor(index / REGION)
  if (high >= map.regions.length) return 0
  const region = map.regions[high]
  if (!region) return map.values[high] as number
  const low = index - high * REGION
  const gib = region.children[low >>> GIB_SHIFT]
  if (!gib) return region.values[low >>> GIB_SHIFT] as number
  const block = (low >>> BLOCK_SHIFT) & MASK
  const leaf = gib.children[block]
  return (leaf ? leaf.values[low & MASK] : gib.values[block]) as number
}

/** Sets the value of a page. Allocates only when its 2 MiB block splits for the first time. */
export function set(map: PageMap, index: number, value: number): void {
  const high = index < REGION ? 0 : Math.floor(index / REGION)
  if (high >= map.regions.length) {
    if (value === 0) return
    grow(map, high + 1)
  }
  let region = map.regions[high]
  if (!region) {
    if (map.values[high] === value) return
    region = splitRegion(map, high)
  }
  const low = index - high * REGION
  const slot = low >>> GIB_SHIFT
  let gib = region.children[slot]
  if (!gib) {
    if (region.values[slot] === value) return
    gib = splitSlot(region, slot, false)
  }
  const block = (low >>> BLOCK_SHIFT) & MASK
  let leaf = gib.children[block]
  if (!leaf) {
    if (gib.values[block] === value) return
    leaf = splitSlot(gib, block, true)
  }
  writeSlot(leaf, low & MASK, value)
  if (leaf.edges !== 0) return
  joinSlot(gib, block, leaf)
  if (!isUniform(gib)) return
  joinSlot(region, slot, gib)
  joinRegion(map, high, region)
}

/** Sets every page of a range to one value. An empty range changes nothing. */
export function setRange(map: PageMap, start: number, end: number, value: number): void {
  if (start >= end) return
  let stop = end
  if (value !== 0) grow(map, Math.ceil(end / REGION))
  else stop = Math.min(end, map.regions.length * REGION)
  let at = start
  while (at < stop) {
    const high = Math.floor(at / REGION)
    const base = high * REGION
    const next = Math.min(stop, base + REGION)
    fillRegion(map, high, at - base, next - base, value)
    at = next
  }
}

/** Replaces the value of every run of a range by what `change` makes of it. */
export function transform(map: PageMap, start: number, end: number, change: (value: number) => number): void {
  forEachRun(map, start, end, (from, to, value) => {
    setRange(map, from, to, change(value))
  })
}

/**
 * Where the run that begins at `start` ends: the first page that differs from it, or `end`. The run's value is
 * `get(map, start)`. Allocates nothing; precondition: start < end.
 */
export const nextRun = (map: PageMap, start: number, end: number): number =>
  endOfValue(map, start, end, get(map, start))

/** The first page of a range that isn't 0, or `end`. Allocates nothing. */
export const nextNonZero = (map: PageMap, start: number, end: number): number => endOfValue(map, start, end, 0)

/** Whether every page of a range has this value. True for an empty range. */
export const isAll = (map: PageMap, start: number, end: number, value: number): boolean =>
  endOfValue(map, start, end, value) >= end

/**
 * Calls `visit` with each maximal run of a range, in order. The visitor may change pages of the run it is given, and
 * pages before it.
 */
export function forEachRun(
  map: PageMap,
  start: number,
  end: number,
  visit: (start: number, end: number, value: number) => void,
): void {
  let at = start
  while (at < end) {
    const value = get(map, at)
    const next = endOfValue(map, at, end, value)
    visit(at, next, value)
    at = next
  }
}

/** How many pages of a range aren't 0. */
export function countNonZero(map: PageMap, start: number, end: number): number {
  let count = 0
  let at = start
  while (at < end) {
    const value = get(map, at)
    const next = endOfValue(map, at, end, value)
    if (value !== 0) count += next - at
    at = next
  }
  return count
}

/** Whether two maps have the same value for every page. Costs what the nodes of the smaller tree cost. */
export function equals(a: PageMap, b: PageMap): boolean {
  const count = Math.max(a.regions.length, b.regions.length)
  for (let high = 0; high < count; high++) {
    if ((a.values[high] ?? 0) !== (b.values[high] ?? 0)) return false
    const left = a.regions[high] ?? null
    const right = b.regions[high] ?? null
    if (left && right ? !equalNodes(left, right) : left !== right) return false
  }
  return true
}

/** The first page of [start, end) whose value isn't `value`, or `end`. */
function endOfValue(map: PageMap, start: number, end: number, value: number): number {
  let at = start
  while (at < end) {
    const high = at < REGION ? 0 : Math.floor(at / REGION)
    if (high >= map.regions.length) return value === 0 ? end : at
    const base = high * REGION
    const region = map.regions[high]
    if (region) {
      const stop = Math.min(end - base, REGION)
      const next = skipPages(region, at - base, stop, value)
      if (next < stop) return base + next
    } else if (map.values[high] !== value) return at
    at = base + REGION
  }
  return end
}

/** The same within a region, whose first page is 0; what is returned may lie beyond `stop`. */
function skipPages(region: PageNode, start: number, stop: number, value: number): number {
  let at = start
  while (at < stop) {
    const slot = at >>> GIB_SHIFT
    const gib = region.children[slot]
    if (!gib) {
      const next = skipSlots(region, slot, stop >>> GIB_SHIFT, value)
      if (next === slot) return at
      at = next << GIB_SHIFT
      continue
    }
    const block = (at >>> BLOCK_SHIFT) & MASK
    const leaf = gib.children[block]
    if (!leaf) {
      const next = skipSlots(gib, block, block + ((stop - at) >>> BLOCK_SHIFT), value)
      if (next === block) return at
      at = (slot << GIB_SHIFT) + (next << BLOCK_SHIFT)
      continue
    }
    const page = at & MASK
    const next = skipSlots(leaf, page, page + stop - at, value)
    at += next - page
    if (next < SLOTS) return at
  }
  return at
}

function fillRegion(map: PageMap, high: number, from: number, to: number, value: number): void {
  let region = map.regions[high]
  if (to - from === REGION) {
    map.regions[high] = null
    map.values[high] = value
    if (region) discard(region)
    return
  }
  if (!region) {
    if (map.values[high] === value) return
    region = splitRegion(map, high)
  }
  fillPages(region, GIB_SHIFT, from, to, value)
  joinRegion(map, high, region)
}

function splitRegion(map: PageMap, high: number): PageNode {
  const region = take(map.values[high] as number, false)
  map.values[high] = 0
  map.regions[high] = region
  return region
}

function joinRegion(map: PageMap, high: number, region: PageNode): void {
  if (!isUniform(region)) return
  map.regions[high] = null
  map.values[high] = region.values[0] as number
  recycle(region)
}

function grow(map: PageMap, count: number): void {
  if (count <= map.regions.length) return
  const values = new Uint32Array(count)
  values.set(map.values)
  map.values = values
  while (map.regions.length < count) map.regions.push(null)
}
