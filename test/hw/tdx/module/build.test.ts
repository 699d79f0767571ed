import assert from 'node:assert/strict'
import { test } from 'node:test'
import { KEY_STATE, keyState } from '../../../../src/hw/tdx/module/kot.ts'
import { encodeTdParams, type TdParams } from '../../../../src/hw/tdx/module/td-params.ts'
import {
  addVcpu,
  type Bench,
  buildTd,
  createEmptyBench,
  FRAMES,
  hpa,
  must,
  refuses,
  TDCX,
  TDR,
  TDVPR,
  tdOf,
  typeAt,
  vcpuOf,
} from './td-bench.ts'

const PARAMS: TdParams = {
  attributes: 0x10000000n,
  xfam: 0xe7n,
  maxVcpus: 2,
  l2Vms: 0,
  eptpControls: 0x1e,
  configFlags: 0,
  tscFrequency: 40,
  mrconfigid: new Uint8Array(48).fill(1),
  mrowner: new Uint8Array(48).fill(2),
  mrownerconfig: new Uint8Array(48).fill(3),
}

function staged(stage: Parameters<typeof buildTd>[1], options: Parameters<typeof buildTd>[2] = {}): Bench {
  const bench = createEmptyBench()
  buildTd(bench, stage, options)
  return bench
}

/** A page operand's refusals, whatever the call (0.3 step 6). */
function refusesPages(
  bench: Bench,
  operand: string,
  name: string,
  args: Readonly<Record<string, unknown>>,
  key = 'page',
): void {
  const id = operand.padStart(8, '0')
  refuses(bench, `0xc0000100${id}`, name, { ...args, [key]: '0x300001' })
  refuses(bench, `0xc0000100${id}`, name, { ...args, [key]: `0x${((1n << 45n) | 0x300000n).toString(16)}` })
  refuses(bench, `0xc0000100${id}`, name, { ...args, [key]: `0x${(1n << 52n).toString(16)}` })
  refuses(bench, `0xc0000101${id}`, name, { ...args, [key]: hpa(FRAMES) })
  refuses(bench, `0xc0000300${id}`, name, { ...args, [key]: hpa(FRAMES - 1) })
}

test('a.4 MNG.CREATE: the page is the TDR, the key assigned, no child', () => {
  const bench = createEmptyBench()
  bench.machine.write(TDR, new Uint8Array(4096).fill(7))
  must(bench, 'TDH.MNG.CREATE', { page: hpa(TDR), hkid: 65 })
  const td = tdOf(bench)
  assert.equal(typeAt(bench, TDR), 'PT_TDR')
  assert.equal(td.childCount, 0)
  assert.equal(td.lifecycle, 0)
  assert.equal(keyState(bench.data.kot, 65), KEY_STATE.ASSIGNED)
  assert.equal(bench.machine.read(TDR), undefined)
})

test('a.4 MNG.CREATE: by default the lowest free key', () => {
  const bench = createEmptyBench()
  for (let index = 0; index < 63; index++) must(bench, 'TDH.MNG.CREATE', { page: hpa(0x1000 + index) })
  assert.equal(bench.data.tds.get(0x1000)?.hkid, 65)
  assert.equal(bench.data.tds.get(0x103e)?.hkid, 127)
  refuses(bench, '0xc000010000000002', 'TDH.MNG.CREATE', { page: hpa(TDR) })
})

test('a.4 MNG.CREATE refuses the key range, then the page, then the key', () => {
  const bench = createEmptyBench()
  must(bench, 'TDH.MNG.CREATE', { page: hpa(0x1000), hkid: 70 })
  for (const hkid of [0, 63, 128]) refuses(bench, '0xc000010000000002', 'TDH.MNG.CREATE', { page: '0x1', hkid })
  refusesPages(bench, '1', 'TDH.MNG.CREATE', { hkid: 70 })
  refuses(bench, '0xc000030000000001', 'TDH.MNG.CREATE', { page: hpa(0x1000), hkid: 71 })
  refuses(bench, '0xc000082000000000', 'TDH.MNG.CREATE', { page: hpa(TDR), hkid: 70 })
  refuses(bench, '0xc000082000000000', 'TDH.MNG.CREATE', { page: hpa(TDR), hkid: 64 })
})

