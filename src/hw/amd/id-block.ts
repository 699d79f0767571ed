import { hash } from 'node:crypto'
import { type PublicKey, p384, type Signature } from '../shared/ecdsa.ts'
import { view } from '../shared/hex.ts'
import { type Refused, refused } from './fault.ts'
import { readSignature, writeSignature } from './signature-field.ts'

/** The ID block: what a guest's owner expects of the launch (amd-sev-snp.md d.8). */
export type IdBlock = {
  readonly launchDigest: Uint8Array
  readonly familyId: Uint8Array
  readonly imageId: Uint8Array
  readonly version: number
  readonly guestSvn: number
  readonly policy: bigint
}

export const ID_BLOCK_BYTES = 96
export const ID_AUTH_BYTES = 4096
export const KEY_STRUCT_BYTES = 0x404
export const SIGNATURE_STRUCT_BYTES = 512
export const CURVE_P384 = 2
export const ALGORITHM_ECDSA_P384_SHA384 = 1
const COMPONENT = 72

/** Offsets inside ID_AUTH (amd-sev-snp.md d.8). */
export const ID_AUTH = {
  idKeyAlgo: 0,
  authorKeyAlgo: 4,
  idBlockSignature: 0x40,
  idKey: 0x240,
  idKeySignature: 0x680,
  authorKey: 0x880,
} as const

export function idBlock(fields: IdBlock): Buffer {
  const block = Buffer.alloc(ID_BLOCK_BYTES)
  block.set(fields.launchDigest.subarray(0, 48), 0)
  block.set(fields.familyId.subarray(0, 16), 48)
  block.set(fields.imageId.subarray(0, 16), 64)
  block.writeUInt32LE(fields.version, 80)
  block.writeUInt32LE(fields.guestSvn, 84)
  block.writeBigUInt64LE(fields.policy, 88)
  return block
}

export function parseIdBlock(bytes: Uint8Array): { readonly ok: true; readonly block: IdBlock } | Refused {
  if (bytes.length !== ID_BLOCK_BYTES) return refused('id-block-length', 'An ID block has 96 bytes.', '/idBlock')
  const block = view(bytes)
  return {
    ok: true,
    block: {
      launchDigest: bytes.slice(0, 48),
      familyId: bytes.slice(48, 64),
      imageId: bytes.slice(64, 80),
      version: block.readUInt32LE(80),
      guestSvn: block.readUInt32LE(84),
      policy: block.readBigUInt64LE(88),
    },
  }
}

/** The 0x404-byte form of a P-384 public key: curve, QX and QY little-endian. */
export function publicKeyStruct({ qx, qy }: PublicKey): Buffer {
  const key = Buffer.alloc(KEY_STRUCT_BYTES)
  key.writeUInt32LE(CURVE_P384, 0)
  Buffer.from(qx).reverse().copy(key, 4)
  Buffer.from(qy)
    .reverse()
    .copy(key, 4 + COMPONENT)
  return key
}

/** What reports carry for a key: SHA-384 of its 0x404 bytes. */
export const publicKeyDigest = (key: Uint8Array): Buffer => hash('sha384', key, 'buffer')

/** The key in a struct, or undefined where its curve or padding is not that of P-384. */
function readPublicKey(key: Buffer): PublicKey | undefined {
  const component = (at: number): Buffer => Buffer.from(key.subarray(at, at + 48)).reverse()
  const padding = [key.subarray(52, 76), key.subarray(124)]
  if (key.readUInt32LE(0) !== CURVE_P384 || padding.some((part) => part.some((byte) => byte !== 0))) return undefined
  return { qx: component(4), qy: component(4 + COMPONENT) }
}

/** Builds ID_AUTH for a block, signed by an ID key and, where given, that key by an author key. */
export function idAuth(block: Uint8Array, keys: { readonly id: SigningKey; readonly author?: SigningKey }): Buffer {
  const auth = Buffer.alloc(ID_AUTH_BYTES)
  const idKey = publicKeyStruct(keys.id.publicKey)
  auth.writeUInt32LE(ALGORITHM_ECDSA_P384_SHA384, ID_AUTH.idKeyAlgo)
  writeSignature(auth, ID_AUTH.idBlockSignature, p384.sign(block, keys.id.privateKey))
  idKey.copy(auth, ID_AUTH.idKey)
  if (keys.author === undefined) return auth
  auth.writeUInt32LE(ALGORITHM_ECDSA_P384_SHA384, ID_AUTH.authorKeyAlgo)
  writeSignature(auth, ID_AUTH.idKeySignature, p384.sign(idKey, keys.author.privateKey))
  publicKeyStruct(keys.author.publicKey).copy(auth, ID_AUTH.authorKey)
  return auth
}
export type SigningKey = { readonly publicKey: PublicKey; readonly privateKey: Uint8Array }

export type IdAuth = {
  readonly idKeyAlgo: number
  readonly authorKeyAlgo: number
  readonly idBlockSignature: Signature | undefined
  readonly idKeySignature: Signature | undefined
  /** Key structs as they stand; the parsed key is undefined where it isn't a P-384 key's. */
  readonly idKey: { readonly struct: Buffer; readonly publicKey: PublicKey | undefined }
  readonly authorKey: { readonly struct: Buffer; readonly publicKey: PublicKey | undefined }
}

