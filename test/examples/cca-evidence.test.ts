import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { arm64Image } from '../../examples/arm64-image.ts'
import { brokenLink, partsOf, realmClaims } from '../../examples/cca-token.ts'
import { rehash } from '../../examples/cca-transcript.ts'
import { createEvidence } from '../../src/hw/cca/evidence/evidence.ts'
import { measurer } from '../../src/hw/cca/measurement/measure.ts'
import { VMMS } from '../../src/hw/cca/measurement/vmms.ts'

type Measured = { readonly rim: string; readonly steps: Parameters<typeof rehash>[0] }

const rim = new Uint8Array(64).fill(0x11, 0, 32)
const REALM = { hashAlgo: 0, rpv: new Uint8Array(64).fill(0x22), rim, rems: Array(4).fill(new Uint8Array(64)) } as const

test('the example tells which link of a token is broken (arm-cca.md 8.1)', () => {
  const evidence = createEvidence('example')
  const token = evidence.token(REALM, new Uint8Array(64).fill(0x33))
  const [cpak] = evidence.certificates().map(({ pem }) => new X509Certificate(pem))
  assert.ok(cpak)
  assert.equal(brokenLink(token, cpak.publicKey), 'none')
  const { platform, realm } = partsOf(token)
  const at = (bytes: Uint8Array): number => Buffer.from(token).indexOf(bytes)
  for (const [changed, link] of [
    [at(platform.signature), 'platform'],
    [at(realm.signature), 'realm'],
    [at(rim.subarray(0, 32)), 'realm'],
  ] as const) {
    const bytes = Buffer.from(token)
    bytes.writeUInt8(bytes.readUInt8(changed) ^ 1, changed)
    assert.equal(brokenLink(bytes, cpak.publicKey), link, `byte ${changed}`)
  }
  const other = createEvidence('another machine').token(REALM, new Uint8Array(64))
  const foreign = partsOf(other).realm
  const spliced = splice(token, realm.signature, foreign.signature)
  assert.equal(brokenLink(spliced, cpak.publicKey), 'realm')
  assert.equal(brokenLink(other, cpak.publicKey), 'platform')
})

function splice(token: Uint8Array, old: Uint8Array, replacement: Uint8Array): Buffer {
  const bytes = Buffer.from(token)
  bytes.set(replacement, bytes.indexOf(old))
  return bytes
}

test('the example finds a Realm key that the platform does not vouch for (arm-cca.md 8.1)', () => {
  const evidence = createEvidence('example')
  const [own, other] = ['example', 'another machine'].map((seed) =>
    Buffer.from(createEvidence(seed).token(REALM, new Uint8Array(64))),
  )
  const [cpak] = evidence.certificates().map(({ pem }) => new X509Certificate(pem))
  assert.ok(own && other && cpak)
  // Both parts are as long on every machine, and the Realm's is the last.
  assert.equal(own.length, other.length)
  const realmAt = own.lastIndexOf(Buffer.from('d284', 'hex'))
  const mixed = Buffer.concat([own.subarray(0, realmAt), other.subarray(realmAt)])
  assert.equal(brokenLink(mixed, cpak.publicKey), 'binding')
})

test('the example reads the claims of a Realm (arm-cca.md 8.1)', () => {
  const challenge = new Uint8Array(64).fill(0x33)
  const claims = realmClaims(partsOf(createEvidence('example').token(REALM, challenge)).realm)
  assert.deepEqual(claims, {
    challenge: Buffer.from(challenge),
    rpv: '22'.repeat(64),
    rim: '11'.repeat(32),
    rems: Array(4).fill('00'.repeat(32)),
  })
})

test('the example hashes the transcript of every VMM to the RIM, and of no other image (arm-cca.md 8, 9)', () => {
  const image = arm64Image()
  for (const vmm of Object.keys(VMMS)) {
    const images = [{ ipa: '0x80000000', content: image }]
    const measured = measurer.measure({ vmm, ramSize: 2 ** 30 * 1.5, images, entry: '0x80000000', vcpus: 3 })
    assert.ok(measured.ok)
    const { rim: expected, steps } = measured.value as Measured
    assert.equal(rehash(steps, image), expected, vmm)
    const changed = Buffer.from(image).fill(0x90, 5000, 5001)
    assert.throws(() => rehash(steps, changed), /^Error: step \d+ \(data\) comes to /)
  }
})
