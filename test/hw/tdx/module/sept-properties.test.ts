import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deserialize, serialize } from 'node:v8'
import fc from 'fast-check'
import * as PageMap from '../../../../src/hw/shared/page-map.ts'
import type { TdxData } from '../../../../src/hw/tdx/data.ts'
import { epochOf, entryAt as pamtEntry, sizeOf, typeName, typeOf } from '../../../../src/hw/tdx/module/pamt.ts'
import {
  entryAt,
  firstMissingTable,
  leafAt,
  stateOfLeaf,
  tableRunEnd,
  walk,
} from '../../../../src/hw/tdx/module/sept.ts'
import { acceptRange, augRange, removeRange } from '../../../../src/hw/tdx/module/sept-ranges.ts'
import { STATE, stateName } from '../../../../src/hw/tdx/module/states.ts'
import { EXIT, NaiveTd } from './naive-td.ts'
import { addTables, type Bench, createBench, FRAME, GFN, gpa, hpa, must, tdOf } from './td-bench.ts'

const BLOCKS = 4
const PAGES = BLOCKS * 512
/** As many frames of data, then a few for tables. */
const FRAMES_USED = PAGES + 8
const VCPUS = 2
const RUNS = 600

type Step = { readonly op: string; readonly gfn: number; readonly level: number; readonly frame: number }

const places = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(0, 1, 511, 512, 513, 1024) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: PAGES - 1 }) },
)
const tableFrames = fc.integer({ min: PAGES, max: FRAMES_USED - 1 })

/** What happens to one place in turn; `settle` is two TRACKs with nobody inside. */
const LIVES = [
  ['aug', 'accept', 'block', 'settle', 'remove'],
  ['aug', 'block', 'track', 'remove'],
  ['aug', 'accept', 'block', 'settle', 'unblock', 'block', 'remove'],
  ['aug', 'block', 'settle', 'relocate', 'accept'],
  ['aug', 'accept', 'block', 'track', 'relocate', 'remove'],
  ['enter', 'aug', 'block', 'track', 'remove', 'leave', 'remove'],
  ['accept', 'aug', 'aug', 'accept', 'accept'],
] as const
const BLOCK_LIVES = [
  ['aug', 'accept', 'block', 'settle', 'demote', 'block', 'settle', 'promote'],
  ['aug', 'block', 'settle', 'demote', 'septRemove', 'aug'],
  ['septAdd', 'fill', 'block', 'settle', 'promote', 'accept'],
  ['septAdd', 'block', 'settle', 'septRemove', 'aug', 'accept'],
  ['aug', 'demote', 'promote', 'remove', 'septAdd'],
  ['blockRoot', 'aug', 'accept', 'settle', 'unblockRoot', 'aug'],
] as const
const ANY = ['aug', 'accept', 'block', 'unblock', 'remove', 'relocate', 'track', 'enter', 'leave', 'settle'] as const
const ANY_BLOCK = [...ANY, 'septAdd', 'septRemove', 'promote', 'demote', 'fill'] as const

const ofPage = fc.tuple(
  fc.oneof(
    fc.constantFrom(...LIVES),
    fc.constantFrom(...ANY).map((op) => [op]),
  ),
  places,
)
const ofBlock = fc.tuple(
  fc.oneof(
    fc.constantFrom(...BLOCK_LIVES),
    fc.constantFrom(...LIVES),
    fc.constantFrom(...ANY_BLOCK).map((op) => [op]),
  ),
  places,
)
const steps: fc.Arbitrary<Step[]> = fc
  .tuple(fc.boolean(), ofPage, ofBlock, places, tableFrames, fc.constantFrom(0, 0, 0, 1))
  .map(([isPage, page, block, shifted, table, shift]) => {
    const [ops, place] = isPage ? page : block
    const gfn = isPage ? place : place - (place % 512)
    const level = isPage ? 0 : 1
    const data = isPage ? (shift === 0 ? gfn : shifted) : (gfn + shift * 512) % PAGES
    return ops.map((op) => ({
      op,
      gfn,
      level,
      frame: op === 'relocate' ? shifted : ['septAdd', 'demote'].includes(op) ? table : data,
    }))
  })

