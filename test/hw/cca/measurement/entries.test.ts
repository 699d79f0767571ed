import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { deepestRootLevel, entryRuns, isRootLevel, spanOf } from '../../../../src/hw/cca/measurement/entries.ts'

const runs = (gfn: number, pages: number, rootLevel: number) =>
  [...entryRuns(gfn, pages, rootLevel)].map(({ gfn: at, span, count }) => [at, span, count])

test('arm-cca.md 9: 512 MiB at s2sz 33 are 256 entries of 2 MiB, 1 GiB aligned at s2sz 41 is one', () => {
  assert.deepEqual([deepestRootLevel(33), deepestRootLevel(41)], [2, 1])
  assert.deepEqual(runs(0x80000, 0x20000, 2), [[0x80000, 512, 256]])
  assert.deepEqual(runs(0x40000, 0x40000, 1), [[0x40000, 262144, 1]])
})

test('arm-cca.md 3: the root level that saves the most levels, for every width', () => {
  const levels = Array.from({ length: 21 }, (_, index) => deepestRootLevel(32 + index))
  const expected = [...Array(3).fill(2), ...Array(9).fill(1), ...Array(9).fill(0)]
  assert.deepEqual(levels, expected)
})

test('arm-cca.md 3: which root levels a width may have', () => {
  const legal = (s2sz: number) => [-1, 0, 1, 2, 3].filter((level) => isRootLevel(level, s2sz))
  assert.deepEqual(
    [30, 31, 32, 34, 35, 39, 40, 43, 44, 48, 49, 52, 53].map((s2sz) => [s2sz, ...legal(s2sz)]),
    [
      [30, 2],
      [31, 1, 2],
      [32, 1, 2],
      [34, 1, 2],
      [35, 1],
      [39, 1],
      [40, 0, 1],
      [43, 0, 1],
      [44, 0],
      [48, 0],
      [49, -1, 0],
      [52, -1, 0],
      [53],
    ],
  )
})

/** The entries one by one, by walking down from the root: what a table covers in part is split. */
function naive(gfn: number, end: number, at: number, level: number): [number, number][] {
  const span = spanOf(level)
  if (at >= end || at + span <= gfn) return []
  if (at >= gfn && at + span <= end) return [[at, span]]
  const below = spanOf(level + 1)
  return Array.from({ length: 512 }, (_, index) => naive(gfn, end, at + index * below, level + 1)).flat()
}

test('arm-cca.md 8: the entries of any range are those of the tables it needs', () => {
  const start = fc.integer({ min: 0, max: 2 ** 19 })
  const length = fc.oneof(fc.integer({ min: 1, max: 2000 }), fc.integer({ min: 1, max: 2 ** 19 }))
  fc.assert(
    fc.property(start, length, fc.constantFrom(1, 2), (gfn, pages, rootLevel) => {
      const expected: [number, number][] = []
      for (let at = 0; at < gfn + pages; at += spanOf(rootLevel))
        expected.push(...naive(gfn, gfn + pages, at, rootLevel))
      const entries = [...entryRuns(gfn, pages, rootLevel)].flatMap(({ gfn: at, span, count }) =>
        Array.from({ length: count }, (_, index): [number, number] => [at + index * span, span]),
      )
      assert.deepEqual(entries, expected)
    }),
    { numRuns: 60 },
  )
})

test('arm-cca.md 3: the widest space is a handful of runs', () => {
  assert.deepEqual(runs(1, 2 ** 39 - 2, 0).length, 7)
  assert.deepEqual(runs(0, 2 ** 39, -1), [[0, 2 ** 36, 8]])
})
