import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Cbor, decodeCbor, encodeCbor, tagged } from '../../../../src/hw/cca/evidence/cbor.ts'
import { readKey, sign1 } from '../../../../src/hw/cca/evidence/cose.ts'
import { createEvidence } from '../../../../src/hw/cca/evidence/evidence.ts'
import { platform } from '../../../../src/hw/cca/evidence/platform.ts'
import { buildToken } from '../../../../src/hw/cca/evidence/token.ts'
import { readToken } from '../../../../src/hw/cca/evidence/token-reader.ts'
import { describeToken } from '../../../../src/hw/cca/evidence/token-view.ts'
import { CHALLENGE, filled, REALM_256, SEED } from './samples.ts'

const MACHINE = platform(SEED)
const TOKEN = createEvidence(SEED).token(REALM_256, CHALLENGE)
type Claims = Map<number, Cbor>

function claimsOf(part: 'realm' | 'platform'): Claims {
  const token = readToken(TOKEN)
  assert.ok(token.ok)
  return decodeCbor(token[part].sign1.payload) as Claims
}

/** The refusal of a token whose claims were changed, as field and detail; undefined where it is read. */
function refusal(part: 'realm' | 'platform', change: (claims: Claims) => unknown): readonly string[] | undefined {
  const claims = { realm: claimsOf('realm'), platform: claimsOf('platform') }
  change(claims[part])
  const signed = (map: Claims) => sign1(encodeCbor(map), MACHINE.rak.privateKey)
  const token = readToken(buildToken(signed(claims.platform), signed(claims.realm)))
  return token.ok ? undefined : [token.refusal.field, token.refusal.detail]
}

const set = (key: number, value: Cbor) => (claims: Claims) => claims.set(key, value)

test('arm-cca.md 8.1: claims are read in any order', () => {
  const reversed = (claims: Claims) => {
    const entries = [...claims].reverse()
    claims.clear()
    for (const [key, value] of entries) claims.set(key, value)
  }
  assert.equal(refusal('realm', reversed), undefined)
  assert.equal(refusal('platform', reversed), undefined)
})

test('arm-cca.md 8.1: widths of 32, 48 and 64 bytes, older keys, and claims that may be missing', () => {
  const sha384 = (claims: Claims) => {
    claims.set(44236, 'sha-384').set(44238, filled(48, 1))
    claims.set(
      44239,
      Array.from({ length: 4 }, () => filled(48, 2)),
    )
  }
  assert.equal(refusal('realm', sha384), undefined)
  const { qx, qy } = MACHINE.rak.publicKey
  assert.equal(refusal('realm', set(44237, Buffer.concat([Buffer.from([4]), qx, qy]))), undefined)
  assert.equal(
    refusal('platform', (claims) => claims.delete(2400)),
    undefined,
  )
  const bare = new Map<number, Cbor>([
    [2, filled(48, 1)],
    [5, filled(64, 2)],
  ])
  assert.equal(refusal('platform', set(2399, [bare])), undefined)
})

test('arm-cca.md 8.1: what a Realm part may not say', () => {
  const of = (key: number, value: Cbor) => refusal('realm', set(key, value))
  assert.deepEqual(of(10, filled(63, 0)), ['realm.challenge', 'It has 63 bytes instead of 64.'])
  assert.deepEqual(of(10, 'text'), ['realm.challenge', 'It is no byte string.'])
  assert.deepEqual(of(265, 'x'), ['realm.profile', 'It is not tag:arm.com,2023:realm#1.0.0.'])
  assert.deepEqual(of(44235, filled(32, 0)), ['realm.personalizationValue', 'It has 32 bytes instead of 64.'])
  assert.deepEqual(of(44236, 'md5'), ['realm.hashAlgorithm', 'It is not sha-256 or sha-384 or sha-512.'])
  assert.deepEqual(of(44236, 5), ['realm.hashAlgorithm', 'It is no text.'])
  assert.deepEqual(of(44238, filled(64, 0)), ['realm.initialMeasurement', 'It has 64 bytes instead of 32.'])
  assert.deepEqual(of(44240, 'sha256'), ['realm.publicKeyHashAlgorithm', 'It is not sha-256 or sha-384 or sha-512.'])
  const noKey = ['realm.publicKey', 'It is no key on P-384.']
  for (const key of [filled(97, 5), filled(107, 0), encodeCbor(new Map([[1, 2]])), new Uint8Array(0)])
    assert.deepEqual(of(44237, key), noKey)
  const rems = ['realm.extensibleMeasurements', 'They are not four digests.']
  assert.deepEqual(of(44239, Array(3).fill(filled(32, 0))), rems)
  assert.deepEqual(of(44239, Array(4).fill(filled(31, 0))), rems)
  assert.deepEqual(of(44239, ['a', 'b', 'c', 'd']), rems)
  assert.deepEqual(of(44239, 4), ['realm.extensibleMeasurements', 'It is no array.'])
  for (const key of claimsOf('realm').keys())
    assert.ok(refusal('realm', (claims) => claims.delete(key))?.[0]?.startsWith('realm.'), `without ${key}`)
})

