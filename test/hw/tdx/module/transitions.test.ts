import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  addTables,
  type Bench,
  codeOf,
  createBench,
  FRAME,
  FRAMES,
  GFN,
  gpa,
  hpa,
  must,
  outputsOf,
  refuses,
  SOURCE,
  type Stage,
  stateAt,
  TDR,
  tdOf,
  typeAt,
} from './td-bench.ts'

const ALIGNED = GFN + 512
const BLOCK_FRAME = FRAME + 512
/** A free page for what a call creates. */
const NEW = FRAME + 4096
const STATE_INCORRECT = '0xc0000b0d00000001'

type State = 'FREE' | 'MAPPED' | 'PENDING' | 'BLOCKED' | 'PENDING_BLOCKED' | 'NL_MAPPED' | 'NL_BLOCKED'

/** Brings the entry of a level (0 or 1) to a state; blocked ones are tracked too. Gives its place. */
function bring(bench: Bench, state: State, level: 0 | 1): { readonly gpa: string; readonly level: number } {
  const place = { gpa: gpa(level === 0 ? GFN : ALIGNED), level }
  const page = hpa(level === 0 ? FRAME : BLOCK_FRAME)
  if (state === 'NL_MAPPED' || state === 'NL_BLOCKED') addTables(bench, ALIGNED, 0, 0x180)
  else if (state !== 'FREE') {
    must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page })
    if (state === 'MAPPED' || state === 'BLOCKED') accept(bench, place)
  }
  if (state.endsWith('BLOCKED')) {
    must(bench, 'TDH.MEM.RANGE.BLOCK', place)
    must(bench, 'TDH.MEM.TRACK')
  }
  return place
}

/** ACCEPT runs in a running guest only; while the TD is built the same is done by making it run for a moment. */
function accept(bench: Bench, place: Readonly<Record<string, unknown>>): void {
  const td = tdOf(bench)
  const { opState } = td
  td.opState = 2
  must(bench, 'TDG.MEM.PAGE.ACCEPT', place)
  td.opState = opState
}

const LEAFS: readonly State[] = ['MAPPED', 'PENDING', 'BLOCKED', 'PENDING_BLOCKED']
const UNBLOCKED: Readonly<Record<string, string>> = { BLOCKED: 'MAPPED', PENDING_BLOCKED: 'PENDING' }

type Row = {
  readonly name: string
  readonly level: 0 | 1
  readonly accepts: readonly State[]
  readonly args?: Readonly<Record<string, unknown>>
  readonly stage?: Stage
  to(from: State): string
}