test('a.4 MNG.KEY.CONFIG: once on each package; the last one configures the keys', () => {
  const bench = staged('created')
  refusesPages(bench, '1', 'TDH.MNG.KEY.CONFIG', {}, 'tdr')
  refuses(bench, '0xc000030000000001', 'TDH.MNG.KEY.CONFIG', { tdr: hpa(TDR + 1) })
  must(bench, 'TDH.MNG.KEY.CONFIG', { package: 0 })
  refuses(bench, '0x81500000000', 'TDH.MNG.KEY.CONFIG', { package: 0 })
  assert.equal(tdOf(bench).lifecycle, 0)
  must(bench, 'TDH.MNG.KEY.CONFIG', { package: 1 })
  assert.equal(tdOf(bench).lifecycle, 1)
  refuses(bench, '0xc000060700000000', 'TDH.MNG.KEY.CONFIG', { package: 0 })
})

test('a.4 MNG.ADDCX: six pages, up to nine before MNG.INIT, each a child', () => {
  const bench = staged('keyed')
  for (let index = 0; index < 9; index++) {
    must(bench, 'TDH.MNG.ADDCX', { page: hpa(TDCX + index) })
    assert.equal(tdOf(bench).childCount, index + 1)
    assert.equal(typeAt(bench, TDCX + index), 'PT_TDCX')
  }
  refuses(bench, '0xc000061000000000', 'TDH.MNG.ADDCX', { page: '0x1' })
})

test('a.4 MNG.ADDCX refuses the TDR, the keys, the number, the op state, then the page', () => {
  const created = staged('created')
  refusesPages(created, '2', 'TDH.MNG.ADDCX', { page: hpa(TDCX) }, 'tdr')
  refuses(created, '0x8000081000000000', 'TDH.MNG.ADDCX', { page: '0x1' })
  refusesPages(staged('keyed'), '1', 'TDH.MNG.ADDCX', {})
  refuses(staged('initialized'), '0xc000060800000000', 'TDH.MNG.ADDCX', { page: '0x1' })
})

test('a.4 MNG.INIT: parameters kept, epoch 1, op state 1; from fields or 1024 bytes', () => {
  for (const params of [
    encodeTdParams(PARAMS).toString('base64'),
    {
      maxVcpus: 2,
      mrconfigid: '01'.repeat(48),
      mrowner: '02'.repeat(48),
      mrownerconfig: '03'.repeat(48),
    },
  ]) {
    const bench = staged('allocated')
    must(bench, 'TDH.MNG.INIT', { params })
    const td = tdOf(bench)
    assert.deepEqual(td.params, PARAMS)
    assert.deepEqual([td.epoch, td.opState, td.sept.top], [1, 1, 3])
    assert.ok(td.rtmrs.every((rtmr) => rtmr.every((byte) => byte === 0)))
  }
})

test('a.4 MNG.INIT: GPAW 52 has five levels, and so may GPAW 48', () => {
  const wide = staged('allocated')
  must(wide, 'TDH.MNG.INIT', { params: { configFlags: 1 } })
  assert.equal(tdOf(wide).sept.top, 4)
  const deep = staged('allocated')
  must(deep, 'TDH.MNG.INIT', { params: { eptpControls: 0x26 } })
  assert.equal(tdOf(deep).sept.top, 4)
})

