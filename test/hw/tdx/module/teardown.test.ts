import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as PageMap from '../../../../src/hw/shared/page-map.ts'
import { KEY_STATE, keyState } from '../../../../src/hw/tdx/module/kot.ts'
import { PAGE_TYPE, typeOf } from '../../../../src/hw/tdx/module/pamt.ts'
import {
  addTables,
  type Bench,
  buildTd,
  createBench,
  createEmptyBench,
  FRAME,
  FRAMES,
  GFN,
  gpa,
  hpa,
  must,
  refuses,
  TABLES,
  TDCX,
  TDR,
  TDVPR,
  tdOf,
  typeAt,
} from './td-bench.ts'

const LIFECYCLE_STATE_INCORRECT = '0xc000060700000000'

/** Every frame that is assigned, the TDR last. */
function assigned({ data }: Bench): number[] {
  const frames: number[] = []
  PageMap.forEachRun(data.pamt.types, 0, data.pamt.ownStart, (start, end, entry) => {
    const step = typeOf(entry) === PAGE_TYPE.REG ? 512 ** ((entry >>> 4) & 0xf) : 1
    if (entry !== 0) for (let at = start; at < end; at += step) if (at !== TDR) frames.push(at)
  })
  return [...frames, TDR]
}

function withPages(): Bench {
  const bench = createBench('runnable', { vcpus: 2 })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 512), level: 1, page: hpa(FRAME + 512) })
  return bench
}

function tearDown(bench: Bench): void {
  for (const vcpu of [0, 1]) must(bench, 'TDH.VP.FLUSH', {}, vcpu)
  must(bench, 'TDH.MNG.VPFLUSHDONE')
  for (const index of [0, 1]) must(bench, 'TDH.PHYMEM.CACHE.WB', { package: index })
  must(bench, 'TDH.MNG.KEY.FREEID')
}

test('a.5: the only order that works, and everything is free again', () => {
  const bench = withPages()
  const { hkid } = tdOf(bench)
  refuses(bench, '0x8000082400000000', 'TDH.MNG.VPFLUSHDONE')
  refuses(bench, LIFECYCLE_STATE_INCORRECT, 'TDH.MNG.KEY.FREEID')
  refuses(bench, '0x82100000000', 'TDH.PHYMEM.CACHE.WB')
  refuses(bench, LIFECYCLE_STATE_INCORRECT, 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAME) })
  must(bench, 'TDH.VP.FLUSH')
  refuses(bench, '0x8000082400000000', 'TDH.MNG.VPFLUSHDONE')
  must(bench, 'TDH.VP.FLUSH', {}, 1)
  must(bench, 'TDH.MNG.VPFLUSHDONE')
  assert.equal(keyState(bench.data.kot, hkid), KEY_STATE.FLUSHED)
  refuses(bench, LIFECYCLE_STATE_INCORRECT, 'TDH.MNG.VPFLUSHDONE')
  refuses(bench, '0x8000081000000000', 'TDH.VP.FLUSH')
  refuses(bench, '0x8000081700000000', 'TDH.MNG.KEY.FREEID')
  must(bench, 'TDH.PHYMEM.CACHE.WB', { package: 1 })
  refuses(bench, '0x8000081700000000', 'TDH.MNG.KEY.FREEID')
  must(bench, 'TDH.PHYMEM.CACHE.WB', { package: 0 })
  must(bench, 'TDH.PHYMEM.CACHE.WB', { package: 0 })
  refuses(bench, LIFECYCLE_STATE_INCORRECT, 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAME) })
  must(bench, 'TDH.MNG.KEY.FREEID')
  assert.equal(keyState(bench.data.kot, hkid), KEY_STATE.FREE)
  refuses(bench, LIFECYCLE_STATE_INCORRECT, 'TDH.MNG.KEY.FREEID')
  const frames = assigned(bench)
  assert.equal(frames.length, 6 + 2 * 6 + 3 + 2 + 1)
  for (const frame of frames) {
    if (frame !== TDR) refuses(bench, '0xc000040000000000', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(TDR) })
    must(bench, 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(frame) })
    assert.equal(typeAt(bench, frame), 'PT_NDA')
  }
  assert.equal(bench.data.tds.size, 0)
  assert.ok(bench.data.pamt.owners.every((tdr) => tdr === -1))
  assert.ok(PageMap.isAll(bench.data.pamt.types, 0, bench.data.pamt.ownStart, 0))
  buildTd(bench, 'runnable')
})

test('a.5 step 2: VPFLUSHDONE is legal before the keys are configured', () => {
  const bench = createEmptyBench()
  buildTd(bench, 'created')
  must(bench, 'TDH.MNG.VPFLUSHDONE')
  assert.equal(tdOf(bench).lifecycle, 2)
})

test('a.5 step 1: a vCPU must be flushed on its own LP, even one that never ran', () => {
  const bench = createBench('with vCPU', { vcpus: 2 })
  refuses(bench, '0x8000070200000000', 'TDH.VP.FLUSH', { lp: 1 })
  must(bench, 'TDH.VP.FLUSH', { lp: 0 })
  refuses(bench, '0x8000070200000000', 'TDH.VP.FLUSH', { lp: 0 })
  must(bench, 'TDH.VP.FLUSH', { lp: 1 }, 1)
  refuses(bench, '0xc000030000000001', 'TDH.VP.FLUSH', { tdvpr: hpa(TDR) })
  refuses(bench, '0xc000010000000001', 'TDH.VP.FLUSH', {}, 2)
})