const page = { page: hpa(NEW) }
const ROWS: readonly Row[] = [
  { name: 'TDH.MEM.SEPT.ADD', level: 1, accepts: ['FREE'], args: page, to: () => 'NL_MAPPED' },
  { name: 'TDH.MEM.SEPT.REMOVE', level: 1, accepts: ['NL_BLOCKED'], to: () => 'FREE' },
  {
    name: 'TDH.MEM.PAGE.ADD',
    level: 0,
    accepts: ['FREE'],
    args: { ...page, source: hpa(SOURCE) },
    stage: 'with vCPU',
    to: () => 'MAPPED',
  },
  { name: 'TDH.MEM.PAGE.AUG', level: 0, accepts: ['FREE'], args: page, to: () => 'PENDING' },
  { name: 'TDH.MEM.PAGE.AUG', level: 1, accepts: ['FREE'], args: page, to: () => 'PENDING' },
  { name: 'TDH.MEM.PAGE.REMOVE', level: 0, accepts: ['BLOCKED', 'PENDING_BLOCKED'], to: () => 'FREE' },
  { name: 'TDH.MEM.PAGE.REMOVE', level: 1, accepts: ['BLOCKED', 'PENDING_BLOCKED'], to: () => 'FREE' },
  { name: 'TDH.MEM.PAGE.REMOVE', level: 0, accepts: LEAFS, stage: 'with vCPU', to: () => 'FREE' },
  { name: 'TDH.MEM.PAGE.REMOVE', level: 1, accepts: LEAFS, stage: 'with vCPU', to: () => 'FREE' },
  {
    name: 'TDH.MEM.RANGE.BLOCK',
    level: 0,
    accepts: ['MAPPED', 'PENDING'],
    to: (from) => (from === 'MAPPED' ? 'BLOCKED' : 'PENDING_BLOCKED'),
  },
  {
    name: 'TDH.MEM.RANGE.BLOCK',
    level: 1,
    accepts: ['MAPPED', 'PENDING', 'NL_MAPPED'],
    to: (from) => ({ MAPPED: 'BLOCKED', PENDING: 'PENDING_BLOCKED' })[from as string] ?? 'NL_BLOCKED',
  },
  {
    name: 'TDH.MEM.RANGE.UNBLOCK',
    level: 0,
    accepts: ['BLOCKED', 'PENDING_BLOCKED'],
    to: (from) => UNBLOCKED[from] ?? '',
  },
  {
    name: 'TDH.MEM.RANGE.UNBLOCK',
    level: 1,
    accepts: ['BLOCKED', 'PENDING_BLOCKED', 'NL_BLOCKED'],
    to: (from) => UNBLOCKED[from] ?? 'NL_MAPPED',
  },
  {
    name: 'TDH.MEM.PAGE.DEMOTE',
    level: 1,
    accepts: ['BLOCKED', 'PENDING_BLOCKED'],
    args: page,
    to: () => 'NL_MAPPED',
  },
  { name: 'TDH.MEM.PAGE.DEMOTE', level: 1, accepts: LEAFS, args: page, stage: 'with vCPU', to: () => 'NL_MAPPED' },
  {
    name: 'TDH.MEM.PAGE.RELOCATE',
    level: 0,
    accepts: ['BLOCKED', 'PENDING_BLOCKED'],
    args: page,
    to: (from) => UNBLOCKED[from] ?? '',
  },
  {
    name: 'TDH.MEM.PAGE.RELOCATE',
    level: 0,
    accepts: LEAFS,
    args: page,
    stage: 'with vCPU',
    to: (from) => UNBLOCKED[from] ?? from,
  },
]

/** What a running TD's unblocked entries meet in calls that demand tracking, rather than the state's own refusal. */
const NOT_BLOCKED = '0xc0000b0600000001'
const TRACKED_CALLS: Readonly<Record<string, readonly State[]>> = {
  'TDH.MEM.SEPT.REMOVE': ['NL_MAPPED'],
  'TDH.MEM.PAGE.REMOVE': ['MAPPED', 'PENDING'],
  'TDH.MEM.PAGE.DEMOTE': ['MAPPED', 'PENDING'],
  'TDH.MEM.PAGE.RELOCATE': ['MAPPED', 'PENDING'],
}

const statesAt = (level: 0 | 1): readonly State[] =>
  level === 0 ? ['FREE', ...LEAFS] : ['FREE', ...LEAFS, 'NL_MAPPED', 'NL_BLOCKED']

function expected(row: Row, from: State): string {
  if (row.accepts.includes(from)) return '0x0'
  if (row.stage === undefined && TRACKED_CALLS[row.name]?.includes(from)) return NOT_BLOCKED
  if (row.name === 'TDH.MEM.RANGE.BLOCK' && from.endsWith('BLOCKED')) return '0xb0700000001'
  return STATE_INCORRECT
}

for (const row of ROWS)
  for (const from of statesAt(row.level)) {
    const code = expected(row, from)
    const where = `level ${row.level}${row.stage === undefined ? '' : ', before finalisation'}`
    test(`c.3: ${row.name} (${where}) on ${from}: ${code === '0x0' ? row.to(from) : code}`, () => {
      const bench = createBench(row.stage)
      const place = bring(bench, from, row.level)
      const before = outputsOf(bench.run('TDH.MEM.SEPT.RD', place))
      const args = { ...place, ...row.args }
      if (code === '0x0') {
        must(bench, row.name, args)
        assert.equal(stateAt(bench, place.level === 0 ? GFN : ALIGNED, place.level), row.to(from))
        return
      }
      const outputs = refuses(bench, code, row.name, args)
      if (code === STATE_INCORRECT) assert.deepEqual(outputs, { operand: 'RCX', ...before })
    })
  }

