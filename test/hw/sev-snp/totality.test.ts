import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { backend } from '../../../src/hw/sev-snp/index.ts'
import { entryOf, stateAt } from '../../../src/hw/sev-snp/rmp.ts'
import { asidOf } from '../../../src/hw/sev-snp/states.ts'
import { type Bench, createBench, FRAME, fingerprint, GFN, hpa, mapPrivate } from './fake-machine.ts'
import { bringTo, REACHABLE } from './page-states.ts'

const TARGET = FRAME + 0x200
const METADATA = FRAME + 0x400
const metadata = `0x${(METADATA * 4096 + 64).toString(16)}`
const sizes = ['4K', '2M'] as const

/** Every call on one page, with the arguments that matter for it. */
function* operations(asid: number): Generator<readonly [string, Readonly<Record<string, unknown>>]> {
  for (const pageSize of sizes) {
    const page = { hpa: hpa(FRAME), pageSize }
    for (const immutable of [false, true])
      for (const owner of [0, asid, 300, 600])
        for (const assigned of [false, true])
          for (const gpa of ['0x0', hpa(GFN), hpa(GFN + 1)])
            yield ['RMPUPDATE', { ...page, gpa, asid: owner, assigned, immutable }]
    for (const validate of [true, false]) yield ['PVALIDATE', { gpa: hpa(GFN), pageSize, validate }]
    for (const vmsa of [false, true])
      yield ['RMPADJUST', { gpa: hpa(GFN), pageSize, targetVmpl: 1, permissions: 3, vmsa }]
    yield ['SNP_PAGE_RECLAIM', page]
    for (let pageType = 0; pageType < 8; pageType++) yield ['SNP_LAUNCH_UPDATE', { ...page, pageType }]
    yield ['SNP_PAGE_MOVE', { ...page, destination: hpa(TARGET) }]
    yield ['SNP_PAGE_MOVE', { hpa: hpa(TARGET), destination: hpa(FRAME), pageSize }]
    for (const pageType of ['data', 'metadata', 'vmsa']) {
      yield ['SNP_PAGE_SWAP_OUT', { ...page, destination: hpa(TARGET), metadata, pageType }]
      yield ['SNP_PAGE_SWAP_IN', { ...page, destination: hpa(TARGET), metadata, pageType }]
      yield ['SNP_PAGE_SWAP_IN', { hpa: hpa(TARGET), destination: hpa(FRAME), pageSize, metadata, pageType }]
    }
  }
  const page = { hpa: hpa(FRAME) }
  yield ['PSMASH', page]
  yield ['RMPREAD', page]
  yield ['RMPQUERY', { gpa: hpa(GFN), targetVmpl: 1 }]
  yield ['SNP_GCTX_CREATE', page]
  yield ['SNP_PAGE_UNSMASH', page]
  yield ['SNP_PAGE_MD_INIT', page]
  yield ['SNP_PAGE_SET_STATE', { ranges: [{ ...page, pages: 1 }] }]
  yield ['SNP_DBG_DECRYPT', { ...page, destination: hpa(TARGET) }]
  yield ['SNP_DBG_ENCRYPT', { hpa: hpa(TARGET), destination: hpa(FRAME) }]
  for (const name of ['SNP_DECOMMISSION', 'SNP_LAUNCH_FINISH', 'SNP_GUEST_STATUS']) yield [name, { gctx: hpa(FRAME) }]
  yield ['SNP_ACTIVATE', { gctx: hpa(FRAME), asid: 9 }]
  yield ['SNP_LAUNCH_START', { gctx: hpa(FRAME), policy: '0x30000' }]
}

function check(bench: Bench): void {
  const { rmp } = bench.data
  const counted = new Map<number, number>()
  for (let frame = 0; frame < rmp.frames; frame++) {
    assert.notEqual(stateAt(rmp, frame), 'Invalid')
    const asid = asidOf(entryOf(rmp, frame))
    if (asid !== 0) counted.set(asid, (counted.get(asid) ?? 0) + 1)
  }
  for (const [asid, count] of rmp.counters.entries()) assert.equal(count, counted.get(asid) ?? 0)
}

for (const [state, stateSizes] of REACHABLE)
  for (const size of stateSizes)
    test(`every call answers on a ${size} page in ${state}, to a legal state, and a refusal leaves no footprint`, () => {
      for (const target of ['Hypervisor', 'Firmware', 'Pre-Guest'] as const) {
        const asid = createBench().data.vms.get('vm-1')?.asid ?? 0
        for (const [name, args] of operations(asid)) {
          if (target !== 'Hypervisor' && !JSON.stringify(args).includes(`"${hpa(TARGET)}"`)) continue
          const bench = createBench()
          bringTo(bench, 'Metadata', METADATA, 0)
          bringTo(bench, state, FRAME, GFN, size)
          if (target !== 'Hypervisor') bringTo(bench, target, TARGET, GFN + 0x200)
          mapPrivate(bench, GFN, FRAME, 512)
          const call = backend.calls.find((candidate) => candidate.name === name)
          assert.ok(call !== undefined && Value.Check(call.schema, args), `${name} ${JSON.stringify(args)}`)
          const before = fingerprint(bench)
          const result = call.by === 'host' ? bench.host(name, args) : bench.asGuest(name, args)
          if (result.kind === 'done' && result.status.code !== 0)
            assert.equal(fingerprint(bench), before, `${name} ${JSON.stringify(args)}`)
          if (result.kind === 'fault' && !result.mended) assert.equal(fingerprint(bench), before)
        }
      }
    })

test('the RMP stays legal and its counters true through every call in sequence', () => {
  const bench = createBench()
  const asid = bench.data.vms.get('vm-1')?.asid ?? 0
  bringTo(bench, 'Metadata', METADATA, 0)
  bringTo(bench, 'Firmware', TARGET, 0)
  mapPrivate(bench, GFN, FRAME, 512)
  let index = 0
  for (const [name, args] of operations(asid)) {
    const call = backend.calls.find((candidate) => candidate.name === name)
    if (call?.by === 'guest') bench.asGuest(name, args)
    else bench.host(name, args)
    if (index++ % 10 === 0) check(bench)
  }
  check(bench)
})

test('every call has a schema that takes its example and nothing unknown, and integers have limits', () => {
  for (const call of backend.calls) {
    assert.ok(Value.Check(call.schema, call.example), call.name)
    assert.ok(!Value.Check(call.schema, { ...call.example, unknown: 1 }), call.name)
    const text = JSON.stringify(call.schema)
    for (const [, rest] of text.matchAll(/"type":"integer"([^{}]*)/g)) assert.match(rest ?? '', /"maximum"/, call.name)
    assert.ok(!text.includes('"type":"object"') || /"additionalProperties":false/.test(text))
  }
})

test('b.4, b.6: the side a call is not for gets its architectural answer', () => {
  const bench = createBench()
  for (const call of backend.calls) {
    const before = fingerprint(bench)
    const wrong = call.by === 'host' ? bench.asGuest(call.name, call.example) : bench.host(call.name, call.example)
    assert.equal(wrong.kind, 'done')
    if (wrong.kind !== 'done') continue
    const expected = ['RMPUPDATE', 'PSMASH', 'RMPREAD'].includes(call.name)
      ? 2
      : call.by === 'host'
        ? 13
        : call.name === 'PVALIDATE'
          ? 0
          : 6
    assert.equal(wrong.status.code, expected, call.name)
    if (call.name === 'PVALIDATE') assert.deepEqual(wrong.outputs, { carry: true })
    assert.equal(fingerprint(bench), before)
  }
})
