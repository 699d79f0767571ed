import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { extensionKey, readExtensions } from '../../../../src/hw/shared/certificate-reader.ts'
import * as der from '../../../../src/hw/shared/der.ts'
import { pckChain } from '../../../../src/hw/tdx/evidence/certificates.ts'
import { createEvidence } from '../../../../src/hw/tdx/evidence/evidence.ts'
import { type Platform, platform } from '../../../../src/hw/tdx/evidence/platform.ts'
import { parseQuote } from '../../../../src/hw/tdx/evidence/quote-parser.ts'
import { SGX_EXTENSION_OID } from '../../../../src/hw/tdx/evidence/sgx-extension.ts'
import { NO_VECTORS, publicVectors } from './public-vectors.ts'
import { filled, SEED, TD } from './samples.ts'
import { chainOf } from './verify-quote.ts'

const openssl = spawnSync('openssl', ['version'])
const noOpenssl = openssl.status !== 0 && 'openssl is not installed here'

/** Writes files and runs openssl on them; a failure fails the test. */
function workshop(t: TestContext) {
  const folder = mkdtempSync(path.join(tmpdir(), 'gmemd-pck-'))
  t.after(() => rmSync(folder, { recursive: true }))
  return {
    file(name: string, contents: string | Uint8Array): string {
      writeFileSync(path.join(folder, name), contents)
      return path.join(folder, name)
    },
    run(...args: string[]): string {
      const { status, stdout, stderr } = spawnSync('openssl', args, { encoding: 'utf8' })
      assert.equal(status, 0, `openssl ${args[0]}: ${stdout}${stderr}`)
      return stdout
    },
  }
}

/** r ‖ s as the DER that openssl reads. */
const sigValue = (signature: Uint8Array): Buffer =>
  der.sequence(der.unsigned(signature.subarray(0, 32)), der.unsigned(signature.subarray(32)))

test('e.4: openssl accepts the chain, and every name in it says what it is', { skip: noOpenssl }, (t) => {
  const { file, run } = workshop(t)
  const [pck = '', platformCa = '', root = ''] = createEvidence(SEED)
    .certificates()
    .map(({ name, pem }) => file(name, pem))
  run('verify', '-x509_strict', '-CAfile', root, root)
  run('verify', '-x509_strict', '-CAfile', root, platformCa)
  run('verify', '-x509_strict', '-CAfile', root, '-untrusted', platformCa, pck)
  for (const certificate of [pck, platformCa, root])
    for (const line of run('x509', '-in', certificate, '-noout', '-subject', '-issuer').trim().split('\n'))
      assert.match(line, /SIMULATED hardware, proves nothing.*SIMULATED/)
})

for (const version of [4, 5] as const)
  test(`e.4: openssl accepts both signatures of a v${version} quote`, { skip: noOpenssl }, (t) => {
    const { file, run } = workshop(t)
    const evidence = createEvidence(SEED)
    const made = evidence.quote(evidence.tdReport(TD, filled(64, 1)), version)
    assert.ok(made.ok)
    const parsed = parseQuote(made.quote)
    assert.ok(parsed.ok)
    const { quote, signedBytes } = parsed
    const verifies = (key: string, signature: Uint8Array, message: Uint8Array) =>
      run('dgst', '-sha256', '-verify', key, '-signature', file('sig', sigValue(signature)), file('message', message))

    const pck = file('pck', evidence.certificates()[0]?.pem ?? '')
    verifies(file('pck-key', run('x509', '-in', pck, '-noout', '-pubkey')), quote.qeReportSignature, quote.qeReport)

    const spki = der.sequence(
      der.sequence(der.oid('1.2.840.10045.2.1'), der.oid('1.2.840.10045.3.1.7')),
      der.bitString(Buffer.concat([Buffer.from([4]), quote.attestationKey])),
    )
    const pem = `-----BEGIN PUBLIC KEY-----\n${spki.toString('base64')}\n-----END PUBLIC KEY-----\n`
    verifies(file('attestation-key', pem), quote.signature, made.quote.subarray(0, signedBytes))
  })