/** The real TD's answer and the model's, as codes. */
function apply(bench: Bench, naive: NaiveTd, step: Step): readonly [real: string, model: string] {
  const { op, gfn, level, frame } = step
  const place = { gpa: gpa(GFN + gfn), level }
  const page = { page: hpa(FRAME + frame) }
  const root = { gpa: gpa(GFN), level: 2 }
  const run = (name: string, args: Readonly<Record<string, unknown>>, vcpu = 0): string => {
    const result = bench.run(name, args, vcpu)
    return result.kind === 'done' ? String(result.status.code) : EXIT
  }
  switch (op) {
    case 'aug':
      return [run('TDH.MEM.PAGE.AUG', { ...place, ...page }), naive.aug(gfn, level, frame)]
    case 'accept':
      return [run('TDG.MEM.PAGE.ACCEPT', place, VCPUS), naive.accept(gfn, level)]
    case 'block':
      return [run('TDH.MEM.RANGE.BLOCK', place), naive.blockRange(gfn, level)]
    case 'unblock':
      return [run('TDH.MEM.RANGE.UNBLOCK', place), naive.unblock(gfn, level)]
    case 'remove':
      return [run('TDH.MEM.PAGE.REMOVE', place), naive.remove(gfn, level)]
    case 'septAdd':
      return [run('TDH.MEM.SEPT.ADD', { ...place, ...page }), naive.septAdd(gfn, frame)]
    case 'septRemove':
      return [run('TDH.MEM.SEPT.REMOVE', place), naive.septRemove(gfn)]
    case 'promote':
      return [run('TDH.MEM.PAGE.PROMOTE', place), naive.promote(gfn)]
    case 'demote':
      return [run('TDH.MEM.PAGE.DEMOTE', { ...place, ...page }), naive.demote(gfn, frame)]
    case 'relocate':
      return [run('TDH.MEM.PAGE.RELOCATE', { ...place, level: 0, ...page }), naive.relocate(gfn, frame)]
    case 'settle':
      for (const vcpu of [0, 1]) run('INTERRUPT', {}, vcpu)
      for (const vcpu of [0, 1]) naive.leave(vcpu)
      return [`${run('TDH.MEM.TRACK', {})} ${run('TDH.MEM.TRACK', {})}`, `${naive.track()} ${naive.track()}`]
    case 'fill':
      return fill(bench, naive, gfn)
    case 'track':
      return [run('TDH.MEM.TRACK', {}), naive.track()]
    case 'enter':
      return [run('TDH.VP.ENTER', {}, gfn % VCPUS), naive.enter(gfn % VCPUS)]
    case 'leave':
      return [run('INTERRUPT', {}, gfn % VCPUS), naive.leave(gfn % VCPUS)]
    case 'blockRoot':
      return [run('TDH.MEM.RANGE.BLOCK', root), naive.blockRange(0, 2)]
    default:
      return [run('TDH.MEM.RANGE.UNBLOCK', root), naive.unblock(0, 2)]
  }
}

/** 512 pages of a block from the frames of the same place, so that PROMOTE has something to merge. */
function fill(bench: Bench, naive: NaiveTd, gfn: number): readonly [string, string] {
  let answers: readonly [string, string] = ['', '']
  for (let at = gfn; at < gfn + 512; at++) {
    answers = apply(bench, naive, { op: 'aug', gfn: at, level: 0, frame: at })
    if (answers[0] !== answers[1] || answers[0] !== '0x0') break
  }
  return answers
}

function compare(bench: Bench, naive: NaiveTd, children: number): void {
  const { data } = bench
  const td = tdOf(bench)
  assert.equal(td.childCount, children + naive.children)
  assert.equal(td.epoch, naive.epoch)
  const inside = (parity: number): number =>
    naive.inside.filter((entered) => entered >= 0 && entered % 2 === parity).length
  assert.deepEqual(td.refcount, [inside(0), inside(1)])
  assert.equal(
    td.sept.blockedTables,
    [naive.root, ...naive.blocks].filter(({ state }) => state === 'NL_BLOCKED').length,
  )
  for (let frame = 0; frame < FRAMES_USED; frame++) {
    const entry = pamtEntry(data.pamt, FRAME + frame)
    const shown = `${typeName(typeOf(entry))}${sizeOf(entry) === 0 ? '' : ` ${sizeOf(entry)}`}`
    if (shown !== naive.frames[frame]) assert.deepEqual({ frame, shown }, { frame, shown: naive.frames[frame] })
  }
  for (const [index, block] of naive.blocks.entries()) {
    const start = index * 512
    compareEntry(data, bench, start, 1, block)
    for (const [offset, child] of block.children.entries()) compareEntry(data, bench, start + offset, 0, child)
    if (block.children.length === 0)
      assert.ok(
        block.state !== 'FREE' || PageMap.isAll(td.sept.entries, GFN + start, GFN + start + 512, 0),
        'a leaf without a table',
      )
  }
}

