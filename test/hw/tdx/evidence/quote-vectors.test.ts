import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createEvidence } from '../../../../src/hw/tdx/evidence/evidence.ts'
import { buildContents, buildQuote, type Quote } from '../../../../src/hw/tdx/evidence/quote.ts'
import { parseQuote } from '../../../../src/hw/tdx/evidence/quote-parser.ts'
import { NO_VECTORS, publicVectors } from './public-vectors.ts'
import { filled, SEED, TD } from './samples.ts'
import { chainOf, verifyQuote } from './verify-quote.ts'

const rootOf = (pem: Uint8Array): Buffer => chainOf(pem)[2]?.raw ?? assert.fail('no root in the chain')

/** Verifies a quote, then the same quote with one byte changed in each part that something vouches for. */
function assertVerifies(bytes: Buffer): void {
  const parsed = parseQuote(bytes)
  assert.ok(parsed.ok)
  const { quote, signedBytes } = parsed
  const root = rootOf(quote.pckChain)
  assert.equal(verifyQuote(bytes, root), 'verified')
  const data = signedBytes + 4
  const changes: [number, string][] = [
    [32, 'signature'],
    [signedBytes - 1, 'signature'],
    [data, 'signature'],
    [data + 64, 'qe-binding'],
    [data + 134, 'qe-report-signature'],
    [data + 134 + 320, 'qe-report-signature'],
    [data + 134 + 384, 'qe-report-signature'],
    [data + 134 + 384 + 64 + 2, 'qe-binding'],
  ]
  for (const [at, verdict] of changes) {
    const changed = Buffer.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 1
    assert.equal(verifyQuote(changed, root), verdict, `byte ${at}`)
  }
  assert.equal(verifyQuote(bytes, root.subarray(1)), 'root')
}

const real = publicVectors.filter(({ kind }) => kind === 'quote')
if (real.length === 0) test('e.4: real quotes', { skip: NO_VECTORS }, () => {})

for (const { id, bytes, expect } of real) {
  test(`e.4: the real quote ${id} has these fields, and builds again to the same bytes`, () => {
    const parsed = parseQuote(bytes)
    assert.ok(parsed.ok)
    const { quote, signedBytes, length } = parsed
    assert.equal(signedBytes, expect.signed_bytes)
    assert.equal(length, expect.total_used)
    for (const [name, value] of Object.entries(fieldsOf(quote))) assert.equal(value, expect[name], name)
    assert.deepEqual(buildQuote(buildContents(quote), quote), bytes.subarray(0, length))
  })
  test(`e.4: the real quote ${id} verifies up to its root, and no longer when changed`, () => assertVerifies(bytes))
}

for (const version of [4, 5] as const)
  test(`e.4: a v${version} quote of ours verifies up to its root, and no longer when changed`, () => {
    const evidence = createEvidence(SEED)
    const report = evidence.report(TD, filled(20, 9), version)
    assert.ok(report.ok)
    const bytes = Buffer.from(String(report.value.quote), 'base64')
    assertVerifies(bytes)
    const parsed = parseQuote(bytes)
    assert.ok(parsed.ok)
    assert.equal(parsed.length, bytes.length)
    assert.equal(parsed.signedBytes, version === 4 ? 632 : 702)
    const pem = evidence.certificates().map((certificate) => certificate.pem)
    assert.equal(Buffer.from(parsed.quote.pckChain).toString(), pem.join(''))
    const other = parseQuote(Buffer.from(real[0]?.bytes ?? []))
    if (other.ok) assert.equal(verifyQuote(bytes, rootOf(other.quote.pckChain)), 'root', 'the vendor’s real root')
  })

function fieldsOf({ version, qeVendorId, userData, body }: Quote): Record<string, string | number> {
  const text = (field: Uint8Array): string => Buffer.from(field).toString('hex')
  const word = (value: bigint): string => {
    const field = Buffer.alloc(8)
    field.writeBigUInt64LE(value)
    return text(field)
  }
  return {
    'header.version': version,
    'header.qe_vendor_id': text(qeVendorId),
    'header.user_data': text(userData),
    'body.tee_tcb_svn': text(body.teeTcbSvn),
    'body.mrseam': text(body.mrseam),
    'body.mrsignerseam': text(body.mrsignerseam),
    'body.seam_attributes': word(body.seamAttributes),
    'body.td_attributes': word(body.attributes),
    'body.xfam': word(body.xfam),
    'body.mrtd': text(body.mrtd),
    'body.mrconfigid': text(body.mrconfigid),
    'body.mrowner': text(body.mrowner),
    'body.mrownerconfig': text(body.mrownerconfig),
    ...Object.fromEntries(body.rtmrs.map((rtmr, index) => [`body.rtmr${index}`, text(rtmr)])),
    'body.reportdata': text(body.reportData),
    ...(body.tdx15 && {
      'body.tee_tcb_svn_2': text(body.tdx15.teeTcbSvn2),
      'body.mrservicetd': text(body.tdx15.mrservicetd),
    }),
  }
}
