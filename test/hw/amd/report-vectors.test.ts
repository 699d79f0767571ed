import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { readEndorsementKey } from '../../../src/hw/amd/certificate-reader.ts'
import { buildReport, parseReport, verifyReport } from '../../../src/hw/amd/report.ts'
import { describeReport } from '../../../src/hw/amd/report-view.ts'
import { NO_VECTORS, type ReportVector, reportVectors } from '../../support/snp-vectors.ts'

const keyOf = ({ inputs }: ReportVector) => ({
  qx: Buffer.from(inputs.publicKey.x, 'hex'),
  qy: Buffer.from(inputs.publicKey.y, 'hex'),
})

if (reportVectors === undefined) test('amd-sev-snp.md e: real reports', { skip: NO_VECTORS }, () => {})

for (const vector of reportVectors?.filter(({ kind }) => kind === 'snp-report') ?? [])
  test(`amd-sev-snp.md e: real report ${vector.name}`, () => {
    const { inputs, expected } = vector
    const bytes = Buffer.from(inputs.reportBase64, 'base64')
    const view = describeReport(bytes)
    assert.ok(view.ok)
    assert.deepEqual(view.fields, expected.fields)

    const parsed = parseReport(bytes)
    assert.ok(parsed.ok)
    const rebuilt = buildReport(parsed.report)
    assert.deepEqual(rebuilt.subarray(0, 0x2a0), bytes.subarray(0, 0x2a0), 'building is the inverse of parsing')

    if (inputs.certDerBase64 === undefined) return // this vector is for parsing only
    const key = keyOf(vector)
    assert.equal(verifyReport(bytes, key), expected.signatureValid)
    for (const { offset, xor, what, signatureValid } of expected.mutations) {
      const mutated = Buffer.from(bytes)
      mutated[Number(offset)] = (mutated[Number(offset)] ?? 0) ^ Number(xor)
      assert.equal(verifyReport(mutated, key), signatureValid, what)
    }

    const certificate = Buffer.from(inputs.certDerBase64, 'base64')
    const extensions = readEndorsementKey(certificate)
    assert.deepEqual(extensions, expected.certExtensions)
    const { hwId, productName: _, ...tcb } = extensions ?? {}
    const { raw: __, ...reported } = view.fields.reportedTcb
    if (expected.reportedTcbMatchesCert !== undefined)
      assert.equal(JSON.stringify(Object.entries(tcb).sort()) === JSON.stringify(Object.entries(reported).sort()), true)
    if (expected.chipIdMatchesCert !== undefined)
      assert.equal((view.fields.chipId as string).startsWith(hwId ?? '-'), expected.chipIdMatchesCert)
    const point = new X509Certificate(certificate).publicKey.export({ format: 'der', type: 'spki' }).subarray(-96)
    assert.deepEqual(point, Buffer.concat([key.qx, key.qy]))
  })

for (const vector of reportVectors?.filter(({ kind }) => kind === 'snp-report-wrong-key') ?? [])
  test(`amd-sev-snp.md e: ${vector.name}`, () => {
    const find = (name: string) => reportVectors?.find((other) => other.name === name)
    const [report, cert] = [find(vector.inputs.report), find(vector.inputs.cert)]
    assert.ok(report && cert)
    assert.equal(verifyReport(Buffer.from(report.inputs.reportBase64, 'base64'), keyOf(cert)), false)
  })
