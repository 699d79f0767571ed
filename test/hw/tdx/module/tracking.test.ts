import assert from 'node:assert/strict'
import { test } from 'node:test'
import { setEpoch } from '../../../../src/hw/tdx/module/pamt.ts'
import { kickAll } from '../../../../src/hw/tdx/module/tracking.ts'
import {
  type Bench,
  createBench,
  FRAME,
  GFN,
  gpa,
  hpa,
  must,
  refuses,
  stateAt,
  TDVPR,
  tdOf,
  vcpuOf,
} from './td-bench.ts'

const BUSY = '0x8000020100000000'
const NOT_TRACKED = '0xc0000b0800000001'
const place = { gpa: gpa(GFN) }

/** A running TD with two vCPUs and a page at {@link GFN}. */
function withPage(): Bench {
  const bench = createBench('runnable', { vcpus: 2 })
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  return bench
}

test('c.4: BLOCK, TRACK, no vCPU inside: REMOVE', () => {
  const bench = withPage()
  refuses(bench, '0xc0000b0600000001', 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
})

test('c.4: a vCPU inside since before the TRACK keeps the page; the kick frees it', () => {
  const bench = withPage()
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.TRACK')
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', place)
  refuses(bench, BUSY, 'TDH.MEM.TRACK')
  must(bench, 'INTERRUPT')
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.TRACK')
})

test('c.4: a vCPU that enters after the TRACK does not matter', () => {
  const bench = withPage()
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
})

test('c.4: every vCPU inside must leave, and one that re-enters is of the new epoch', () => {
  const bench = withPage()
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDH.VP.ENTER', {}, 1)
  assert.deepEqual(tdOf(bench).refcount, [0, 2])
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'INTERRUPT')
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.VP.ENTER')
  assert.deepEqual(tdOf(bench).refcount, [1, 1])
  refuses(bench, BUSY, 'TDH.MEM.TRACK')
  must(bench, 'INTERRUPT', {}, 1)
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.TRACK')
  refuses(bench, BUSY, 'TDH.MEM.TRACK')
})

test('c.4: one TRACK serves all that was blocked before it, none that was blocked after', () => {
  const bench = withPage()
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 1), page: hpa(FRAME + 1) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 2), page: hpa(FRAME + 2) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN + 1) })
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN + 2) })
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(GFN + 1) })
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(GFN + 2) })
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(GFN + 2) })
})

test('c.3, c.4: blocking again keeps the epoch of the first time', () => {
  const bench = withPage()
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.TRACK')
  refuses(bench, '0xb0700000001', 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
})

test('c.3: UNBLOCK without tracking names the SEPT tree', () => {
  const bench = withPage()
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, '0xc0000b0800000092', 'TDH.MEM.RANGE.UNBLOCK', place)
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDH.MEM.TRACK')
  refuses(bench, '0xc0000b0800000092', 'TDH.MEM.RANGE.UNBLOCK', place)
  must(bench, 'INTERRUPT')
  must(bench, 'TDH.MEM.RANGE.UNBLOCK', place)
  assert.equal(stateAt(bench, GFN), 'PENDING')
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', place)
})

test('a.2, c.4: nothing of it is demanded before finalisation', () => {
  const bench = createBench('with vCPU')
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.RANGE.UNBLOCK', place)
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.TRACK')
})

test('c.4: a blocked table is tracked by its own epoch', () => {
  const bench = withPage()
  const table = { gpa: gpa(GFN), level: 2 }
  must(bench, 'TDH.MEM.RANGE.BLOCK', table)
  refuses(bench, '0xc0000b0800000092', 'TDH.MEM.RANGE.UNBLOCK', table)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.RANGE.UNBLOCK', table)
  assert.equal(stateAt(bench, GFN), 'PENDING')
})

test('c.4: counters survive epochs beyond 32 bits', () => {
  const bench = withPage()
  const td = tdOf(bench)
  td.epoch = 2 ** 32 - 1
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, NOT_TRACKED, 'TDH.MEM.PAGE.REMOVE', place)
  setEpoch(bench.data.pamt, FRAME, 1, 5)
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
})

test('a.4 VP.ENTER: once, on the LP it is associated with, until it leaves', () => {
  const bench = createBench('runnable', { vcpus: 2 })
  refuses(bench, '0x8000070100000000', 'TDH.VP.ENTER', { lp: 1 })
  assert.deepEqual(must(bench, 'TDH.VP.ENTER'), { running: true, vcpu: 0, lp: 0, epoch: 1 })
  refuses(bench, '0xc000070000000000', 'TDH.VP.ENTER')
  assert.deepEqual(must(bench, 'INTERRUPT').exit, { rax: '0x1', exitReason: 1, name: 'EXTERNAL_INTERRUPT' })
  assert.deepEqual(must(bench, 'INTERRUPT').exit, null)
  must(bench, 'TDH.VP.FLUSH')
  assert.equal(must(bench, 'TDH.VP.ENTER', { lp: 9 }).lp, 9)
  refuses(bench, '0xc000030000000001', 'TDH.VP.ENTER', { tdvpr: hpa(TDVPR + 1) })
  refuses(bench, '0xc000030000000001', 'INTERRUPT', { tdvpr: hpa(TDVPR + 1) })
})

test('a.4 VP.ENTER: not READY comes before another LP', () => {
  const bench = createBench('runnable')
  must(bench, 'TDH.VP.ENTER')
  refuses(bench, '0xc000070000000000', 'TDH.VP.ENTER', { lp: 7 })
})

test('a.4: a triple fault disables the vCPU for ever', () => {
  const bench = createBench('runnable')
  must(bench, 'TDH.VP.ENTER')
  const result = bench.run('TRIPLE_FAULT')
  assert.equal(result.kind === 'done' && result.status.code, '0x4000000100000002')
  assert.deepEqual(tdOf(bench).refcount, [0, 0])
  assert.equal(vcpuOf(bench).state, 8)
  refuses(bench, '0xc000070000000000', 'TDH.VP.ENTER')
  refuses(bench, '0xc000070000000000', 'TDG.VP.INFO')
  must(bench, 'TDH.VP.FLUSH')
})

test('c.4: KVM’s kick makes every vCPU leave, and costs nothing when none is inside', () => {
  const bench = createBench('runnable', { vcpus: 3 })
  assert.equal(kickAll(tdOf(bench)), 0)
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.VP.ENTER', {}, 2)
  assert.equal(kickAll(tdOf(bench)), 2)
  assert.deepEqual(tdOf(bench).refcount, [0, 0])
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.VP.ENTER')
})
