import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { X509Certificate } from 'node:crypto'
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { createEvidence } from '../../../../src/hw/cca/evidence/evidence.ts'
import { readToken } from '../../../../src/hw/cca/evidence/token-reader.ts'
import { ecPublicKeyInfo } from '../../../../src/hw/shared/certificate-writer.ts'
import * as der from '../../../../src/hw/shared/der.ts'
import { CHALLENGE, NO_VECTORS, publicToken, REALM_256, REALM_512, SEED } from './samples.ts'

const openssl = spawnSync('openssl', ['version'])
const noOpenssl = openssl.status !== 0 && 'openssl is not installed here'

/** Writes files and runs openssl on them; a failure fails the test. */
function workshop(t: TestContext) {
  const folder = mkdtempSync(path.join(tmpdir(), 'gmemd-cpak-'))
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
  der.sequence(der.unsigned(signature.subarray(0, 48)), der.unsigned(signature.subarray(48)))

/** Has openssl verify a token's Realm signature by its own key, and its platform signature by a certificate's, if given. */
function verifyByOpenssl(t: TestContext, bytes: Uint8Array, certificate?: string): void {
  const { file, run } = workshop(t)
  const token = readToken(bytes)
  assert.ok(token.ok)
  const verifies = (key: string, { signature, signed }: typeof token.realm.sign1) =>
    run('dgst', '-sha384', '-verify', key, '-signature', file('sig', sigValue(signature)), file('message', signed))
  const spki = ecPublicKeyInfo('p384', token.realm.claims.publicKey).toString('base64')
  verifies(file('rak', `-----BEGIN PUBLIC KEY-----\n${spki}\n-----END PUBLIC KEY-----\n`), token.realm.sign1)
  if (certificate === undefined) return
  const cpak = run('x509', '-in', file('cpak', certificate), '-noout', '-pubkey')
  verifies(file('cpak-key', cpak), token.platform.sign1)
}

test('openssl accepts the chain, and every name in it says what it is', { skip: noOpenssl }, (t) => {
  const { file, run } = workshop(t)
  const [cpak = '', root = ''] = createEvidence(SEED)
    .certificates()
    .map(({ name, pem }) => file(name, pem))
  run('verify', '-x509_strict', '-CAfile', root, root)
  run('verify', '-x509_strict', '-CAfile', root, cpak)
  for (const certificate of [cpak, root])
    for (const line of run('x509', '-in', certificate, '-noout', '-subject', '-issuer').trim().split('\n'))
      assert.match(line, /SIMULATED hardware, proves nothing.*SIMULATED/)
})

test('arm-cca.md 8.1: openssl accepts both signatures of a token', { skip: noOpenssl }, (t) => {
  const evidence = createEvidence(SEED)
  for (const realm of [REALM_256, REALM_512])
    verifyByOpenssl(t, evidence.token(realm, CHALLENGE), evidence.certificates()[0]?.pem)
})

const noToken = noOpenssl || (publicToken === undefined && NO_VECTORS)
test('arm-cca.md 8.1: openssl accepts the Realm signature of TF-RMM, over the same bytes', { skip: noToken }, (t) => {
  verifyByOpenssl(t, Buffer.from(publicToken?.token_base64 ?? '', 'base64'))
})

test('the simulated root is the same for every host, the leaf is the machine’s own', () => {
  const [one, two] = [createEvidence(SEED).certificates(), createEvidence('another host').certificates()]
  assert.deepEqual(
    one.map(({ name, subject }) => [name, subject]),
    [
      ['CPAK', 'gmemd CCA CPAK SIMULATED'],
      ['Root CA', 'gmemd CCA Root CA SIMULATED'],
    ],
  )
  assert.notEqual(one[0]?.pem, two[0]?.pem)
  assert.equal(one[1]?.pem, two[1]?.pem)
  assert.deepEqual(
    one.map(({ pem }) => new X509Certificate(pem).ca),
    [false, true],
  )
})
