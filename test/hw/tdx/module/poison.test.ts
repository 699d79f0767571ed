import assert from 'node:assert/strict'
import { test } from 'node:test'
import { poison } from '../../../../src/hw/tdx/module/poison.ts'
import { forget } from '../../../../src/hw/tdx/module/sept-ranges.ts'
import { type Bench, createBench, FRAME, GFN, gpa, hpa, must, TDCX } from './td-bench.ts'

const place = { gpa: gpa(GFN) }

function poisonedPage(): Bench {
  const bench = createBench()
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  assert.ok(poison(bench.data, FRAME))
  return bench
}

test('d.6: only a TD’s page is poisoned', () => {
  const bench = createBench()
  assert.ok(!poison(bench.data, FRAME))
  assert.ok(!poison(bench.data, TDCX))
  assert.equal(bench.data.poisoned.size, 0)
})

test('d.6: ACCEPT and REMOVE leave no poison behind, nor does RELOCATE of a page without content', () => {
  const accepted = poisonedPage()
  must(accepted, 'TDG.MEM.PAGE.ACCEPT', place)
  assert.equal(accepted.data.poisoned.size, 0)
  for (const [name, args] of [
    ['TDH.MEM.PAGE.REMOVE', {}],
    ['TDH.MEM.PAGE.RELOCATE', { page: hpa(FRAME + 1) }],
  ] as const) {
    const bench = poisonedPage()
    must(bench, 'TDH.MEM.RANGE.BLOCK', place)
    must(bench, 'TDH.MEM.TRACK')
    must(bench, name, { ...place, ...args })
    assert.equal(bench.data.poisoned.size, 0)
  }
})

test('d.6: RELOCATE takes the poison along with the content', () => {
  const bench = createBench()
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  must(bench, 'TDG.MEM.PAGE.ACCEPT', place)
  assert.ok(poison(bench.data, FRAME))
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(FRAME + 1) })
  assert.deepEqual([...bench.data.poisoned], [FRAME + 1])
})

test('forget takes the frames of a range and no other, however many there are', () => {
  for (const count of [1, 3, 100]) {
    const frames = new Set([9, 10, 11, 12, 13, 200])
    forget(frames, 10, count)
    assert.deepEqual(
      [...frames],
      [9, 10, 11, 12, 13, 200].filter((frame) => frame < 10 || frame >= 10 + count),
    )
  }
})