export function parseIdAuth(bytes: Uint8Array): { readonly ok: true; readonly auth: IdAuth } | Refused {
  if (bytes.length !== ID_AUTH_BYTES) return refused('id-auth-length', 'ID_AUTH has 4096 bytes.', '/idAuth')
  const auth = view(bytes)
  const key = (at: number): IdAuth['idKey'] => {
    const struct = Buffer.from(auth.subarray(at, at + KEY_STRUCT_BYTES))
    return { struct, publicKey: readPublicKey(struct) }
  }
  return {
    ok: true,
    auth: {
      idKeyAlgo: auth.readUInt32LE(ID_AUTH.idKeyAlgo),
      authorKeyAlgo: auth.readUInt32LE(ID_AUTH.authorKeyAlgo),
      idBlockSignature: readSignature(auth, ID_AUTH.idBlockSignature),
      idKeySignature: readSignature(auth, ID_AUTH.idKeySignature),
      idKey: key(ID_AUTH.idKey),
      authorKey: key(ID_AUTH.authorKey),
    },
  }
}

/** The identity a guest's reports carry; all zero without an ID block (amd-sev-snp.md e). */
export type GuestIdentity = {
  readonly familyId: Uint8Array
  readonly imageId: Uint8Array
  readonly guestSvn: number
  readonly idKeyDigest: Uint8Array
  readonly authorKeyDigest: Uint8Array
  readonly authorKeyEnabled: boolean
}

export const NO_IDENTITY: GuestIdentity = {
  familyId: new Uint8Array(16),
  imageId: new Uint8Array(16),
  guestSvn: 0,
  idKeyDigest: new Uint8Array(48),
  authorKeyDigest: new Uint8Array(48),
  authorKeyEnabled: false,
}

export type IdentityStatus =
  | { readonly ok: true; readonly identity: GuestIdentity }
  | { readonly ok: false; readonly status: FirmwareStatus; readonly code: number; readonly detail: string }
type FirmwareStatus = keyof typeof STATUS
const STATUS = { BAD_MEASUREMENT: 0xb, POLICY_FAILURE: 7, INVALID_PARAM: 0x16, BAD_SIGNATURE: 0xa } as const

/**
 * LAUNCH_FINISH's judgement of an ID block, in the firmware's order (amd-sev-snp.md d.8): digest, policy,
 * algorithms, curve and signature. The block's version is judged with the algorithms, where nothing public says.
 */
export function checkIdBlock(inputs: {
  readonly idBlock: Uint8Array
  readonly idAuth: Uint8Array
  readonly authorKeyEnabled: boolean
  readonly launchDigest: Uint8Array
  readonly policy: bigint
}): IdentityStatus {
  const parsed = parseIdBlock(inputs.idBlock)
  const parsedAuth = parseIdAuth(inputs.idAuth)
  if (!parsed.ok) return status('INVALID_PARAM', parsed.fault.detail)
  if (!parsedAuth.ok) return status('INVALID_PARAM', parsedAuth.fault.detail)
  const { block } = parsed
  const { auth } = parsedAuth
  if (Buffer.compare(block.launchDigest, inputs.launchDigest) !== 0)
    return status('BAD_MEASUREMENT', 'The ID block expects another launch digest.')
  if (block.policy !== inputs.policy) return status('POLICY_FAILURE', 'The ID block expects another policy.')
  if (block.version !== 1) return status('INVALID_PARAM', `The ID block has version ${block.version}.`)
  const algorithms = inputs.authorKeyEnabled ? [auth.idKeyAlgo, auth.authorKeyAlgo] : [auth.idKeyAlgo]
  if (algorithms.some((algorithm) => algorithm !== ALGORITHM_ECDSA_P384_SHA384))
    return status('INVALID_PARAM', 'A key algorithm other than ECDSA P-384 with SHA-384.')
  if (!p384.verify(inputs.idBlock, auth.idBlockSignature, auth.idKey.publicKey))
    return status('BAD_SIGNATURE', "The ID key's curve or its signature of the ID block is wrong.")
  if (inputs.authorKeyEnabled && !p384.verify(auth.idKey.struct, auth.idKeySignature, auth.authorKey.publicKey))
    return status('BAD_SIGNATURE', "The author key's curve or its signature of the ID key is wrong.")
  return {
    ok: true,
    identity: {
      familyId: block.familyId,
      imageId: block.imageId,
      guestSvn: block.guestSvn,
      idKeyDigest: publicKeyDigest(auth.idKey.struct),
      authorKeyDigest: inputs.authorKeyEnabled ? publicKeyDigest(auth.authorKey.struct) : new Uint8Array(48),
      authorKeyEnabled: inputs.authorKeyEnabled,
    },
  }
}

const status = (name: FirmwareStatus, detail: string): IdentityStatus => ({
  ok: false,
  status: name,
  code: STATUS[name],
  detail,
})
