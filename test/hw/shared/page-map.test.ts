import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import v8 from 'node:v8'
import fc from 'fast-check'
import * as pageMap from '../../../src/hw/shared/page-map.ts'

const GIB = 262144
const REGION = 2 ** 27
const END = 2 ** 40

// A universe of some windows, each on a border of the tree's: the model holds only these pages.
const WINDOW = 1100
const bases = [0, GIB - 550, REGION - 550, 3 * REGION + 511 * GIB, 2 ** 31 - 550, END - WINDOW] as const
const borders = [0, 1, 37, 38, 39, 511, 512, 513, 549, 550, 551, 1024, 1062, WINDOW - 1, WINDOW]

type Command = { base: number; from: number; to: number; value: number }

const offset = fc.oneof(fc.constantFrom(...borders), fc.nat(WINDOW))
const command: fc.Arbitrary<Command> = fc
  .record({
    base: fc.constantFrom(...bases),
    a: offset,
    b: offset,
    single: fc.boolean(),
    value: fc.oneof(fc.constantFrom(0, 1, 2, 0xffffffff), fc.nat(3)),
  })
  .map(({ base, a, b, single, value }) => {
    const from = Math.min(a, b)
    return { base, from, to: single ? Math.min(from + 1, WINDOW) : Math.max(a, b), value }
  })
const commands = fc.array(command, { maxLength: 40 })

function apply(map: pageMap.PageMap, { base, from, to, value }: Command): void {
  if (to - from === 1) pageMap.set(map, base + from, value)
  else pageMap.setRange(map, base + from, base + to, value)
}

function build(list: readonly Command[]): { map: pageMap.PageMap; model: Map<number, number[]> } {
  const map = pageMap.create()
  const model = new Map(bases.map((base) => [base, new Array<number>(WINDOW).fill(0)]))
  for (const item of list) {
    apply(map, item)
    model.get(item.base)?.fill(item.value, item.from, item.to)
  }
  return { map, model }
}

function runsOf(array: readonly number[], base: number): [number, number, number][] {
  const runs: [number, number, number][] = []
  array.forEach((value, index) => {
    const last = runs.at(-1)
    if (last && last[2] === value) last[1] = base + index + 1
    else runs.push([base + index, base + index + 1, value])
  })
  return runs
}

function runs(map: pageMap.PageMap, start: number, end: number): [number, number, number][] {
  const found: [number, number, number][] = []
  pageMap.forEachRun(map, start, end, (...run) => found.push(run))
  return found
}

/** The tree's own rules: no uniform child, 0 in a split slot, counters that are true. */
function checkInvariants(map: pageMap.PageMap): void {
  assert.equal(map.values.length, map.regions.length)
  map.regions.forEach((region, index) => {
    if (region) {
      assert.equal(map.values[index], 0)
      checkNode(region, 2)
    }
  })
}

function checkNode(node: NonNullable<pageMap.PageMap['regions'][number]>, level: number): void {
  let edges = 0
  for (let slot = 1; slot < 512; slot++) if (node.values[slot] !== node.values[slot - 1]) edges++
  assert.equal(node.edges, edges)
  assert.equal(node.split, node.children.filter((child) => child !== null).length)
  assert.ok(node.edges > 0 || node.split > 0, 'a uniform node is collapsed')
  assert.equal(node.children.length, level === 0 ? 0 : 512)
  node.children.forEach((child, slot) => {
    if (child) {
      assert.equal(node.values[slot], 0)
      checkNode(child, level - 1)
    }
  })
}