test('the simulated root and platform authority are the same for every host, the leaf is the machine’s own', () => {
  const [one, two] = [pckChain(platform(SEED)), pckChain(platform('another host'))]
  assert.deepEqual(one.root, two.root)
  assert.deepEqual(one.platformCa, two.platformCa)
  assert.notDeepEqual(one.pck, two.pck)
  const [leaf, authority, root] = [one.pck, one.platformCa, one.root].map(({ der }) => new X509Certificate(der))
  assert.deepEqual([leaf?.ca, authority?.ca, root?.ca], [false, true, true])
  assert.match(leaf?.subject ?? '', /^CN=gmemd SGX PCK Certificate SIMULATED$/m)
  assert.match(authority?.subject ?? '', /^CN=gmemd SGX PCK Platform CA SIMULATED$/m)
  assert.match(root?.subject ?? '', /^CN=gmemd SGX Root CA SIMULATED$/m)
})

type Entries = { [oid: string]: string | Entries }

/** Intel's extension as a tree: OID (hex) to the DER of its value, or to the entries of a sequence. */
function entriesOf(sequence: Buffer): Entries {
  const entries: Entries = {}
  for (const { contents } of der.readAll(sequence) ?? assert.fail('not DER')) {
    const [type, value] = der.readAll(contents) ?? []
    assert.ok(type && value)
    const oid = type.contents.toString('hex')
    const raw = contents.subarray(type.end)
    entries[oid] = value.tag === 0x30 ? entriesOf(value.contents) : raw.toString('hex')
  }
  return entries
}

function sgxEntries(certificate: Uint8Array): Entries {
  const value = readExtensions(certificate)?.get(extensionKey(SGX_EXTENSION_OID))
  const outer = der.readElement(value ?? assert.fail('no SGX extension'), 0)
  return entriesOf(outer?.contents ?? assert.fail('not DER'))
}

const key = (...arcs: number[]): string => extensionKey([SGX_EXTENSION_OID, ...arcs].join('.'))
const entryAt = (entries: Entries, first: number, second?: number): unknown => {
  const entry = entries[key(first)]
  return second === undefined || typeof entry !== 'object' ? entry : entry[key(first, second)]
}
const octets = (bytes: Uint8Array): string => der.octetString(bytes).toString('hex')

test('Intel’s extension of the PCK certificate states the platform’s ids and its TCB', () => {
  const machine: Platform = {
    ...platform(SEED),
    tcb: { components: Uint8Array.from({ length: 16 }, (_, index) => index * 16), pceSvn: 300 },
  }
  const entries = sgxEntries(pckChain(machine).pck.der)
  assert.equal(entryAt(entries, 1), octets(machine.ppid))
  for (let component = 0; component < 16; component++)
    assert.equal(entryAt(entries, 2, component + 1), der.integer(component * 16).toString('hex'))
  assert.equal(entryAt(entries, 2, 17), '0202012c')
  assert.equal(entryAt(entries, 2, 18), octets(machine.tcb.components))
  assert.equal(entryAt(entries, 3), '04020000')
  assert.equal(entryAt(entries, 4), '040650806f000000')
  assert.equal(entryAt(entries, 5), '0a0101')
  assert.equal(entryAt(entries, 6), octets(machine.platformInstanceId))
  assert.deepEqual(
    [1, 2, 3].map((flag) => entryAt(entries, 7, flag)),
    ['0101ff', '010100', '0101ff'],
  )
})

const real = publicVectors.filter(({ kind }) => kind === 'quote')
if (real.length === 0) test('the shape of real PCK certificates', { skip: NO_VECTORS }, () => {})

for (const { id, bytes } of real)
  test(`our PCK certificate has the extensions of ${id}’s but the revocation list, and Intel’s entries in order`, () => {
    const parsed = parseQuote(bytes)
    assert.ok(parsed.ok)
    const theirs = chainOf(parsed.quote.pckChain)[0]?.raw ?? assert.fail('no leaf')
    const ours = pckChain(platform(SEED)).pck.der
    const extensions = (certificate: Uint8Array) => [...(readExtensions(certificate) ?? new Map()).keys()]
    assert.deepEqual(
      extensions(ours),
      extensions(theirs).filter((oid) => oid !== extensionKey('2.5.29.31')),
    )
    const shape = (entries: Entries): unknown =>
      Object.entries(entries).map(([oid, value]) =>
        typeof value === 'string' ? [oid, value.slice(0, 2)] : [oid, shape(value)],
      )
    assert.deepEqual(shape(sgxEntries(ours)), shape(sgxEntries(theirs)))
  })