test('b: each transition of a page type, and the children that are counted', () => {
  const bench = createBench('with vCPU')
  const td = tdOf(bench)
  const children = td.childCount
  const place = { gpa: gpa(GFN) }
  const large = { gpa: gpa(ALIGNED), level: 1 }
  const step = (by: number, what: () => void, ...types: readonly [frame: number, type: string][]): void => {
    const before = td.childCount
    what()
    assert.equal(td.childCount - before, by)
    for (const [frame, type] of types) assert.equal(typeAt(bench, frame), type)
  }
  step(1, () => must(bench, 'TDH.MEM.PAGE.ADD', { ...place, page: hpa(FRAME), source: hpa(SOURCE) }), [FRAME, 'PT_REG'])
  step(0, () => must(bench, 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(NEW) }), [FRAME, 'PT_NDA'], [NEW, 'PT_REG'])
  step(-1, () => must(bench, 'TDH.MEM.PAGE.REMOVE', place), [NEW, 'PT_NDA'])
  step(1, () => must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) }), [FRAME, 'PT_REG'])
  step(
    512,
    () => must(bench, 'TDH.MEM.PAGE.AUG', { ...large, page: hpa(BLOCK_FRAME) }),
    [BLOCK_FRAME, 'PT_REG 1'],
    [BLOCK_FRAME + 511, 'PT_REG 1'],
  )
  step(
    1,
    () => must(bench, 'TDH.MEM.PAGE.DEMOTE', { ...large, page: hpa(NEW) }),
    [BLOCK_FRAME, 'PT_REG'],
    [BLOCK_FRAME + 511, 'PT_REG'],
    [NEW, 'PT_EPT'],
  )
  step(-1, () => must(bench, 'TDH.MEM.PAGE.PROMOTE', large), [BLOCK_FRAME + 3, 'PT_REG 1'], [NEW, 'PT_NDA'])
  step(-512, () => must(bench, 'TDH.MEM.PAGE.REMOVE', large), [BLOCK_FRAME, 'PT_NDA'], [BLOCK_FRAME + 511, 'PT_NDA'])
  step(1, () => must(bench, 'TDH.MEM.SEPT.ADD', { ...large, page: hpa(NEW) }), [NEW, 'PT_EPT'])
  step(-1, () => must(bench, 'TDH.MEM.SEPT.REMOVE', large), [NEW, 'PT_NDA'])
  assert.equal(td.childCount, children + 1)
})

test('b: what is assigned is nobody else’s new page', () => {
  const bench = createBench('with vCPU')
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(ALIGNED), level: 1, page: hpa(BLOCK_FRAME) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME + 7) })
  const code = '0xc000030000000008'
  const source = { source: hpa(SOURCE) }
  for (const frame of [TDR, FRAMES - 1, FRAME + 7, BLOCK_FRAME, BLOCK_FRAME + 511, 0x100]) {
    refuses(bench, code, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), page: hpa(frame), ...source })
    refuses(bench, code, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 1), page: hpa(frame) })
    refuses(bench, code, 'TDH.MEM.PAGE.DEMOTE', { gpa: gpa(ALIGNED), level: 1, page: hpa(frame) })
    refuses(bench, code, 'TDH.MEM.SEPT.ADD', { gpa: gpa(GFN + 1024), level: 1, page: hpa(frame) })
  }
  refuses(bench, code, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 1024), level: 1, page: hpa(FRAME) })
  refuses(bench, code, 'TDH.MEM.PAGE.RELOCATE', { gpa: gpa(GFN), page: hpa(BLOCK_FRAME) })
})

test('c.1: the entry as software sees it', () => {
  const bench = createBench('runnable')
  const shown = (gfn: number, level = 0): unknown => {
    const { rcx, rdx } = must(bench, 'TDH.MEM.SEPT.RD', { gpa: gpa(gfn), level })
    return [rcx, rdx]
  }
  assert.deepEqual(shown(GFN), ['0x8000000000000000', '0x0'])
  assert.deepEqual(shown(GFN, 1), ['0x7', '0x8401'])
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  assert.deepEqual(shown(GFN), ['0x80000000400000f0', '0x200'])
  must(bench, 'TDG.MEM.PAGE.ACCEPT', { gpa: gpa(GFN) })
  assert.deepEqual(shown(GFN), ['0x80000000400000f7', '0x400'])
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN) })
  assert.deepEqual(shown(GFN), ['0x80000000400000f0', '0x100'])
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 1 })
  assert.deepEqual(shown(GFN, 1), ['0x0', '0x8101'])
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(ALIGNED), level: 1, page: hpa(BLOCK_FRAME) })
  assert.deepEqual(shown(ALIGNED, 1), ['0x80000000402000f0', '0x201'])
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(ALIGNED), level: 1 })
  assert.deepEqual(shown(ALIGNED, 1), ['0x80000000402000f0', '0x301'])
})

