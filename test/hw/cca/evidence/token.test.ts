import assert from 'node:assert/strict'
import { createPublicKey, hash, X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { decodeCbor, untagged } from '../../../../src/hw/cca/evidence/cbor.ts'
import { createEvidence } from '../../../../src/hw/cca/evidence/evidence.ts'
import { platform } from '../../../../src/hw/cca/evidence/platform.ts'
import { platformPart, type RealmInfo, realmPart } from '../../../../src/hw/cca/evidence/token.ts'
import { readToken, type Token } from '../../../../src/hw/cca/evidence/token-reader.ts'
import { CHALLENGE, filled, NO_VECTORS, publicToken, REALM_256, REALM_512, SEED } from './samples.ts'
import { keyOf, verifyToken } from './verify-token.ts'

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex')

function read(bytes: Uint8Array): Token {
  const token = readToken(bytes)
  assert.ok(token.ok, token.ok ? '' : `${token.refusal.field}: ${token.refusal.detail}`)
  return token
}

const make = (realm: RealmInfo): Uint8Array => createEvidence(SEED).token(realm, CHALLENGE)
const cpak = keyOf(platform(SEED).cpak.publicKey)

for (const [name, realm, width, payload, sign1] of [
  ['sha-256', REALM_256, 32, 481, 590],
  ['sha-512', REALM_512, 64, 641, 750],
] as const)
  test(`arm-cca.md 8.1: the token of a ${name} Realm has TF-RMM's layout, sizes and order`, () => {
    const bytes = make(realm)
    assert.equal(hex(bytes).slice(0, 14), 'd9018fa219acca')
    assert.ok(bytes.length < 4096, 'what TOKEN_INIT promises')
    const part = realmPart(realm, CHALLENGE, platform(SEED))
    assert.equal(part.length, sign1)
    assert.equal(hex(part).slice(0, 14), 'd28444a1013822')
    assert.equal(hex(bytes).slice(-2 * part.length - 12), `19acd159${sign1.toString(16).padStart(4, '0')}${hex(part)}`)
    const { sign1: signed, claims } = read(bytes).realm
    assert.equal(signed.payload.length, payload)
    const keys = [...(decodeCbor(signed.payload) as Map<number, unknown>).keys()]
    assert.deepEqual(keys, [10, 44235, 44237, 44236, 44240, 265, 44238, 44239])
    const { publicKeyBytes, publicKey, ...said } = claims
    assert.deepEqual(said, {
      challenge: CHALLENGE,
      profile: 'tag:arm.com,2023:realm#1.0.0',
      personalizationValue: realm.rpv,
      hashAlgorithm: name,
      initialMeasurement: filled(width, 0x11),
      extensibleMeasurements: [1, 2, 3, 4].map((index) => filled(width, 0x20 + index)),
      publicKeyHashAlgorithm: 'sha-256',
    })
    const { qx, qy } = platform(SEED).rak.publicKey
    assert.equal(hex(publicKeyBytes), `a401022002215830${hex(qx)}225830${hex(qy)}`)
    assert.equal(publicKeyBytes.length, 107)
    assert.deepEqual([hex(publicKey.qx), hex(publicKey.qy)], [hex(qx), hex(qy)])
  })

test('arm-cca.md 8.1: the platform part names a secured, simulated platform and is bound to the RAK', () => {
  const { claims, sign1 } = read(make(REALM_512)).platform
  const { challenge, instanceId, ...said } = claims
  assert.deepEqual(hex(challenge), hash('sha256', read(make(REALM_512)).realm.claims.publicKeyBytes))
  assert.equal(instanceId[0], 1)
  const sha256 = (text: string): Uint8Array => Uint8Array.from(hash('sha256', text, 'buffer'))
  assert.deepEqual(said, {
    profile: 'tag:arm.com,2023:cca_platform#1.0.0',
    lifecycle: 0x3003,
    implementationId: sha256('gmemd SIMULATED CCA platform'),
    softwareComponents: ['RSE', 'AP_BL', 'MONITOR', 'RMM'].map((name) => ({
      type: `SIMULATED_${name}`,
      measurement: sha256(`gmemd SIMULATED ${name} 1.0`),
      version: '1.0',
      signer: sha256('gmemd SIMULATED CCA signer'),
      hashAlgorithm: 'sha-256',
    })),
    verificationService: 'https://gmemd.invalid/SIMULATED',
    configuration: Uint8Array.from(Buffer.from('SIMULATED')),
    hashAlgorithm: 'sha-256',
  })
  const keys = [...(decodeCbor(sign1.payload) as Map<number, unknown>).keys()]
  assert.deepEqual(keys, [265, 10, 2396, 256, 2401, 2395, 2402, 2400, 2399])
  assert.deepEqual(platformPart(platform(SEED)), platformPart(platform(SEED)))
})

test('arm-cca.md 8.1: both signatures verify, and no byte of what is signed may change', () => {
  for (const realm of [REALM_256, REALM_512]) {
    const token = make(realm)
    assert.equal(verifyToken(token, cpak), 'verified')
    assert.equal(verifyToken(token, keyOf(platform('another host').cpak.publicKey)), 'platform-signature')
    for (let at = 0; at < token.length; at += 7) {
      const changed = Uint8Array.from(token)
      changed[at] = (changed[at] ?? 0) ^ 1
      assert.notEqual(verifyToken(changed, cpak), 'verified', `byte ${at}`)
    }
  }
})

test('arm-cca.md 8.1: the Realm part of one machine does not fit the platform part of another', () => {
  const parts = (bytes: Uint8Array) => untagged(399, decodeCbor(bytes)) as Map<number, Uint8Array>
  const mine = parts(make(REALM_256))
  const other = parts(createEvidence('another host').token(REALM_256, CHALLENGE))
  const mixed = Buffer.concat([
    Buffer.from('d9018fa2', 'hex'),
    ...[
      [44234, mine.get(44234)],
      [44241, other.get(44241)],
    ].map(([key, part]) => {
      const bytes = part as Uint8Array
      const head = Buffer.from([0x19, Number(key) >> 8, Number(key) & 255, 0x59, bytes.length >> 8, bytes.length & 255])
      return Buffer.concat([head, bytes])
    }),
  ])
  assert.equal(verifyToken(mixed, cpak), 'binding')
})

test('a challenge of another length is a bug of the caller', () => {
  assert.throws(() => createEvidence(SEED).token(REALM_256, new Uint8Array(63)), RangeError)
})

test('arm-cca.md 8.1: the CPAK certificate is about the key that signs the platform part', () => {
  const [leaf] = createEvidence(SEED).certificates()
  const key = createPublicKey(new X509Certificate(leaf?.pem ?? '').publicKey.export({ format: 'pem', type: 'spki' }))
  assert.equal(verifyToken(make(REALM_256), key), 'verified')
})

test('arm-cca.md 8.1: the token that TF-RMM signed', { skip: publicToken ? false : NO_VECTORS }, () => {
  assert.ok(publicToken !== undefined)
  const bytes = Buffer.from(publicToken.token_base64, 'base64')
  assert.equal(bytes.length, 2124)
  const { realm, platform: sample } = read(bytes)
  const { claims, sign1 } = realm
  assert.equal(hex(claims.challenge), publicToken.challenge)
  assert.equal(hex(claims.initialMeasurement), publicToken.expect.rim)
  assert.deepEqual(claims.extensibleMeasurements.map(hex), publicToken.expect.rem)
  assert.equal(hex(claims.personalizationValue), publicToken.ops[0]?.rpv)
  assert.deepEqual([claims.hashAlgorithm, claims.publicKeyHashAlgorithm], ['sha-256', 'sha-256'])
  assert.equal(sign1.payload.length, 481)
  assert.equal(sample.claims.lifecycle, 0x3003)
  assert.equal(sample.claims.softwareComponents[0]?.type, 'RSE_BL1_2')
  assert.equal(verifyToken(bytes), 'verified', 'the Realm signature and the binding; the sample part has no known key')
  const ours = realmPart({ ...REALM_256, rpv: claims.personalizationValue }, claims.challenge, platform(SEED))
  const parts = untagged(399, decodeCbor(bytes)) as Map<number, Uint8Array>
  assert.equal(ours.length, parts.get(44241)?.length)
  const order = (payload: Uint8Array) => [...(decodeCbor(payload) as Map<number, unknown>).keys()]
  const own = read(make(REALM_256))
  assert.deepEqual(order(sign1.payload), order(own.realm.sign1.payload))
  assert.deepEqual(order(sample.sign1.payload), order(own.platform.sign1.payload))
  for (let at = 1540; at < bytes.length; at += 5) {
    const changed = Uint8Array.from(bytes)
    changed[at] = (changed[at] ?? 0) ^ 0x10
    assert.notEqual(verifyToken(changed), 'verified', `byte ${at}`)
  }
})
