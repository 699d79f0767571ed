import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { explainPage, explainTd } from '../../../../src/hw/tdx/module/explain.ts'
import {
  type Bench,
  CALLS,
  createBench,
  createEmptyBench,
  FRAME,
  fingerprint,
  GFN,
  gpa,
  hpa,
  must,
  refuses,
  SOURCE,
  STAGES,
  TDCX,
  TDR,
  TDVPR,
  tdOf,
} from './td-bench.ts'

/** 0.2: the leaves that sections a to e describe, and two events that are no calls. */
const LEAVES = [
  'INTERRUPT',
  'TDG.MEM.PAGE.ACCEPT',
  'TDG.MR.REPORT',
  'TDG.MR.RTMR.EXTEND',
  'TDG.VM.RD',
  'TDG.VM.WR',
  'TDG.VP.INFO',
  'TDG.VP.VEINFO.GET',
  'TDG.VP.VMCALL',
  'TDH.MEM.PAGE.ADD',
  'TDH.MEM.PAGE.AUG',
  'TDH.MEM.PAGE.DEMOTE',
  'TDH.MEM.PAGE.PROMOTE',
  'TDH.MEM.PAGE.RELOCATE',
  'TDH.MEM.PAGE.REMOVE',
  'TDH.MEM.RANGE.BLOCK',
  'TDH.MEM.RANGE.UNBLOCK',
  'TDH.MEM.RD',
  'TDH.MEM.SEPT.ADD',
  'TDH.MEM.SEPT.RD',
  'TDH.MEM.SEPT.REMOVE',
  'TDH.MEM.TRACK',
  'TDH.MEM.WR',
  'TDH.MNG.ADDCX',
  'TDH.MNG.CREATE',
  'TDH.MNG.INIT',
  'TDH.MNG.KEY.CONFIG',
  'TDH.MNG.KEY.FREEID',
  'TDH.MNG.VPFLUSHDONE',
  'TDH.MR.EXTEND',
  'TDH.MR.FINALIZE',
  'TDH.PHYMEM.CACHE.WB',
  'TDH.PHYMEM.PAGE.RDMD',
  'TDH.PHYMEM.PAGE.RECLAIM',
  'TDH.PHYMEM.PAGE.WBINVD',
  'TDH.VP.ADDCX',
  'TDH.VP.CREATE',
  'TDH.VP.ENTER',
  'TDH.VP.FLUSH',
  'TDH.VP.INIT',
  'TRIPLE_FAULT',
]

test('0.2: the calls that there are', () => {
  assert.deepEqual(CALLS.map(({ name }) => name).toSorted(), LEAVES)
})

test('every call has a schema that takes its example and nothing unknown, and integers have limits', () => {
  for (const call of CALLS) {
    assert.ok(Value.Check(call.schema, call.example), call.name)
    assert.ok(!Value.Check(call.schema, { ...call.example, unknown: 1 }), call.name)
    assert.ok(
      !['call', 'by', 'vcpu'].some((reserved) => reserved in (call.schema as { properties: object }).properties),
    )
    const text = JSON.stringify(call.schema)
    for (const [, rest] of text.matchAll(/"type":"integer"([^{}]*)/g)) assert.match(rest ?? '', /"maximum"/, call.name)
  }
})

test('0.2: the other side’s instruction is #UD and does nothing', () => {
  const bench = createBench()
  const before = fingerprint(bench)
  for (const call of CALLS)
    assert.deepEqual(bench.asOther(call.name, call.example), { kind: 'done', status: { name: '#UD', code: '0x6' } })
  assert.equal(fingerprint(bench), before)
})

test('a guest whose TD is gone meets VP.ENTER’s answer for a TDVPR that is none', () => {
  refuses(createEmptyBench(), '0xc000030000000001', 'TDG.VP.INFO')
})

/** Words that some check of every operand stands on, or just past. */
const WORDS = [
  '0x0',
  '0x1',
  '0xffffffffffffffff',
  '0x200000000000',
  hpa(TDR),
  hpa(TDVPR),
  hpa(FRAME),
  hpa(SOURCE),
  gpa(GFN),
]