test('c.2: a fresh 4K mapping needs tables at levels 3, 2, 1, and 4 first with 5 levels', () => {
  for (const [params, top] of [
    [{}, 3],
    [{ configFlags: 1 }, 4],
  ] as const) {
    const bench = createBench('allocated')
    must(bench, 'TDH.MNG.INIT', { params })
    for (let level: number = top; level >= 1; level--) {
      const walked = refuses(bench, '0xc0000b0000000001', 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
      assert.equal(walked.rdx, `0x${level}`)
      assert.equal(walked.rcx, '0x8000000000000000')
      must(bench, 'TDH.MEM.SEPT.ADD', { gpa: '0x0', level, page: hpa(0x300 + level) })
      if (level === 1) must(bench, 'TDH.MEM.SEPT.ADD', { gpa: gpa(GFN), level, page: hpa(0x310) })
      else if (level === 2) must(bench, 'TDH.MEM.SEPT.ADD', { gpa: gpa(GFN), level, page: hpa(0x311) })
    }
    must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
    refuses(bench, '0xc000010000000001', 'TDH.MEM.SEPT.ADD', { gpa: '0x0', level: top + 1, page: hpa(0x320) })
  }
})

test('0.3 step 3: levels, alignment, reserved bits, width and the shared bit of RCX', () => {
  const code = '0xc000010000000001'
  const levels: readonly [name: string, from: number, to: number, args?: object][] = [
    ['TDH.MEM.PAGE.ADD', 0, 0, { page: '0x1', source: '0x1' }],
    ['TDH.MEM.PAGE.AUG', 0, 1, { page: '0x1' }],
    ['TDH.MEM.PAGE.REMOVE', 0, 2],
    ['TDH.MEM.PAGE.RELOCATE', 0, 0, { page: '0x1' }],
    ['TDH.MEM.PAGE.PROMOTE', 1, 2],
    ['TDH.MEM.PAGE.DEMOTE', 1, 2, { page: '0x1' }],
    ['TDH.MEM.RANGE.BLOCK', 0, 3],
    ['TDH.MEM.RANGE.UNBLOCK', 0, 3],
    ['TDH.MEM.SEPT.ADD', 1, 3, { page: '0x1' }],
    ['TDH.MEM.SEPT.REMOVE', 1, 3],
    ['TDH.MEM.SEPT.RD', 0, 3],
  ]
  const bench = createBench('with vCPU')
  for (const [name, from, to, args] of levels) {
    for (let level = 0; level <= 4; level++) {
      const place = { gpa: '0x0', level, ...args }
      if (level < from || level > to) refuses(bench, code, name, place)
      else assert.notEqual(codeOf(bench.run(name, place)), code)
      if (level > 0) refuses(bench, code, name, { ...place, gpa: gpa(512 ** level / 2) })
    }
    for (const bad of ['0x8', '0x800', '0x5', '0x10000000000000', '0x800000000000', '0x1000000000000'])
      refuses(bench, code, name, { ...args, gpa: bad, level: from })
  }
})

test('0.3 step 3: at GPAW 52 the shared bit is bit 51', () => {
  const bench = createBench('initialized', { params: { configFlags: 1 } })
  must(bench, 'TDH.MEM.SEPT.RD', { gpa: '0x7000000000000', level: 4 })
  refuses(bench, '0xc000010000000001', 'TDH.MEM.SEPT.RD', { gpa: '0x8000000000000', level: 4 })
  addTables(bench, 0x600000000, 0, 0x300)
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(0x600000000), page: hpa(FRAME) })
  assert.equal(stateAt(bench, 0x600000000), 'PENDING')
})

test('0.3 step 4: the walk stops at a free entry, a leaf, a blocked table', () => {
  const bench = createBench('runnable')
  const read = (gfn: number): unknown => {
    const { operand, rcx, rdx } = refuses(bench, '0xc0000b0000000001', 'TDH.MEM.SEPT.RD', { gpa: gpa(gfn) })
    return [operand, rcx, rdx]
  }
  assert.deepEqual(read(GFN + 512), ['RCX', '0x8000000000000000', '0x1'])
  assert.deepEqual(read(0), ['RCX', '0x8000000000000000', '0x2'])
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(ALIGNED), level: 1, page: hpa(BLOCK_FRAME) })
  assert.deepEqual(read(ALIGNED + 5), ['RCX', '0x80000000402000f0', '0x201'])
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 1 })
  assert.deepEqual(read(GFN), ['RCX', '0x0', '0x8101'])
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: '0x0', level: 3 })
  assert.deepEqual(read(GFN), ['RCX', '0x0', '0x8103'])
})

