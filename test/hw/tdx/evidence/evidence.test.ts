import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import { createEvidence } from '../../../../src/hw/tdx/evidence/evidence.ts'
import { platform } from '../../../../src/hw/tdx/evidence/platform.ts'
import { parseQuote } from '../../../../src/hw/tdx/evidence/quote-parser.ts'
import { parseTdReport, verifyMac } from '../../../../src/hw/tdx/evidence/tdreport.ts'
import { filled, SEED, TD } from './samples.ts'

const NONCE = filled(20, 3)

function evidenceOf(seed: string, nonce: Uint8Array, version?: 4 | 5): Readonly<Record<string, unknown>> {
  const report = createEvidence(seed).report(TD, nonce, version)
  assert.ok(report.ok)
  return report.value
}
const bytesOf = (value: unknown): Buffer => Buffer.from(String(value), 'base64')

test('e.3, e.4: evidence is a TDREPORT and a v4 quote over the nonce, stamped as simulated', () => {
  const value = evidenceOf(SEED, NONCE)
  assert.equal(value.format, 'intel-tdx-quote-v4')
  assert.equal(value.simulated, true)
  assert.equal(value.measurement, '21'.repeat(48))
  const tdreport = bytesOf(value.tdreport)
  assert.equal(verifyMac(tdreport, platform(SEED).macKey), true)
  const parsed = parseTdReport(tdreport)
  const quote = parseQuote(bytesOf(value.quote))
  assert.ok(parsed.ok && quote.ok)
  const { report } = parsed
  assert.deepEqual(report.reportData, Uint8Array.from([...NONCE, ...filled(44, 0)]))
  assert.deepEqual(report.tdInfo, TD)
  const { body, version } = quote.quote
  assert.equal(version, 4)
  const { servtdHash: _, ...measurements } = TD
  const { valid: __, teeTcbSvn2: ___, ...seam } = report.teeTcbInfo
  assert.deepEqual(body, { ...seam, ...measurements, reportData: report.reportData })
  const fields = value.fields as Record<string, unknown>
  assert.equal(fields.mrtd, value.measurement)
  assert.equal(fields.reportData, Buffer.from(report.reportData).toString('hex'))
})

test('e.4: a v5 quote also carries the module’s present version and SERVTD_HASH', () => {
  const evidence = createEvidence(SEED)
  const servtdHash = filled(48, 0x25)
  const report = evidence.report({ ...TD, servtdHash }, NONCE, 5)
  assert.ok(report.ok)
  assert.equal(report.value.format, 'intel-tdx-quote-v5')
  const quote = parseQuote(bytesOf(report.value.quote))
  assert.ok(quote.ok)
  assert.deepEqual(quote.quote.body.tdx15, {
    teeTcbSvn2: Uint8Array.from(platform(SEED).teeTcbInfo.teeTcbSvn2),
    mrservicetd: servtdHash,
  })
})

test('a nonce of 64 bytes is taken whole, one of 65 is EINVAL', () => {
  const fields = evidenceOf(SEED, filled(64, 7)).fields as Record<string, unknown>
  assert.equal(fields.reportData, '07'.repeat(64))
  const long = createEvidence(SEED).report(TD, filled(65, 7))
  assert.ok(!long.ok)
  assert.deepEqual([long.refusal.errno, long.refusal.code, long.refusal.pointer], ['EINVAL', 'nonce-length', '/nonce'])
})

test('evidence is a function of the seed and the inputs', () => {
  assert.deepEqual(evidenceOf(SEED, NONCE), evidenceOf(SEED, NONCE))
  assert.deepEqual(createEvidence(SEED).certificates(), createEvidence(SEED).certificates())
  const evidence = createEvidence(SEED)
  const first = evidence.report(TD, NONCE)
  evidence.report(TD, filled(4, 1), 5)
  assert.deepEqual(evidence.report(TD, NONCE), first, 'whatever was asked before')
  const other = evidenceOf('another host', NONCE)
  for (const name of ['attestationKey', 'userData', 'qeReportSignature'])
    assert.notEqual(
      (other.fields as Record<string, unknown>)[name],
      (evidenceOf(SEED, NONCE).fields as Record<string, unknown>)[name],
    )
})

test('e.3: only the machine that made a TDREPORT quotes it', () => {
  const evidence = createEvidence(SEED)
  const tdreport = evidence.tdReport(TD, filled(64, 5))
  const quoted = evidence.quote(tdreport, 4)
  const reported = evidence.report(TD, filled(64, 5))
  assert.ok(quoted.ok && reported.ok)
  assert.deepEqual(quoted.quote, bytesOf(reported.value.quote), 'both ways give the same quote')

  const refusedBy = (bytes: Uint8Array, of = evidence): string => {
    const answer = of.quote(bytes, 4)
    return answer.ok ? 'quoted' : answer.refusal.field
  }
  const changed = (at: number): Buffer => {
    const copy = Buffer.from(tdreport)
    copy[at] = (copy[at] ?? 0) ^ 1
    return copy
  }
  assert.equal(refusedBy(tdreport, createEvidence('another host')), 'mac')
  assert.equal(refusedBy(changed(128)), 'mac', 'REPORTDATA')
  assert.equal(refusedBy(changed(224)), 'mac', 'the MAC itself')
  assert.equal(refusedBy(changed(528)), 'teeInfoHash', 'MRTD')
  assert.equal(refusedBy(changed(280)), 'teeTcbInfoHash', 'MRSEAM')
  assert.equal(refusedBy(tdreport.subarray(1)), 'length')
})

type OwnVectors = {
  readonly seed: string
  readonly nonceHex: string
  readonly vectors: readonly {
    readonly version: 4 | 5
    readonly tdreportBase64: string
    readonly quoteBase64: string
  }[]
}

test('the bytes of our own evidence stay as they were when openssl was asked about them', () => {
  const file = path.join(import.meta.dirname, '..', '..', '..', 'vectors', 'tdx-quote-gmemd.json')
  const { seed, nonceHex, vectors } = JSON.parse(readFileSync(file, 'utf8')) as OwnVectors
  assert.deepEqual(
    vectors.map(({ version }) => version),
    [4, 5],
  )
  for (const { version, tdreportBase64, quoteBase64 } of vectors) {
    const value = evidenceOf(seed, Buffer.from(nonceHex, 'hex'), version)
    assert.equal(value.tdreport, tdreportBase64)
    assert.equal(value.quote, quoteBase64)
  }
})