test('a.4 MNG.INIT refuses fields in its order', () => {
  const bench = staged('allocated')
  const bytes = encodeTdParams({ ...PARAMS, maxVcpus: 2 })
  // Everything that can be wrong, wrong; each refusal is then put right, and the next one shows.
  const steps: readonly [code: string, put: (bytes: Buffer) => void][] = [
    ['0xc000010000000040', (right) => right.writeBigUInt64LE(0x10000000n, 0)],
    ['0xc000010000000041', (right) => right.writeBigUInt64LE(7n, 8)],
    ['0xc000010000000044', (right) => right.writeUInt16LE(1, 16)],
    ['0xc000010000000047', (right) => right.writeUInt8(3, 18)],
    ['0xc000060600000000', (right) => right.writeUInt8(0, 18)],
    ['0xc000010000000002', (right) => right.writeUInt32LE(0, 20)],
    ['0xc000010000000042', (right) => right.writeBigUInt64LE(0n, 32)],
    ['0xc000010000000043', (right) => right.writeBigUInt64LE(0x1en, 24)],
    ['0xc000010000000046', (right) => right.writeUInt16LE(400, 40)],
    ['0xc000010000000002', (right) => right.fill(0, 42, 80)],
    ['0xc000010000000002', (right) => right.fill(0, 232, 256)],
  ]
  bytes.writeBigUInt64LE(2n, 0)
  bytes.writeBigUInt64LE(4n, 8)
  bytes.writeUInt16LE(0, 16)
  bytes.writeUInt8(4, 18)
  bytes.writeUInt8(1, 23)
  bytes.writeBigUInt64LE(8n, 32)
  bytes.writeBigUInt64LE(0x6en, 24)
  bytes.writeUInt16LE(401, 40)
  bytes.writeUInt8(1, 79)
  bytes.writeUInt8(1, 232)
  for (const [code, put] of steps) {
    refuses(bench, code, 'TDH.MNG.INIT', { params: bytes.toString('base64') })
    put(bytes)
  }
  must(bench, 'TDH.MNG.INIT', { params: bytes.toString('base64') })
})

test('a.4 MNG.INIT: bounds of single fields', () => {
  const bench = staged('allocated')
  for (const [code, params] of [
    ['0xc000010000000041', { xfam: '0x6' }],
    ['0xc000010000000041', { xfam: '0x23' }],
    ['0xc000010000000041', { xfam: '0xe3' }],
    ['0xc000010000000041', { xfam: '0x20003' }],
    ['0xc000010000000041', { xfam: '0x803' }],
    ['0xc000010000000042', { configFlags: 0x40 }],
    ['0xc000010000000043', { configFlags: 1, eptpControls: 0x1e }],
    ['0xc000010000000043', { eptpControls: 0x16 }],
    ['0xc000010000000043', { eptpControls: 0x18 }],
    ['0xc000010000000046', { tscFrequency: 3 }],
  ] as const)
    refuses(bench, code, 'TDH.MNG.INIT', { params })
  must(bench, 'TDH.MNG.INIT', { params: { attributes: '0x80000000f0000001', xfam: '0x6dbe7', tscFrequency: 4 } })
})

test('a.4 MNG.INIT: without pages TDCS_NOT_ALLOCATED, twice OP_STATE_INCORRECT', () => {
  refuses(staged('created'), '0x8000081000000000', 'TDH.MNG.INIT', { params: {} })
  refuses(staged('keyed'), '0xc000060600000000', 'TDH.MNG.INIT', { params: {} })
  refuses(staged('initialized'), '0xc000060800000000', 'TDH.MNG.INIT', { params: {} })
  const nested = staged('allocated')
  must(nested, 'TDH.MNG.ADDCX', { page: hpa(TDCX + 6) })
  refuses(nested, '0xc000060600000000', 'TDH.MNG.INIT', { params: { l2Vms: 2 } })
  must(nested, 'TDH.MNG.INIT', { params: { l2Vms: 1 } })
})

test('a.4 VP.CREATE, VP.ADDCX, VP.INIT: six pages, an index, READY, associated', () => {
  const bench = staged('initialized')
  addVcpu(bench, TDR, TDVPR, 5)
  const vcpu = vcpuOf(bench)
  assert.deepEqual([vcpu.state, vcpu.index, vcpu.lp, vcpu.initialRcx], [2, 0, 5, 0x810000n])
  assert.equal(typeAt(bench, TDVPR), 'PT_TDVPR')
  assert.equal(typeAt(bench, TDVPR + 1), 'PT_TDCX')
  assert.equal(tdOf(bench).childCount, 12)
})

