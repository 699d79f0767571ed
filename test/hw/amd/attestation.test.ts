import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { readEndorsementKey } from '../../../src/hw/amd/certificate-reader.ts'
import { certificateChain } from '../../../src/hw/amd/certificates.ts'
import { NO_IDENTITY } from '../../../src/hw/amd/id-block.ts'
import { attest, derive, PRODUCTS, platform } from '../../../src/hw/amd/platform-keys.ts'
import { parseReport, REPORT_BYTES, reportSignature, SIGNED_BYTES, verifyReport } from '../../../src/hw/amd/report.ts'
import { describeReport } from '../../../src/hw/amd/report-view.ts'
import * as der from '../../../src/hw/shared/der.ts'

const SEED = 'a host of the test'
const guest = {
  policy: 0x30000n,
  measurement: Buffer.alloc(48, 1),
  reportData: Buffer.alloc(64, 2),
  hostData: Buffer.alloc(32, 3),
  reportId: derive(SEED, 'report id 1', 32),
  vmpl: 0,
  identity: NO_IDENTITY,
}
const openssl = spawnSync('openssl', ['version'])
const noOpenssl = openssl.status !== 0 && 'openssl is not installed here'

for (const product of PRODUCTS) {
  test(`amd-sev-snp.md e: a simulated ${product} writes the report version of its firmware, signed by its VCEK`, () => {
    const machine = platform(SEED, product)
    const report = attest(machine, guest)
    assert.equal(report.length, REPORT_BYTES)
    assert.equal(verifyReport(report, machine.vcekPublic), true)
    const view = describeReport(report)
    assert.ok(view.ok)
    const { fields } = view
    assert.equal(fields.version, product === 'Milan' ? 3 : 5)
    assert.equal(fields.currentVersion, { Milan: '1.55.29', Genoa: '1.55.49', Turin: '1.55.65' }[product])
    assert.equal(fields.measurement, '01'.repeat(48))
    assert.equal(fields.reportIdMa, 'ff'.repeat(32))
    assert.equal(fields.signingKey, 'VCEK')
    assert.equal('launchMitVector' in fields, product !== 'Milan')
    assert.deepEqual(report.subarray(0x330), Buffer.alloc(368))

    const { vcek } = certificateChain(SEED, product)
    const { hwId, productName, ...tcb } = readEndorsementKey(vcek.der) ?? {}
    const { raw: _, ...reported } = fields.reportedTcb
    assert.deepEqual(tcb, reported, 'the certificate matches reported_tcb')
    assert.equal(fields.chipId, (hwId ?? '').padEnd(128, '0'))
    assert.equal(hwId?.length, product === 'Turin' ? 16 : 128)
    assert.equal(productName, product === 'Milan' ? 'Milan-B0' : product)
  })

  test(`amd-sev-snp.md e: openssl accepts the ${product} chain and the report’s signature`, { skip: noOpenssl }, () => {
    const folder = mkdtempSync(path.join(tmpdir(), 'gmemd-chain-'))
    try {
      const file = (name: string, contents: string | Uint8Array) => {
        writeFileSync(path.join(folder, name), contents)
        return path.join(folder, name)
      }
      const run = (...args: string[]) => {
        const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8' })
        assert.equal(status, 0, `openssl ${args[0]}: ${stdout}${stderr}`)
        return stdout
      }
      const chain = certificateChain(SEED, product)
      const [ark, ask, vcek] = [file('ark', chain.ark.pem), file('ask', chain.ask.pem), file('vcek', chain.vcek.pem)]
      run('verify', '-x509_strict', '-CAfile', ark, ark)
      run('verify', '-x509_strict', '-CAfile', ark, ask)
      run('verify', '-CAfile', ark, '-untrusted', ask, vcek)
      for (const line of run('x509', '-in', vcek, '-noout', '-subject', '-issuer').trim().split('\n'))
        assert.match(line, /SIMULATED/)

      const report = attest(platform(SEED, product), guest)
      const { r, s } = reportSignature(report) ?? assert.fail('no signature')
      const unsigned = (bytes: Uint8Array) => der.tagged(2, Buffer.concat([Buffer.from([0]), bytes]))
      const minimal = (bytes: Uint8Array) => ((bytes[0] ?? 0) >= 0x80 ? unsigned(bytes) : der.tagged(2, bytes))
      const publicKey = file('key', run('x509', '-in', vcek, '-noout', '-pubkey'))
      const signature = file('signature', der.sequence(minimal(r), minimal(s)))
      run(
        'dgst',
        '-sha384',
        '-verify',
        publicKey,
        '-signature',
        signature,
        file('signed', report.subarray(0, SIGNED_BYTES)),
      )
    } finally {
      rmSync(folder, { recursive: true })
    }
  })
}

test('evidence is a function of the seed and the inputs', () => {
  const chain = certificateChain(SEED)
  assert.deepEqual(certificateChain(SEED), chain)
  assert.deepEqual(attest(platform(SEED), guest), attest(platform(SEED), guest))
  const other = platform('another host')
  assert.notDeepEqual(other.chipId, platform(SEED).chipId)
  assert.notDeepEqual(other.vcekPublic, platform(SEED).vcekPublic)
  assert.equal(verifyReport(attest(other, guest), platform(SEED).vcekPublic), false)
  const updated = { bootloader: 10, tee: 0, snp: 28, microcode: 90 }
  assert.notDeepEqual(platform(SEED, 'Genoa', updated).vcekPublic, platform(SEED).vcekPublic, 'one VCEK per TCB')
  assert.deepEqual(platform(SEED, 'Genoa', updated).chipId, platform(SEED).chipId)
})

test('the simulated ARK and ASK are the same for every host', () => {
  const [one, two] = [certificateChain(SEED), certificateChain('another host')]
  assert.deepEqual(one.ark, two.ark)
  assert.deepEqual(one.ask, two.ask)
  const ark = new X509Certificate(one.ark.der)
  assert.equal(ark.ca, true)
  assert.match(ark.subject, /^CN=ARK-gmemd-Genoa SIMULATED$/m)
  assert.equal(new X509Certificate(one.vcek.der).checkIssued(new X509Certificate(one.ask.der)), true)
})

test('amd-sev-snp.md e: reports of a wrong length or an unknown version are refused, garbage never throws', () => {
  const code = (bytes: Uint8Array) => {
    const answer = parseReport(bytes)
    return answer.ok ? 'parsed' : answer.fault.code
  }
  assert.equal(code(new Uint8Array(REPORT_BYTES - 1)), 'report-length')
  assert.equal(code(new Uint8Array(REPORT_BYTES)), 'report-version')
  const key = platform(SEED).vcekPublic
  fc.assert(
    fc.property(
      fc.uint8Array({ minLength: REPORT_BYTES, maxLength: REPORT_BYTES }),
      fc.integer({ min: 0, max: 6 }),
      (noise, version) => {
        const bytes = Uint8Array.from(noise)
        bytes.set([version, 0, 0, 0])
        describeReport(bytes)
        assert.equal(verifyReport(bytes, key), false)
      },
    ),
    { numRuns: 50 },
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 64 }), (bytes) => void readEndorsementKey(bytes)))
})