function compareEntry(
  data: TdxData,
  bench: Bench,
  gfn: number,
  level: 0 | 1,
  wanted: { readonly state: string; readonly frame: number; readonly epoch: number },
): void {
  const td = tdOf(bench)
  const entry = entryAt(td.sept, GFN + gfn, level)
  const state = stateName(entry.state)
  const frame = entry.frame < 0 ? -1 : entry.frame - FRAME
  const epoch = entry.frame < 0 ? 0 : epochOf(data.pamt, entry.frame, td.epoch)
  if (state !== wanted.state || frame !== wanted.frame || epoch !== wanted.epoch)
    assert.deepEqual(
      { gfn, level, state, frame, epoch },
      { gfn, level, state: wanted.state, frame: wanted.frame, epoch: wanted.epoch },
    )
}

function start(building: boolean): { bench: Bench; naive: NaiveTd; children: number } {
  // The guest's calls come from a vCPU of their own, which no exit makes leave.
  const bench = createBench(building ? 'with vCPU' : 'runnable', { vcpus: VCPUS + 1 })
  const children = tdOf(bench).childCount
  const naive = new NaiveTd(BLOCKS, FRAMES_USED, VCPUS, !building)
  const first = naive.septAdd(0, 0)
  assert.equal(first, '0x0')
  // The bench has the first block's table already, in a page of its own.
  naive.frames[0] = 'PT_NDA'
  naive.children = 0
  const block = naive.blocks[0]
  if (block !== undefined) block.frame = 0x102 - FRAME
  return { bench, naive, children }
}

for (const building of [false, true])
  test(`c.3, c.4, b: any sequence answers and ends as the naive tree does${building ? ', before finalisation' : ''}`, () => {
    fc.assert(
      fc.property(fc.array(steps, { minLength: 1, maxLength: 30, size: 'max' }), (lives) => {
        const { bench, naive, children } = start(building)
        for (const step of lives.flat()) {
          if (building && ['accept', 'enter', 'leave', 'settle'].includes(step.op)) continue
          // The first block's own table lies outside the model's frames: it stays.
          if (step.gfn < 512 && ['septRemove', 'promote'].includes(step.op)) continue
          const [real, model] = apply(bench, naive, step)
          assert.equal(real, model, JSON.stringify(step))
        }
        compare(bench, naive, children)
      }),
      { numRuns: RUNS },
    )
  })

const ranges = fc
  .tuple(fc.integer({ min: 0, max: PAGES - 1 }), fc.integer({ min: 1, max: PAGES }))
  .map(([from, count]) => [from, Math.min(PAGES, from + count)] as const)

test('one range is its pieces: AUG, ACCEPT and REMOVE', () => {
  fc.assert(
    fc.property(
      ranges,
      ranges,
      fc.array(fc.integer({ min: 1, max: PAGES }), { maxLength: 6 }),
      ([from, to], [out, back], cuts) => {
        const whole = createBench()
        const pieces = createBench()
        const inPieces = (start: number, end: number, change: (start: number, count: number) => void): void => {
          const borders = [...new Set([start, ...cuts.filter((cut) => cut > start && cut < end), end])].toSorted(
            (a, b) => a - b,
          )
          for (const [index, border] of borders.slice(0, -1).entries())
            change(border, (borders[index + 1] ?? end) - border)
        }
        const changes = ({ data }: Bench) => {
          const td = [...data.tds.values()][0]
          assert.ok(td !== undefined)
          return {
            add(start: number, count: number): void {
              augRange(data, td, GFN + start, FRAME + start, count)
              acceptRange(data, td, GFN + start, count)
            },
            remove(start: number, count: number): void {
              removeRange(data, td, GFN + start, count)
            },
          }
        }
        const [one, many] = [changes(whole), changes(pieces)]
        one.add(from, to - from)
        inPieces(from, to, many.add)
        one.remove(out, back - out)
        inPieces(out, back, many.remove)
        assert.deepEqual(pieces.data, whole.data)
        const left = Math.max(0, to - from - Math.max(0, Math.min(to, back) - Math.max(from, out)))
        assert.equal(tdOf(whole).childCount, tdOf(createBench()).childCount + left)
      },
    ),
    { numRuns: 150 },
  )
})