test('a.4 VP.INIT: RCX and R8 are the given value, RSI the index', () => {
  const bench = staged('with vCPU')
  must(bench, 'TDH.VP.CREATE', { page: hpa(0x80) })
  for (let index = 1; index < 6; index++) must(bench, 'TDH.VP.ADDCX', { page: hpa(0x80 + index), tdvpr: hpa(0x80) })
  assert.deepEqual(must(bench, 'TDH.VP.INIT', { tdvpr: hpa(0x80), initialRcx: '0x1234' }), {
    vcpu: 1,
    registers: { rcx: '0x1234', r8: '0x1234', rsi: '0x1' },
  })
})

test('a.4 vCPU calls refuse in order', () => {
  const bench = staged('initialized', { params: { maxVcpus: 1 } })
  refusesPages(bench, '2', 'TDH.VP.CREATE', { page: hpa(TDVPR) }, 'tdr')
  refusesPages(bench, '1', 'TDH.VP.CREATE', {})
  must(bench, 'TDH.VP.CREATE', { page: hpa(TDVPR) })
  refusesPages(bench, '2', 'TDH.VP.ADDCX', { page: hpa(TDVPR + 1) }, 'tdvpr')
  refuses(bench, '0xc000030000000002', 'TDH.VP.ADDCX', { page: hpa(TDVPR + 1), tdvpr: hpa(TDR) })
  refusesPages(bench, '1', 'TDH.VP.ADDCX', { tdvpr: hpa(TDVPR) })
  refusesPages(bench, '1', 'TDH.VP.INIT', {}, 'tdvpr')
  for (let index = 1; index < 6; index++) {
    refuses(bench, '0xc000061000000000', 'TDH.VP.INIT', { tdvpr: hpa(TDVPR) })
    must(bench, 'TDH.VP.ADDCX', { page: hpa(TDVPR + index), tdvpr: hpa(TDVPR) })
  }
  refuses(bench, '0xc000061000000000', 'TDH.VP.ADDCX', { page: '0x1', tdvpr: hpa(TDVPR) })
  must(bench, 'TDH.VP.INIT', { tdvpr: hpa(TDVPR) })
  refuses(bench, '0xc000070000000000', 'TDH.VP.INIT', { tdvpr: hpa(TDVPR) })
  refuses(bench, '0xc000070000000000', 'TDH.VP.ADDCX', { page: '0x1', tdvpr: hpa(TDVPR) })
  must(bench, 'TDH.VP.CREATE', { page: hpa(0x80) })
  for (let index = 1; index < 6; index++) must(bench, 'TDH.VP.ADDCX', { page: hpa(0x80 + index), tdvpr: hpa(0x80) })
  refuses(bench, '0xc000070500000000', 'TDH.VP.INIT', { tdvpr: hpa(0x80) })
})

test('a.4 VP.ADDCX: three more pages for each nested VM', () => {
  const bench = staged('allocated')
  for (const index of [6, 7]) must(bench, 'TDH.MNG.ADDCX', { page: hpa(TDCX + index) })
  must(bench, 'TDH.MNG.INIT', { params: { l2Vms: 2 } })
  must(bench, 'TDH.VP.CREATE', { page: hpa(TDVPR) })
  for (let index = 1; index < 12; index++) must(bench, 'TDH.VP.ADDCX', { page: hpa(TDVPR + index), tdvpr: hpa(TDVPR) })
  refuses(bench, '0xc000061000000000', 'TDH.VP.ADDCX', { page: hpa(0x80), tdvpr: hpa(TDVPR) })
})

test('a.4 MR.FINALIZE: needs an initialised vCPU, happens once', () => {
  const bench = staged('initialized')
  must(bench, 'TDH.VP.CREATE', { page: hpa(0x80) })
  refuses(bench, '0xc000060900000000', 'TDH.MR.FINALIZE')
  addVcpu(bench, TDR, TDVPR, 0)
  // e.1: the MRTD of a TD without pages is SHA-384 of nothing.
  const { mrtd } = must(bench, 'TDH.MR.FINALIZE')
  assert.match(String(mrtd), /^38b060a751ac9638/)
  assert.equal(tdOf(bench).opState, 2)
  refuses(bench, '0xc000060800000000', 'TDH.MR.FINALIZE')
})