describe('PageMap', () => {
  it('holds what a plain array holds', () => {
    fc.assert(
      fc.property(commands, (list) => {
        const { map, model } = build(list)
        checkInvariants(map)
        for (const [base, array] of model) {
          array.forEach((value, index) => {
            if (pageMap.get(map, base + index) !== value) assert.fail(`page ${base} + ${index} is not ${value}`)
          })
          assert.deepEqual(runs(map, base, base + WINDOW), runsOf(array, base))
          assert.equal(pageMap.countNonZero(map, base, base + WINDOW), array.filter((value) => value !== 0).length)
        }
      }),
    )
  })

  it('answers for any part of a range', () => {
    fc.assert(
      fc.property(commands, command, (list, { base, from, to, value }) => {
        const { map, model } = build(list)
        const part = (model.get(base) ?? []).slice(from, to)
        const [start, end] = [base + from, base + to]
        const firstNonZero = part.findIndex((page) => page !== 0)
        assert.equal(pageMap.nextNonZero(map, start, end), firstNonZero < 0 ? end : start + firstNonZero)
        assert.equal(
          pageMap.isAll(map, start, end, value),
          part.every((page) => page === value),
        )
        assert.deepEqual(runs(map, start, end), runsOf(part, start))
        const differing = part.findIndex((page) => page !== part[0])
        if (from < to) assert.equal(pageMap.nextRun(map, start, end), differing < 0 ? end : start + differing)
      }),
    )
  })

  it('is the same tree for the same contents, whatever was done before', () => {
    fc.assert(
      fc.property(commands, commands, (before, list) => {
        const { map, model } = build([...before, ...list])
        // The same contents page by page from the last to the first, over a map where everything was something else.
        const other = pageMap.create()
        pageMap.setRange(other, 0, END, 77)
        pageMap.setRange(other, 0, END, 0)
        for (const [base, array] of [...model].reverse()) {
          for (let index = WINDOW - 1; index >= 0; index--) pageMap.set(other, base + index, array[index] ?? 0)
        }
        assert.ok(pageMap.equals(map, other))
        assert.ok(pageMap.equals(other, map))
        pageMap.set(map, END - 1, 0)
        pageMap.set(map, END - 1, 1)
        pageMap.set(other, END - 1, 1)
        assert.deepEqual(map, other)
        pageMap.set(other, REGION, pageMap.get(map, REGION) + 1)
        assert.ok(!pageMap.equals(map, other))
      }),
      { numRuns: 30 },
    )
  })

  it('goes on working after a checkpoint is read back', () => {
    fc.assert(
      fc.property(commands, commands, (before, after) => {
        const { map } = build(before)
        const bytes = v8.serialize(map)
        const copies: pageMap.PageMap[] = [v8.deserialize(Buffer.from(bytes)), structuredClone(map)]
        for (const item of after) for (const each of [map, ...copies]) apply(each, item)
        for (const copy of copies) {
          checkInvariants(copy)
          assert.ok(pageMap.equals(map, copy))
        }
      }),
      { numRuns: 50 },
    )
  })

  it('leaves nothing behind when a lone page is toggled', () => {
    const map = pageMap.create()
    pageMap.setRange(map, 0, REGION, 5)
    const before = structuredClone(map)
    for (let round = 0; round < 3; round++) {
      pageMap.set(map, 4711, 6)
      assert.deepEqual(runs(map, 0, REGION), [
        [0, 4711, 5],
        [4711, 4712, 6],
        [4712, REGION, 5],
      ])
      pageMap.set(map, 4711, 5)
      assert.deepEqual(map, before)
    }
  })

  it('keeps maps apart that reuse the same spare nodes', () => {
    const maps = [1, 2, 3].map((value) => {
      const map = pageMap.create()
      pageMap.setRange(map, 0, 2 * GIB, value)
      return map
    })
    for (let round = 0; round < 4; round++) {
      for (const [index, map] of maps.entries()) pageMap.set(map, GIB + index, round % 2 === 0 ? 9 : index + 1)
    }
    for (const [index, map] of maps.entries()) {
      checkInvariants(map)
      assert.ok(pageMap.isAll(map, 0, 2 * GIB, index + 1))
    }
  })

  it('collapses a range that is overwritten as a whole', () => {
    const map = pageMap.create()
    for (let page = 0; page < 4 * GIB; page += 1000) pageMap.set(map, page, 1 + (page % 7))
    checkInvariants(map)
    pageMap.setRange(map, 0, REGION, 3)
    assert.deepEqual(map.regions, [null])
    assert.equal(map.values[0], 3)
    pageMap.setRange(map, 0, END, 0)
    assert.ok(pageMap.equals(map, pageMap.create()))
  })

  it('covers all 2^40 pages', () => {
    const map = pageMap.create()
    pageMap.setRange(map, 1, END, 0xffffffff)
    assert.deepEqual(runs(map, 0, END), [
      [0, 1, 0],
      [1, END, 0xffffffff],
    ])
    assert.equal(pageMap.countNonZero(map, 0, END), END - 1)
    pageMap.set(map, END - 1, 8)
    assert.equal(pageMap.get(map, END - 1), 8)
    assert.equal(pageMap.nextRun(map, 1, END), END - 1)
    assert.equal(pageMap.nextNonZero(map, 0, END), 1)
    checkInvariants(map)
  })

  it('reads 0 beyond what was ever set, and setting 0 there costs nothing', () => {
    const map = pageMap.create()
    pageMap.set(map, END - 1, 0)
    pageMap.setRange(map, REGION - 5, END, 0)
    assert.equal(map.regions.length, 1)
    assert.equal(pageMap.get(map, END - 1), 0)
    assert.equal(pageMap.nextRun(map, 0, END), END)
  })

  it('changes nothing for an empty range', () => {
    const map = pageMap.create()
    pageMap.setRange(map, 10, 10, 1)
    assert.ok(pageMap.equals(map, pageMap.create()))
    assert.deepEqual(runs(map, 10, 10), [])
    assert.equal(pageMap.countNonZero(map, 10, 10), 0)
    assert.ok(pageMap.isAll(map, 10, 10, 1))
  })

  it('transforms each run of a range', () => {
    fc.assert(
      fc.property(commands, command, (list, { base, from, to, value }) => {
        const { map, model } = build(list)
        const change = (page: number): number => (page ^ value) >>> 0
        pageMap.transform(map, base + from, base + to, change)
        checkInvariants(map)
        const expected = (model.get(base) ?? []).map((page, index) =>
          index >= from && index < to ? change(page) : page,
        )
        assert.deepEqual(runs(map, base, base + WINDOW), runsOf(expected, base))
      }),
    )
  })

  it('lets a visitor change the run it is given', () => {
    const map = pageMap.create()
    for (let page = 0; page < 2000; page += 2) pageMap.set(map, page, 1)
    pageMap.forEachRun(map, 0, 2000, (start, end) => pageMap.setRange(map, start, end, 2))
    assert.deepEqual(runs(map, 0, 2001), [
      [0, 2000, 2],
      [2000, 2001, 0],
    ])
  })
})