test('removeRange takes leafs of every size and counts what was there', () => {
  const bench = createBench('with vCPU')
  const { data } = bench
  const td = tdOf(bench)
  const before = td.childCount
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 3), page: hpa(FRAME) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 512), level: 1, page: hpa(FRAME + 512) })
  assert.equal(removeRange(data, td, GFN, 2048), 513)
  assert.equal(removeRange(data, td, GFN, 2048), 0)
  assert.equal(removeRange(data, td, GFN, 1), 0)
  assert.equal(td.childCount, before)
  assert.ok(PageMap.isAll(data.pamt.types, FRAME, FRAME + 2048, 0))
  assert.ok(PageMap.isAll(td.sept.frames, GFN, GFN + 2048, 0))
})

test('a terabyte is a few values: cost and size follow runs, not pages', () => {
  const bench = createBench('with vCPU')
  const { data } = bench
  const td = tdOf(bench)
  const empty = serialize(data).length
  augRange(data, td, 2 ** 30, 0, 2 ** 28)
  acceptRange(data, td, 2 ** 30, 2 ** 28)
  assert.ok(serialize(data).length < empty + 100_000)
  assert.equal(td.childCount >= 2 ** 28, true)
  assert.equal(removeRange(data, td, 2 ** 30, 2 ** 28), 2 ** 28)
})

test('the data survives structured clone and v8', () => {
  const bench = createBench('runnable', { vcpus: 2 })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  must(bench, 'TDH.VP.ENTER')
  assert.deepEqual(structuredClone(bench.data), bench.data)
  assert.deepEqual(structuredClone(deserialize(serialize(bench.data))).tds.size, 1)
})

test('leafAt: what the guest meets; nothing under a blocked table', () => {
  const bench = createBench('runnable')
  const { sept } = tdOf(bench)
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  assert.equal(stateOfLeaf(leafAt(sept, GFN)), STATE.PENDING)
  assert.equal(leafAt(sept, GFN + 1), 0)
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 2 })
  assert.equal(leafAt(sept, GFN), 0)
  assert.equal(walk(sept, GFN, 0).state, STATE.NL_BLOCKED)
})

test('firstMissingTable and tableRunEnd: what SEPT.ADD must fill, run by run', () => {
  const bench = createBench('initialized')
  const { sept } = tdOf(bench)
  const other = GFN + 262144 * 4
  assert.equal(firstMissingTable(sept, GFN, 0), 0)
  assert.equal(firstMissingTable(sept, GFN + 512, 0), 1)
  assert.equal(firstMissingTable(sept, GFN + 512, 1), 0)
  assert.equal(firstMissingTable(sept, other, 0), 2)
  assert.equal(firstMissingTable(sept, 2 ** 30, 0), 3)
  assert.equal(firstMissingTable(sept, 2 ** 30, 3), 0)
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 512), level: 1, page: hpa(FRAME) })
  assert.equal(firstMissingTable(sept, GFN + 513, 0), 1)
  addTables(bench, GFN + 1024, 0, 0x180)
  assert.equal(tableRunEnd(sept, GFN + 5, GFN + 4096, 0), GFN + 512)
  assert.equal(tableRunEnd(sept, GFN + 5, GFN + 100, 0), GFN + 100)
  assert.equal(tableRunEnd(sept, GFN + 600, GFN + 4096, 0), GFN + 1024)
  assert.equal(tableRunEnd(sept, GFN + 1100, GFN + 4096, 0), GFN + 1536)
  assert.equal(tableRunEnd(sept, GFN + 1600, GFN + 4096, 0), GFN + 4096)
  assert.equal(tableRunEnd(sept, GFN, GFN + 4096, 1), GFN + 4096)
})