test('0.3 step 6: the page operand comes after the entry state, and PAGE.ADD’s source before the page', () => {
  const bench = createBench('with vCPU')
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  refuses(bench, STATE_INCORRECT, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN), page: '0x1', source: '0x1' })
  for (const source of ['0x1', `0x${(64n << 45n).toString(16)}`, hpa(FRAMES)])
    refuses(bench, '0xc000010000000009', 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), page: '0x1', source })
  const source = `0x${((63n << 45n) | (BigInt(SOURCE) << 12n)).toString(16)}`
  for (const [name, args] of [
    ['TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), source }],
    ['TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 1) }],
    ['TDH.MEM.SEPT.ADD', { gpa: gpa(ALIGNED), level: 1 }],
    ['TDH.MEM.PAGE.RELOCATE', { gpa: gpa(GFN) }],
  ] as const) {
    refuses(bench, '0xc000010000000008', name, { ...args, page: '0x1' })
    refuses(bench, '0xc000010000000008', name, { ...args, page: '0xffffffffffffffff' })
    refuses(bench, '0xc000010000000008', name, { ...args, page: `0x${(1n << 45n).toString(16)}` })
    refuses(bench, '0xc000010100000008', name, { ...args, page: hpa(FRAMES) })
    refuses(bench, '0xc000030000000008', name, { ...args, page: hpa(FRAME) === args.gpa ? '0x0' : hpa(TDR) })
  }
  const large = { gpa: gpa(ALIGNED), level: 1 }
  refuses(bench, '0xc000010000000008', 'TDH.MEM.PAGE.AUG', { ...large, page: hpa(BLOCK_FRAME + 1) })
  refuses(bench, '0xc000010100000008', 'TDH.MEM.PAGE.AUG', { ...large, page: hpa(FRAMES) })
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), page: hpa(NEW), source })
})

test('c.3 SEPT.ADD: an existing table is an error but with version 1 and its flag', () => {
  const bench = createBench('runnable')
  const args = { gpa: gpa(GFN), level: 1, page: hpa(NEW) }
  refuses(bench, STATE_INCORRECT, 'TDH.MEM.SEPT.ADD', args)
  refuses(bench, STATE_INCORRECT, 'TDH.MEM.SEPT.ADD', { ...args, version: 1 })
  refuses(bench, '0xc000010000000002', 'TDH.MEM.SEPT.ADD', { ...args, allowExisting: true })
  const result = bench.run('TDH.MEM.SEPT.ADD', { ...args, version: 1, allowExisting: true })
  assert.equal(codeOf(result), '0x0')
  assert.equal(outputsOf(result).r8, '0x8000000041000000')
  assert.equal(typeAt(bench, NEW), 'PT_NDA')
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 1 })
  refuses(bench, STATE_INCORRECT, 'TDH.MEM.SEPT.ADD', { ...args, version: 1, allowExisting: true })
})

test('c.3 SEPT.REMOVE: children are looked at last; RCX is the freed page', () => {
  const bench = createBench('runnable')
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 9), page: hpa(FRAME) })
  const table = { gpa: gpa(GFN), level: 1 }
  refuses(bench, '0xc0000b0600000001', 'TDH.MEM.SEPT.REMOVE', table)
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN + 9) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', table)
  refuses(bench, '0xc0000b0800000001', 'TDH.MEM.SEPT.REMOVE', table)
  must(bench, 'TDH.MEM.TRACK')
  refuses(bench, '0xc0000b0e00000001', 'TDH.MEM.SEPT.REMOVE', table)
  must(bench, 'TDH.MEM.RANGE.UNBLOCK', table)
  must(bench, 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(GFN + 9) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', table)
  must(bench, 'TDH.MEM.TRACK')
  assert.equal(must(bench, 'TDH.MEM.SEPT.REMOVE', table).rcx, hpa(0x102))
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 2 })
  must(bench, 'TDH.MEM.TRACK')
  assert.equal(must(bench, 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(GFN), level: 2 }).rcx, hpa(0x101))
  refuses(bench, STATE_INCORRECT, 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(GFN), level: 2 })
})