test('a.5 step 1: a vCPU that is inside holds its lock', () => {
  const bench = createBench('runnable')
  must(bench, 'TDH.VP.ENTER')
  refuses(bench, '0x8000020000000001', 'TDH.VP.FLUSH')
  must(bench, 'INTERRUPT')
  must(bench, 'TDH.VP.FLUSH')
})

test('a.5 step 3: CACHE.WB refuses other commands, and to resume', () => {
  const bench = createEmptyBench()
  buildTd(bench, 'created')
  refuses(bench, '0xc000010000000001', 'TDH.PHYMEM.CACHE.WB', { command: 2 })
  refuses(bench, '0x82100000000', 'TDH.PHYMEM.CACHE.WB', { command: 1 })
  must(bench, 'TDH.MNG.VPFLUSHDONE')
  refuses(bench, '0xc000082300000000', 'TDH.PHYMEM.CACHE.WB', { command: 1 })
  must(bench, 'TDH.PHYMEM.CACHE.WB')
})

test('a.5 step 5: RECLAIM tells type, owner and size, and counts children down by the size', () => {
  const bench = withPages()
  tearDown(bench)
  const before = tdOf(bench).childCount
  bench.machine.write(FRAME + 600, new Uint8Array(4096).fill(1))
  const page = { rcx: '0x3', rdx: hpa(TDR), r8: '0x1', page: { type: 'PT_REG', level: 1, tdr: hpa(TDR) } }
  assert.deepEqual(refuses(bench, '0xc000010000000001', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAME + 513) }), {
    operand: 'RCX',
    ...page,
  })
  assert.deepEqual(must(bench, 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAME + 512) }), page)
  assert.equal(tdOf(bench).childCount, before - 512)
  assert.equal(bench.machine.read(FRAME + 600), undefined)
  must(bench, 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(TABLES) })
  assert.equal(tdOf(bench).childCount, before - 513)
  refuses(bench, '0xc000030000000001', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAME + 512) })
  refuses(bench, '0xc000030000000001', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAMES - 1) })
  refuses(bench, '0xc000010000000001', 'TDH.PHYMEM.PAGE.RECLAIM', { page: '0x1' })
  refuses(bench, '0xc000010100000001', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAMES) })
})

test('a.5 step 6: WBINVD takes free pages, whatever key is in the address', () => {
  const bench = createBench()
  must(bench, 'TDH.PHYMEM.PAGE.WBINVD', { page: `0x${((65n << 45n) | 0x40000000n).toString(16)}` })
  refuses(bench, '0xc000030000000001', 'TDH.PHYMEM.PAGE.WBINVD', { page: hpa(TDR) })
  refuses(bench, '0xc000010000000001', 'TDH.PHYMEM.PAGE.WBINVD', { page: '0x10000000000000' })
  refuses(bench, '0xc000010000000001', 'TDH.PHYMEM.PAGE.WBINVD', { page: '0x1' })
  refuses(bench, '0xc000010100000001', 'TDH.PHYMEM.PAGE.WBINVD', { page: hpa(FRAMES) })
})

test('b: RDMD shows any page in any state', () => {
  const bench = withPages()
  const show = (frame: number): unknown => {
    const { rcx, rdx, r8, r9 } = must(bench, 'TDH.PHYMEM.PAGE.RDMD', { page: hpa(frame) })
    return [rcx, rdx, r8, r9]
  }
  assert.deepEqual(show(TDR), ['0x4', '0x0', '0x0', '0x0'])
  assert.deepEqual(show(TDCX), ['0x5', hpa(TDR), '0x0', '0x0'])
  assert.deepEqual(show(TDVPR), ['0x6', hpa(TDR), '0x0', '0x0'])
  assert.deepEqual(show(TABLES), ['0x8', hpa(TDR), '0x0', '0x0'])
  assert.deepEqual(show(FRAME), ['0x3', hpa(TDR), '0x0', '0x0'])
  assert.deepEqual(show(FRAME + 700), ['0x3', hpa(TDR), '0x1', '0x0'])
  assert.deepEqual(show(FRAME + 1024), ['0x0', '0x0', '0x0', '0x0'])
  assert.deepEqual(show(FRAMES - 1), ['0x1', '0x0', '0x0', '0x0'])
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN) })
  assert.deepEqual(show(FRAME), ['0x3', hpa(TDR), '0x0', '0x2'])
  tearDown(bench)
  assert.deepEqual(show(FRAME), ['0x3', hpa(TDR), '0x0', '0x2'])
})

test('a.5: a torn down TD keeps its key until FREEID, and another TD lives on', () => {
  const bench = createEmptyBench()
  buildTd(bench, 'runnable', { vcpus: 2 })
  buildTd(bench, 'runnable', { tdr: 0x1000, base: 0x1000 })
  addTables(bench, GFN)
  tearDown(bench)
  assert.equal(tdOf(bench, 0x1000).lifecycle, 1)
  must(bench, 'TDH.VP.ENTER', { tdvpr: hpa(0x1000 + TDVPR) })
  must(bench, 'TDH.MNG.CREATE', { page: hpa(0x2000), hkid: 65 })
})