test('arm-cca.md 8.1: what a platform part may not say', () => {
  const of = (key: number, value: Cbor) => refusal('platform', set(key, value))
  assert.deepEqual(of(10, filled(31, 0)), ['platform.challenge', 'It has 31 bytes instead of 32 or 48 or 64.'])
  assert.deepEqual(of(256, filled(33, 2)), ['platform.instanceId', 'Its first byte is not 01.'])
  assert.deepEqual(of(256, filled(32, 1)), ['platform.instanceId', 'It has 32 bytes instead of 33.'])
  assert.deepEqual(of(265, ''), ['platform.profile', 'It is not tag:arm.com,2023:cca_platform#1.0.0.'])
  for (const lifecycle of ['3', -1, 0.5])
    assert.deepEqual(of(2395, lifecycle), ['platform.lifecycle', 'It is no unsigned number.'])
  assert.deepEqual(of(2396, filled(31, 0)), ['platform.implementationId', 'It has 31 bytes instead of 32.'])
  assert.deepEqual(of(2400, 1), ['platform.verificationService', 'It is no text.'])
  assert.deepEqual(of(2401, 1), ['platform.configuration', 'It is no byte string.'])
  assert.deepEqual(of(2402, ''), ['platform.hashAlgorithm', 'It is not sha-256 or sha-384 or sha-512.'])
  assert.deepEqual(of(2399, 'x'), ['platform.softwareComponents', 'It is no array.'])
  assert.deepEqual(of(2399, ['x']), ['platform.softwareComponents[0]', 'It is no map of claims.'])
  const component = (more: [number, Cbor][]) =>
    of(2399, [new Map<number, Cbor>([[2, filled(32, 0)], [5, filled(32, 0)], ...more])])
  assert.deepEqual(component([[1, 7]]), ['platform.softwareComponents[0].type', 'It is no text.'])
  assert.deepEqual(component([[2, 7]]), ['platform.softwareComponents[0].measurement', 'It is no byte string.'])
  for (const key of claimsOf('platform').keys())
    if (key !== 2400)
      assert.ok(refusal('platform', (claims) => claims.delete(key))?.[0]?.startsWith('platform.'), `without ${key}`)
})

test('arm-cca.md 8.1: what is no token', () => {
  const field = (bytes: Uint8Array) => {
    const token = readToken(bytes)
    return token.ok ? 'read' : token.refusal.field
  }
  const { privateKey } = MACHINE.rak
  const part = sign1(encodeCbor(claimsOf('platform')), privateKey)
  assert.equal(field(new Uint8Array(0)), 'token')
  assert.equal(field(encodeCbor(new Map())), 'token')
  assert.equal(field(encodeCbor(tagged(399, []))), 'token')
  assert.equal(field(encodeCbor(tagged(18, new Map()))), 'token')
  assert.equal(field(Buffer.concat([TOKEN, Buffer.from([0])])), 'token')
  assert.equal(field(encodeCbor(tagged(399, new Map()))), 'platform')
  assert.equal(field(encodeCbor(tagged(399, new Map([[44234, part]])))), 'realm')
  assert.equal(field(buildToken(sign1(encodeCbor([]), privateKey), part)), 'platform')
  const es384 = encodeCbor(new Map([[1, -35]]))
  const signature = filled(96, 1)
  for (const parts of [
    [es384, new Map(), filled(1, 0)],
    [encodeCbor(new Map([[1, -7]])), new Map(), filled(1, 0), signature],
    [es384, new Map([[4, 1]]), filled(1, 0), signature],
    [es384, [], filled(1, 0), signature],
    [es384, new Map(), 'payload', signature],
    [es384, new Map(), filled(1, 0), filled(95, 1)],
    ['', new Map(), filled(1, 0), signature],
  ] as Cbor[])
    assert.equal(field(buildToken(part, encodeCbor(tagged(18, parts)))), 'realm')
  const described = describeToken(new Uint8Array(0))
  assert.ok(!described.ok && described.refusal.field === 'token')
})

test('any bytes, and any token cut or changed, are read or refused but never thrown at', () => {
  fc.assert(fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => assert.ok(!readToken(bytes).ok)))
  const at = fc.nat(TOKEN.length - 1)
  fc.assert(
    fc.property(at, fc.nat(255), (index, byte) => {
      const changed = Uint8Array.from(TOKEN)
      changed[index] = byte
      readToken(changed)
      assert.ok(!readToken(TOKEN.subarray(0, index)).ok)
    }),
    { numRuns: 300 },
  )
})

test('a key is read from 107 or 97 bytes', () => {
  assert.equal(readKey(filled(97, 3)), undefined)
  const { qx, qy } = MACHINE.cpak.publicKey
  const key = readKey(Buffer.concat([Buffer.from([4]), qx, qy]))
  assert.deepEqual([Buffer.from(key?.qx ?? []), Buffer.from(key?.qy ?? [])], [Buffer.from(qx), Buffer.from(qy)])
  for (const [label, value] of [
    [1, 3],
    [-1, 1],
    [-2, filled(47, 0)],
    [-3, 'y'],
  ] as const) {
    const map = new Map<number, Cbor>([
      [1, 2],
      [-1, 2],
      [-2, qx],
      [-3, qy],
    ])
    assert.ok(readKey(encodeCbor(map)))
    assert.equal(readKey(encodeCbor(map.set(label, value))), undefined)
  }
})
