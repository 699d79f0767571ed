import assert from 'node:assert/strict'
import { createHmac, hash } from 'node:crypto'
import { test } from 'node:test'
import fc from 'fast-check'
import { buildTdReport, parseTdReport, TDREPORT_BYTES, verifyMac } from '../../../../src/hw/tdx/evidence/tdreport.ts'
import { NO_VECTORS, publicVectors } from './public-vectors.ts'
import { anyReport, filled, REPORT, TD } from './samples.ts'

const KEY = filled(32, 0x77)
const report = buildTdReport(REPORT, KEY)
const hex = (from: number, length: number): string => report.subarray(from, from + length).toString('hex')
const fieldRefused = (bytes: Uint8Array): string => {
  const parsed = parseTdReport(bytes)
  return parsed.ok ? 'accepted' : parsed.refusal.field
}
function changed(bytes: Uint8Array, at: number, value?: number): Buffer {
  const copy = Buffer.from(bytes)
  copy[at] = value ?? (copy[at] ?? 0) ^ 1
  return copy
}

test('e.3: every field of a TDREPORT lies at its offset, and nothing lies elsewhere', () => {
  const fields: [number, string][] = [
    [0, '81000000'],
    [16, '01'.repeat(16)],
    [32, hash('sha384', report.subarray(256, 256 + 239))],
    [80, hash('sha384', report.subarray(512, 1024))],
    [128, '02'.repeat(64)],
    [224, createHmac('sha256', KEY).update(report.subarray(0, 224)).digest('hex')],
    [256, 'ff01030000000000'],
    [264, '11'.repeat(16)],
    [280, '12'.repeat(48)],
    [328, '13'.repeat(48)],
    [376, '14'.repeat(8)],
    [384, '15'.repeat(16)],
    [512, '0000001000000000'],
    [520, 'e718060000000000'],
    [528, '21'.repeat(48)],
    [576, '22'.repeat(48)],
    [624, '23'.repeat(48)],
    [672, '24'.repeat(48)],
    [720, '30'.repeat(48)],
    [768, '31'.repeat(48)],
    [816, '32'.repeat(48)],
    [864, '33'.repeat(48)],
  ]
  const rest = Buffer.from(report)
  for (const [at, expected] of fields) {
    assert.equal(hex(at, expected.length / 2), expected, `at ${at}`)
    rest.fill(0, at, at + expected.length / 2)
  }
  assert.deepEqual(rest, Buffer.alloc(TDREPORT_BYTES))
})

test('e.3: a TD with service TDs bound has SERVTD_HASH at 912 and report version 1', () => {
  const bound = buildTdReport({ ...REPORT, tdInfo: { ...TD, servtdHash: filled(48, 0x25) } }, KEY)
  assert.equal(bound[2], 1)
  assert.deepEqual(Uint8Array.from(bound.subarray(912, 960)), filled(48, 0x25))
  assert.equal(fieldRefused(bound), 'accepted')
})

test('e.3: reading a TDREPORT is the inverse of building it', () => {
  fc.assert(
    fc.property(anyReport, (input) => {
      const bytes = buildTdReport(input, KEY)
      const parsed = parseTdReport(bytes)
      assert.ok(parsed.ok)
      const { version, mac, ...read } = parsed.report
      assert.deepEqual(read, input)
      assert.equal(version, input.tdInfo.servtdHash.some((byte) => byte !== 0) ? 1 : 0)
      assert.deepEqual(mac, Uint8Array.from(bytes.subarray(224, 256)))
    }),
  )
})

test('e.3: the MAC covers bytes 0 to 223 and needs the CPU’s key', () => {
  assert.equal(verifyMac(report, KEY), true)
  assert.equal(verifyMac(report, filled(32, 0x78)), false)
  for (const length of [0, 223, 256, 1023, 1025]) assert.equal(verifyMac(new Uint8Array(length), KEY), false)
  fc.assert(
    fc.property(fc.integer({ min: 0, max: TDREPORT_BYTES - 1 }), (at) => {
      assert.equal(verifyMac(changed(report, at), KEY), at >= 256)
    }),
  )
})

test('e.3: the hashes stand for TEE_TCB_INFO without its padding, and for all of TDINFO', () => {
  for (const at of [256, 300, 494]) assert.equal(fieldRefused(changed(report, at)), 'teeTcbInfoHash')
  for (const at of [32, 79]) assert.equal(fieldRefused(changed(report, at)), 'teeTcbInfoHash')
  for (const at of [495, 511]) assert.equal(fieldRefused(changed(report, at)), 'accepted')
  for (const at of [80, 127, 512, 960, 1023]) assert.equal(fieldRefused(changed(report, at)), 'teeInfoHash')
})

test('e.3: a TDREPORT of another length or kind is refused with the field’s name', () => {
  for (const length of [0, TDREPORT_BYTES - 1, TDREPORT_BYTES + 1])
    assert.equal(fieldRefused(new Uint8Array(length)), 'length')
  assert.equal(fieldRefused(changed(report, 0, 0)), 'type')
  assert.equal(fieldRefused(changed(report, 1)), 'subtype')
  assert.equal(fieldRefused(changed(report, 2, 2)), 'version')
  fc.assert(
    fc.property(fc.uint8Array({ minLength: TDREPORT_BYTES, maxLength: TDREPORT_BYTES }), (noise) => {
      assert.notEqual(fieldRefused(noise), 'accepted')
    }),
    { numRuns: 50 },
  )
})

test('a field of another length than its own is a bug in the caller', () => {
  assert.throws(() => buildTdReport({ ...REPORT, reportData: filled(63, 0) }, KEY), RangeError)
})

const real = publicVectors.filter(({ kind }) => kind === 'tdreport')
if (real.length === 0) test('e.3: real TDREPORTs', { skip: NO_VECTORS }, () => {})

for (const { id, bytes, expect } of real)
  test(`e.3: the real TDREPORT ${id} has these fields, and builds again to the same bytes`, () => {
    const parsed = parseTdReport(bytes)
    assert.ok(parsed.ok)
    const { cpusvn, reportData, teeTcbInfo, tdInfo, mac } = parsed.report
    const text = (field: Uint8Array): string => Buffer.from(field).toString('hex')
    const word = (value: bigint): string => {
      const field = Buffer.alloc(8)
      field.writeBigUInt64LE(value)
      return text(field)
    }
    const read: Record<string, string> = {
      'reportmac.cpusvn': text(cpusvn),
      'reportmac.reportdata': text(reportData),
      'tee_tcb_info.valid': word(teeTcbInfo.valid),
      'tee_tcb_info.tee_tcb_svn': text(teeTcbInfo.teeTcbSvn),
      'tee_tcb_info.mrseam': text(teeTcbInfo.mrseam),
      'tdinfo.attributes': word(tdInfo.attributes),
      'tdinfo.xfam': word(tdInfo.xfam),
      'tdinfo.mrtd': text(tdInfo.mrtd),
      'tdinfo.mrconfigid': text(tdInfo.mrconfigid),
      'tdinfo.mrowner': text(tdInfo.mrowner),
      'tdinfo.mrownerconfig': text(tdInfo.mrownerconfig),
      'tdinfo.servtd_hash': text(tdInfo.servtdHash),
      ...Object.fromEntries(tdInfo.rtmrs.map((rtmr, index) => [`tdinfo.rtmr${index}`, text(rtmr)])),
    }
    for (const [name, value] of Object.entries(read)) assert.equal(value, expect[name], name)

    const rebuilt = buildTdReport(parsed.report, KEY)
    rebuilt.set(mac, 224)
    assert.deepEqual(rebuilt, bytes)
  })