test('c.3 SEPT.REMOVE: a table of tables is not empty', () => {
  const bench = createBench('with vCPU')
  refuses(bench, '0xc0000b0e00000001', 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(GFN), level: 2 })
  refuses(bench, '0xc0000b0e00000001', 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(0), level: 3 })
  must(bench, 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(GFN), level: 1 })
  must(bench, 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(GFN), level: 2 })
  must(bench, 'TDH.MEM.SEPT.REMOVE', { gpa: gpa(0), level: 3 })
})

test('c.3 PAGE.REMOVE: RCX is the page, whose content is gone for the host', () => {
  const bench = createBench('with vCPU')
  bench.machine.write(SOURCE, new Uint8Array(4096).fill(9))
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN), page: hpa(FRAME), source: hpa(SOURCE) })
  assert.deepEqual(bench.machine.read(FRAME), new Uint8Array(4096).fill(9))
  assert.equal(must(bench, 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(GFN) }).rcx, hpa(FRAME))
  assert.equal(bench.machine.read(FRAME), undefined)
})

test('c.3, 0.4 PAGE.ADD: in place, from a TD’s page (zeros), and a source that changes later', () => {
  const bench = createBench('with vCPU')
  bench.machine.write(FRAME, new Uint8Array(4096).fill(5))
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN), page: hpa(FRAME), source: hpa(FRAME) })
  assert.deepEqual(bench.machine.read(FRAME), new Uint8Array(4096).fill(5))
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), page: hpa(FRAME + 1), source: hpa(FRAME) })
  assert.equal(bench.machine.read(FRAME + 1), undefined)
  const source = new Uint8Array(4096).fill(6)
  bench.machine.write(SOURCE, source)
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 2), page: hpa(FRAME + 2), source: hpa(SOURCE) })
  source.fill(0)
  assert.deepEqual(bench.machine.read(FRAME + 2), new Uint8Array(4096).fill(6))
})

test('c.3 RELOCATE: content moves unless pending; the same page is refused before blocking, the new one after', () => {
  const bench = createBench('runnable')
  const place = { gpa: gpa(GFN) }
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  must(bench, 'TDG.MEM.PAGE.ACCEPT', place)
  bench.machine.write(FRAME, new Uint8Array(4096).fill(3))
  refuses(bench, '0xc000010000000008', 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(FRAME) })
  refuses(bench, '0xc0000b0600000001', 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(TDR) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, '0xc0000b0800000001', 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(TDR) })
  must(bench, 'TDH.MEM.TRACK')
  refuses(bench, '0xc000030000000008', 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(TDR) })
  assert.equal(must(bench, 'TDH.MEM.PAGE.RELOCATE', { ...place, page: hpa(NEW) }).rcx, hpa(FRAME))
  assert.deepEqual(bench.machine.read(NEW), new Uint8Array(4096).fill(3))
  assert.equal(bench.machine.read(FRAME), undefined)
  assert.equal(must(bench, 'TDH.PHYMEM.PAGE.RDMD', { page: hpa(NEW) }).r9, '0x0')
})

test('c.3 RELOCATE: a pending page has no content to move', () => {
  const bench = createBench('with vCPU')
  bench.machine.write(FRAME, new Uint8Array(4096).fill(3))
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  must(bench, 'TDH.MEM.PAGE.RELOCATE', { gpa: gpa(GFN), page: hpa(NEW) })
  assert.equal(bench.machine.read(NEW), undefined)
  assert.equal(bench.machine.read(FRAME), undefined)
})

test('c.2: the page of a new table loses what it held', () => {
  const bench = createBench('with vCPU')
  bench.machine.write(NEW, new Uint8Array(4096).fill(3))
  bench.machine.write(NEW + 1, new Uint8Array(4096).fill(3))
  must(bench, 'TDH.MEM.SEPT.ADD', { gpa: gpa(GFN + 1024), level: 1, page: hpa(NEW) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(ALIGNED), level: 1, page: hpa(BLOCK_FRAME) })
  must(bench, 'TDH.MEM.PAGE.DEMOTE', { gpa: gpa(ALIGNED), level: 1, page: hpa(NEW + 1) })
  assert.deepEqual([bench.machine.read(NEW), bench.machine.read(NEW + 1)], [undefined, undefined])
})

