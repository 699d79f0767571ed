import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  ALGORITHM_ECDSA_P384_SHA384,
  CURVE_P384,
  checkIdBlock,
  ID_AUTH,
  ID_AUTH_BYTES,
  idAuth,
  idBlock,
  KEY_STRUCT_BYTES,
  parseIdAuth,
  parseIdBlock,
  publicKeyDigest,
  publicKeyStruct,
  SIGNATURE_STRUCT_BYTES,
} from '../../../src/hw/amd/id-block.ts'
import { p384 } from '../../../src/hw/shared/ecdsa.ts'
import { launchVectors } from '../../support/snp-vectors.ts'

const key = (fill: number) => {
  const privateKey = p384.scalarFrom(Buffer.alloc(72, fill))
  return { privateKey, publicKey: p384.publicKeyOf(privateKey) }
}
const id = key(7)
const author = key(9)
const launchDigest = Buffer.alloc(48, 0xab)
const policy = 0x30000n
const familyId = Buffer.from('family-id-sixtee')
const imageId = Buffer.from('image-id-sixteen')
const block = idBlock({ launchDigest, familyId, imageId, version: 1, guestSvn: 5, policy })
const auth = idAuth(block, { id, author })
const good = { idBlock: block, idAuth: auth, authorKeyEnabled: true, launchDigest, policy }
const spoilt = (bytes: Buffer, at: number) => {
  const copy = Buffer.from(bytes)
  copy[at] = (copy[at] ?? 0) ^ 1
  return copy
}

test('amd-sev-snp.md d.8: the offsets of ID_AUTH are the vector’s', () => {
  const vector = launchVectors.vectors.find(({ kind }) => kind === 'id-auth-layout')
  assert.deepEqual(
    {
      total: ID_AUTH_BYTES,
      ...ID_AUTH,
      keyStructLength: KEY_STRUCT_BYTES,
      signatureStructLength: SIGNATURE_STRUCT_BYTES,
      ecdsaComponentLength: 72,
      curveP384: CURVE_P384,
      algoEcdsaP384Sha384: ALGORITHM_ECDSA_P384_SHA384,
    },
    vector?.expected,
  )
})

test('amd-sev-snp.md d.8: a well-signed block gives the identity that reports carry', () => {
  const answer = checkIdBlock(good)
  assert.ok(answer.ok)
  assert.equal(answer.identity.guestSvn, 5)
  assert.deepEqual(Buffer.from(answer.identity.familyId), familyId)
  assert.deepEqual(answer.identity.idKeyDigest, publicKeyDigest(publicKeyStruct(id.publicKey)))
  assert.deepEqual(answer.identity.authorKeyDigest, publicKeyDigest(publicKeyStruct(author.publicKey)))
})

test('amd-sev-snp.md d.8: without an author key its digest is zero and its part of ID_AUTH is not judged', () => {
  const answer = checkIdBlock({ ...good, idAuth: spoilt(auth, 0x900), authorKeyEnabled: false })
  assert.ok(answer.ok)
  assert.deepEqual(Buffer.from(answer.identity.authorKeyDigest), Buffer.alloc(48))
})

test('amd-sev-snp.md d.8: statuses come in the firmware’s order, each fault hiding the later ones', () => {
  const code = (over: Partial<typeof good>) => {
    const answer = checkIdBlock({ ...good, ...over })
    return answer.ok ? 0 : answer.code
  }
  const otherDigest = Buffer.alloc(48)
  const curve = spoilt(auth, ID_AUTH.idKey)
  const algorithm = spoilt(curve, ID_AUTH.idKeyAlgo)
  assert.equal(code({ launchDigest: otherDigest, policy: 1n, idAuth: algorithm }), 0xb)
  assert.equal(code({ policy: 1n, idAuth: algorithm }), 7)
  assert.equal(code({ idAuth: algorithm }), 0x16)
  assert.equal(code({ idAuth: curve }), 0xa)
  assert.equal(code({ idAuth: spoilt(auth, ID_AUTH.authorKeyAlgo) }), 0x16)
  for (const at of [ID_AUTH.idBlockSignature, ID_AUTH.idBlockSignature + 60, ID_AUTH.idKey + 4, ID_AUTH.idKey + 0x300])
    assert.equal(code({ idAuth: spoilt(auth, at) }), 0xa, `byte ${at}`)
  for (const at of [ID_AUTH.idKeySignature, ID_AUTH.authorKey, ID_AUTH.authorKey + 80])
    assert.equal(code({ idAuth: spoilt(auth, at) }), 0xa, `byte ${at}`)
  assert.equal(code({ idBlock: spoilt(block, 50) }), 0xa)
  assert.equal(code({ idBlock: block.subarray(1) }), 0x16)
  assert.equal(code({ idAuth: auth.subarray(1) }), 0x16)
})

test('amd-sev-snp.md d.8: signatures are deterministic, and what is built parses back', () => {
  assert.deepEqual(idAuth(block, { id, author }), auth)
  const parsed = parseIdBlock(block)
  assert.ok(parsed.ok)
  assert.deepEqual(idBlock(parsed.block), block)
  const parts = parseIdAuth(auth)
  assert.ok(parts.ok)
  assert.deepEqual(parts.auth.idKey.publicKey?.qx, Buffer.from(id.publicKey.qx))
})
