import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { Lifecycle, OpState } from '../../../../src/hw/tdx/module/op-states.ts'
import {
  type Bench,
  codeOf,
  createBench,
  FRAME,
  GFN,
  gpa,
  hpa,
  refuses,
  SOURCE,
  TDR,
  TDVPR,
  tdOf,
  vcpuOf,
} from './td-bench.ts'

const at = { gpa: gpa(GFN) }
const aligned = { gpa: gpa(GFN), level: 1 }

/** The table of intel-tdx.md a.3, as it stands there, with arguments that pass every check before the op state. */
const TABLE: readonly [name: string, states: readonly number[], args: Readonly<Record<string, unknown>>][] = [
  ['TDH.MNG.INIT', [0], { params: {} }],
  ['TDH.MNG.ADDCX', [0], { page: hpa(FRAME) }],
  ['TDH.MEM.PAGE.ADD', [1], { ...at, page: hpa(FRAME), source: hpa(SOURCE) }],
  ['TDH.MR.EXTEND', [1], at],
  ['TDH.MR.FINALIZE', [1], {}],
  ['TDH.VP.INIT', [1], { tdvpr: hpa(TDVPR) }],
  ['TDH.VP.CREATE', [1, 7], { page: hpa(FRAME) }],
  ['TDH.VP.ADDCX', [1, 7], { page: hpa(FRAME), tdvpr: hpa(TDVPR) }],
  ['TDH.MEM.SEPT.ADD', [1, 2, 3, 6, 7, 8, 9], { ...aligned, page: hpa(FRAME) }],
  ['TDH.MEM.PAGE.AUG', [1, 2, 3, 9], { ...at, page: hpa(FRAME) }],
  ['TDH.MEM.RANGE.BLOCK', [1, 2, 3, 4, 5, 8, 9], at],
  ['TDH.MEM.RANGE.UNBLOCK', [1, 2, 3, 4, 5, 8, 9], at],
  ['TDH.MEM.PAGE.RELOCATE', [1, 2, 3, 4, 5, 8, 9], { ...at, page: hpa(FRAME) }],
  ['TDH.MEM.PAGE.PROMOTE', [1, 2, 3, 4, 5, 8, 9], aligned],
  ['TDH.MEM.PAGE.DEMOTE', [1, 2, 3, 4, 5, 8, 9], { ...aligned, page: hpa(FRAME) }],
  ['TDH.MEM.PAGE.REMOVE', [1, 2, 3, 4, 5, 8, 9, 10], at],
  ['TDH.MEM.SEPT.REMOVE', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], aligned],
  ['TDH.MEM.TRACK', [1, 2, 3, 4, 5, 6, 7, 8, 9], {}],
  ['TDH.MEM.SEPT.RD', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], at],
  ['TDH.MEM.RD', [1, 2, 3, 4, 5, 6, 7, 8, 9, 10], at],
  ['TDH.MEM.WR', [1, 2, 3, 6, 7, 8, 9, 10], { ...at, value: '0x1' }],
  ['TDH.VP.ENTER', [2, 3, 9], {}],
]
const GUEST: readonly [name: string, args: Readonly<Record<string, unknown>>][] = [
  ['TDG.MEM.PAGE.ACCEPT', at],
  ['TDG.VP.INFO', {}],
  ['TDG.VP.VEINFO.GET', {}],
  ['TDG.MR.RTMR.EXTEND', { ...at, index: 0 }],
  ['TDG.MR.REPORT', { ...at, reportData: gpa(GFN) }],
  ['TDG.VM.RD', { field: 'TD_CTLS' }],
  ['TDG.VM.WR', { field: 'TD_CTLS', value: 1, mask: 1 }],
  ['TDG.VP.VMCALL', {}],
  ['TRIPLE_FAULT', {}],
]

function benchIn(state: number, lifecycle = 1, fatal = false): Bench {
  const bench = createBench('with vCPU')
  const td = tdOf(bench)
  td.opState = state as OpState
  td.lifecycle = lifecycle as Lifecycle
  td.fatal = fatal
  return bench
}

const OP_STATE_INCORRECT = '0xc000060800000000'

for (const [name, allowed, args] of TABLE)
  test(`a.3: ${name} in op states ${allowed.join(', ')} and no other`, () => {
    for (let state = 0; state <= 10; state++) {
      const bench = benchIn(state)
      if (allowed.includes(state))
        assert.notEqual(codeOf(bench.run(name, args)), OP_STATE_INCORRECT, `${name} ${state}`)
      else refuses(bench, OP_STATE_INCORRECT, name, args)
    }
  })

for (const [name, args] of GUEST)
  test(`a.3: ${name} where the guest runs: op states 2, 3 and 9`, () => {
    for (let state = 0; state <= 10; state++) {
      const bench = benchIn(state)
      if (![2, 3, 9].includes(state)) {
        refuses(bench, OP_STATE_INCORRECT, name, args)
        continue
      }
      const result = bench.run(name, args)
      if (result.kind === 'done') assert.notEqual(result.status.code, OP_STATE_INCORRECT)
      else assert.equal(result.kind, 'fault')
    }
  })

for (const [name, , args] of [...TABLE, ...GUEST.map(([name, args]) => [name, [], args] as const)])
  test(`0.3: ${name}: fatal, then keys, then TDCS, then op state`, () => {
    for (const lifecycle of [0, 2, 3]) refuses(benchIn(5, lifecycle), '0x8000081000000000', name, args)
    refuses(benchIn(5, 3, true), '0xe000060400000000', name, args)
    if (name === 'TDH.MNG.ADDCX') return
    const bench = benchIn(5)
    tdOf(bench).tdcx.length = 5
    refuses(bench, '0xc000060600000000', name, args)
  })

test('a.3: VP.FLUSH in any op state', () => {
  for (let state = 0; state <= 10; state++) {
    const bench = benchIn(state)
    assert.equal(codeOf(bench.run('TDH.VP.FLUSH', {})), '0x0')
    assert.equal(vcpuOf(bench).lp, -1)
  }
})

test('0.3 step 1: every call that takes a TDR or a TDVPR refuses other pages of its register', () => {
  const bench = createBench('with vCPU')
  const inRcx = ['TDH.MNG.INIT', 'TDH.MR.FINALIZE', 'TDH.MEM.TRACK', 'TDH.VP.INIT', 'TDH.VP.ENTER']
  for (const [name, , args] of TABLE) {
    const key = ['TDH.VP.INIT', 'TDH.VP.ADDCX', 'TDH.VP.ENTER'].includes(name) ? 'tdvpr' : 'tdr'
    const id = inRcx.includes(name) ? '1' : '2'
    refuses(bench, `0xc00001000000000${id}`, name, { ...args, [key]: '0x10001' })
    refuses(bench, `0xc00001000000000${id}`, name, { ...args, [key]: '0x200000000000' })
    refuses(bench, `0xc00001010000000${id}`, name, { ...args, [key]: '0x100000000' })
    refuses(bench, `0xc00003000000000${id}`, name, { ...args, [key]: hpa(key === 'tdr' ? TDVPR : TDR) })
    refuses(bench, `0xc00003000000000${id}`, name, { ...args, [key]: hpa(FRAME) })
  }
})