test('c.3 DEMOTE and PROMOTE: 512 unblocked children, and back; RCX is the merged table', () => {
  const bench = createBench('runnable')
  const large = bring(bench, 'BLOCKED', 1)
  refuses(bench, '0xc000030000000008', 'TDH.MEM.PAGE.DEMOTE', { ...large, page: hpa(TDR) })
  must(bench, 'TDH.MEM.PAGE.DEMOTE', { ...large, page: hpa(NEW) })
  for (const index of [0, 1, 511]) assert.equal(stateAt(bench, ALIGNED + index), 'MAPPED')
  assert.equal(must(bench, 'TDH.PHYMEM.PAGE.RDMD', { page: hpa(BLOCK_FRAME) }).r9, '0x0')
  refuses(bench, '0xc0000b0600000001', 'TDH.MEM.PAGE.PROMOTE', large)
  must(bench, 'TDH.MEM.RANGE.BLOCK', large)
  refuses(bench, '0xc0000b0800000001', 'TDH.MEM.PAGE.PROMOTE', large)
  must(bench, 'TDH.MEM.TRACK')
  assert.equal(must(bench, 'TDH.MEM.PAGE.PROMOTE', large).rcx, hpa(NEW))
  assert.equal(stateAt(bench, ALIGNED, 1), 'MAPPED')
  assert.equal(tdOf(bench).sept.blockedTables, 0)
})

test('c.3 PROMOTE refuses children that do not make one page', () => {
  const aug = (bench: Bench, index: number, frame: number): unknown =>
    must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + index), page: hpa(frame) })
  const promote = (bench: Bench, code: string): void => {
    if (code === '0x0') must(bench, 'TDH.MEM.PAGE.PROMOTE', { gpa: gpa(GFN), level: 1 })
    else refuses(bench, code, 'TDH.MEM.PAGE.PROMOTE', { gpa: gpa(GFN), level: 1 })
  }
  const INVALID = '0xc0000b0900000001'
  const filled = (from: number, skip = -1): Bench => {
    const bench = createBench('with vCPU')
    for (let index = 0; index < 512; index++) if (index !== skip) aug(bench, index, from + index)
    return bench
  }
  promote(createBench('with vCPU'), INVALID)
  promote(filled(FRAME, 511), INVALID)
  promote(filled(FRAME, 0), INVALID)
  promote(filled(FRAME + 1), INVALID)
  const swapped = filled(FRAME, 300)
  aug(swapped, 300, FRAME + 600)
  promote(swapped, INVALID)
  const mixed = filled(FRAME)
  accept(mixed, { gpa: gpa(GFN + 17) })
  promote(mixed, INVALID)
  const blocked = filled(FRAME)
  must(blocked, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN + 17) })
  promote(blocked, INVALID)
  const whole = filled(FRAME)
  promote(whole, '0x0')
  assert.equal(stateAt(whole, GFN, 1), 'PENDING')
  promote(whole, STATE_INCORRECT)
})

test('c.3 PROMOTE and DEMOTE of 1G, REMOVE of 1G', () => {
  const bench = createBench('with vCPU')
  const start = 0x100000
  addTables(bench, start, 1, 0x180)
  const huge = { gpa: gpa(start), level: 2 }
  for (let index = 0; index < 512; index++)
    must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(start + 512 * index), level: 1, page: hpa(FRAME + 512 * index) })
  const before = tdOf(bench).childCount
  assert.equal(must(bench, 'TDH.MEM.PAGE.PROMOTE', huge).rcx, hpa(0x181))
  assert.equal(typeAt(bench, FRAME + 200_000), 'PT_REG 2')
  refuses(bench, '0xc0000b0000000001', 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(start), level: 1 })
  must(bench, 'TDH.MEM.PAGE.DEMOTE', { ...huge, page: hpa(0x181) })
  assert.equal(stateAt(bench, start + 512 * 511, 1), 'PENDING')
  must(bench, 'TDH.MEM.PAGE.PROMOTE', huge)
  must(bench, 'TDH.MEM.PAGE.REMOVE', huge)
  assert.equal(tdOf(bench).childCount, before - 1 - 262144)
  assert.equal(typeAt(bench, FRAME), 'PT_NDA')
})