/** A call's example with its operands replaced in turn. */
function variations(
  example: Readonly<Record<string, unknown>>,
  properties: object,
): Readonly<Record<string, unknown>>[] {
  const variants = [example]
  for (const key of ['gpa', 'page', 'tdr', 'tdvpr', 'source', 'reportData'].filter((name) => name in properties))
    for (const word of WORDS) variants.push({ ...example, [key]: word })
  if ('level' in properties) for (let level = 0; level <= 4; level++) variants.push({ ...example, gpa: '0x0', level })
  return variants
}

/** The whole set: bigger pages, blocked and pending ones among what the words hit. */
function populated(stage: (typeof STAGES)[number]): Bench {
  const bench = createBench(stage)
  if (STAGES.indexOf(stage) < 3) return bench
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME + 8) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 512), level: 1, page: hpa(FRAME + 512) })
  return bench
}

test('every call answers whatever it is given in every stage, and what is refused changes nothing', () => {
  let refused = 0
  for (const stage of STAGES)
    for (const call of CALLS) {
      const { properties } = call.schema as unknown as { properties: object }
      for (const args of variations(call.example, properties)) {
        const bench = populated(stage)
        const before = fingerprint(bench)
        const result = bench.run(call.name, args)
        if (result.kind !== 'done') {
          assert.equal(result.kind, 'fault')
          continue
        }
        assert.match(String(result.status.code), /^0x(?:0|[1-9a-f][0-9a-f]*)$/)
        const error = String(result.status.code).length === 18 && /^0x[89a-f]/.test(String(result.status.code))
        if (!error) continue
        refused++
        assert.equal(fingerprint(bench), before, `${call.name} ${JSON.stringify(args)} in ${stage}`)
      }
    }
  assert.ok(refused > 1000)
})

test('c.1: explain shows the walk, the page, and what the guest meets', () => {
  const bench = createBench()
  const td = tdOf(bench)
  const explain = () => explainPage(bench.data, td, GFN, FRAME)
  assert.deepEqual([explain().acceptance, explain().pendingAccess], ['free', 'TD exit'])
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  assert.equal(explain().acceptance, 'pending')
  const walk = explain().sept as { level: number; state: string; index: number; table?: string; rcx: string }[]
  assert.deepEqual(
    walk.map(({ level, state, index, table }) => [level, state, index, table]),
    [
      [3, 'NL_MAPPED', 0, hpa(0x100)],
      [2, 'NL_MAPPED', 2, hpa(0x101)],
      [1, 'NL_MAPPED', 0, hpa(0x102)],
      [0, 'PENDING', 0, undefined],
    ],
  )
  assert.equal(walk[3]?.rcx, '0x80000000400000f0')
  must(bench, 'TDG.MEM.PAGE.ACCEPT', { gpa: gpa(GFN) })
  assert.equal(explain().acceptance, 'accepted')
  assert.deepEqual(explain().pamt, { hpa: hpa(FRAME), type: 'PT_REG', size: '4K', tdr: hpa(TDR), blockedEpoch: 0 })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN) })
  assert.deepEqual([explain().acceptance, explain().tracked, explain().tdEpoch], ['blocked', false, 1])
  must(bench, 'TDH.MEM.TRACK')
  assert.equal(explain().tracked, true)
  must(bench, 'TDH.MEM.RANGE.UNBLOCK', { gpa: gpa(GFN) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 2 })
  assert.deepEqual([explain().acceptance, explain().tracked], ['blocked', false])
  assert.equal(explainPage(bench.data, td, GFN, undefined).pamt, undefined)
  const module = explainPage(bench.data, td, GFN, TDCX).pamt
  assert.deepEqual(module, { hpa: hpa(TDCX), type: 'PT_TDCX', size: '4K', tdr: hpa(TDR) })
})

test('a.1, c.4: a TD’s own state in words', () => {
  const bench = createBench()
  must(bench, 'TDH.VP.ENTER')
  assert.deepEqual(explainTd(tdOf(bench)), {
    tdr: hpa(TDR),
    hkid: 65,
    lifecycle: 'TD_KEYS_CONFIGURED',
    opState: 'RUNNABLE',
    fatal: false,
    childCount: 15,
    tdEpoch: 1,
    refcount: [0, 1],
    vcpus: [{ tdvpr: hpa(TDVPR), index: 0, state: 'ACTIVE', lp: 0, enteredEpoch: 1 }],
  })
})
