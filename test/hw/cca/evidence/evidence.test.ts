import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { createEvidence } from '../../../../src/hw/cca/evidence/evidence.ts'
import { describeToken } from '../../../../src/hw/cca/evidence/token-view.ts'
import { CHALLENGE, filled, REALM_256, REALM_512, SEED } from './samples.ts'
import { verifyToken } from './verify-token.ts'

type Answer = ReturnType<typeof JSON.parse>

function report(challenge: Uint8Array, seed = SEED, realm = REALM_256): Answer {
  const answer = createEvidence(seed).report(realm, challenge)
  assert.ok(answer.ok)
  return answer.value
}
const bytesOf = (base64: string): Uint8Array => Uint8Array.from(Buffer.from(base64, 'base64'))

test('arm-cca.md 8.1: evidence is a token over the nonce, stamped as simulated', () => {
  const value = report(filled(20, 3))
  assert.deepEqual([value.format, value.simulated, value.measurement], ['arm-cca-token', true, '11'.repeat(32)])
  const token = bytesOf(value.token)
  assert.equal(verifyToken(token), 'verified')
  const described = describeToken(token)
  assert.ok(described.ok)
  assert.deepEqual(value.fields, described.fields)
  const { realm, platform } = value.fields
  assert.equal(realm.challenge, '03'.repeat(20) + '00'.repeat(44))
  assert.equal(realm.initialMeasurement, value.measurement)
  assert.deepEqual(
    realm.extensibleMeasurements,
    ['21', '22', '23', '24'].map((byte) => byte.repeat(32)),
  )
  assert.equal(realm.personalizationValue, '77'.repeat(64))
  assert.equal(realm.signature.length, 192)
  assert.equal(platform.lifecycle, '0x3003')
  assert.match(platform.instanceId, /^01[0-9a-f]{64}$/)
  assert.match(platform.verificationService, /SIMULATED/)
  for (const { type } of platform.softwareComponents) assert.match(type, /^SIMULATED_/)
  assert.equal(report(CHALLENGE, SEED, REALM_512).measurement, '11'.repeat(64))
})

test('a nonce of 64 bytes is taken whole, one of 65 is EINVAL', () => {
  assert.equal(report(CHALLENGE).fields.realm.challenge, Buffer.from(CHALLENGE).toString('hex'))
  const long = createEvidence(SEED).report(REALM_256, filled(65, 7))
  assert.ok(!long.ok)
  assert.deepEqual(long.refusal, {
    errno: 'EINVAL',
    code: 'nonce-length',
    detail: 'A nonce has at most 64 bytes.',
    pointer: '/nonce',
  })
})

test('evidence is a function of the seed and the inputs', () => {
  assert.deepEqual(report(CHALLENGE), report(CHALLENGE))
  assert.deepEqual(createEvidence(SEED).certificates(), createEvidence(SEED).certificates())
  const evidence = createEvidence(SEED)
  const first = evidence.token(REALM_256, CHALLENGE)
  evidence.token(REALM_512, filled(64, 9))
  assert.deepEqual(evidence.token(REALM_256, CHALLENGE), first, 'whatever was asked before')
  assert.deepEqual(
    Buffer.from(first),
    Buffer.from(bytesOf(report(CHALLENGE).token)),
    'the guest and the host get the same',
  )
  const [mine, other] = [report(CHALLENGE), report(CHALLENGE, 'another host')]
  for (const name of ['publicKey', 'signature']) assert.notEqual(mine.fields.realm[name], other.fields.realm[name])
  for (const name of ['instanceId', 'challenge', 'signature'])
    assert.notEqual(mine.fields.platform[name], other.fields.platform[name])
  assert.equal(mine.fields.platform.implementationId, other.fields.platform.implementationId)
})

test('arm-cca.md 8.1: the Realms of one machine share its RAK and its platform part', () => {
  const [one, two] = [report(CHALLENGE), report(filled(1, 1), SEED, REALM_512)]
  assert.deepEqual(one.fields.platform, two.fields.platform)
  assert.equal(one.fields.realm.publicKey, two.fields.realm.publicKey)
})

test('the bytes of our own evidence stay as they were when openssl was asked about them', () => {
  const evidence = createEvidence(SEED)
  const pem = evidence.certificates().map((certificate) => certificate.pem)
  assert.deepEqual(
    [evidence.token(REALM_256, CHALLENGE), evidence.token(REALM_512, CHALLENGE), pem.join('')].map((bytes) =>
      hash('sha256', bytes),
    ),
    [
      '6c764accc968233e09203c3ab33a7eb80f464702c75e45e559e29980ba4ae3a9',
      '48afdee2e8e8e5f62c56bef62c0190d8c131f5a30f58c061525441e332f16bbc',
      '2eb3a3ba84b2090456b990e4bb43e929f9c714d1ef7498ed129bc7514d030f68',
    ],
  )
})
