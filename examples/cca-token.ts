import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto'
import { decode, encode, Tagged } from 'cborg'

const TAG = { sign1: 18, token: 399 } as const
const PART = { platform: 44234, realm: 44241 } as const
const CLAIM = { challenge: 10, rpv: 44235, publicKey: 44237, rim: 44238, rems: 44239 } as const
/** Of a COSE_Key: the coordinates of a point on P-384. */
const COORDINATE = { x: -2, y: -3 } as const

type Claims = ReadonlyMap<number, unknown>
/** A COSE_Sign1: its claims, and what a signature of ES384 is over. */
type Part = { readonly claims: Claims; readonly signed: Uint8Array; readonly signature: Uint8Array }

const read = (bytes: Uint8Array): unknown =>
  decode(bytes, { useMaps: true, tags: Tagged.preserve(TAG.sign1, TAG.token) })

/** The platform's part and the Realm's, each signed by a key of its own. */
export function partsOf(token: Uint8Array): { readonly platform: Part; readonly realm: Part } {
  const { value } = read(token) as Tagged
  const parts = value as ReadonlyMap<number, Uint8Array>
  return { platform: partOf(parts.get(PART.platform)), realm: partOf(parts.get(PART.realm)) }
}

function partOf(bytes: Uint8Array = new Uint8Array(0)): Part {
  const { value } = read(bytes) as Tagged
  const [header, , payload, signature] = value as [Uint8Array, unknown, Uint8Array, Uint8Array]
  const signed = encode(['Signature1', header, new Uint8Array(0), payload])
  return { claims: read(payload) as Claims, signed, signature }
}

const bytesOf = (claims: Claims, key: number): Buffer => Buffer.from(claims.get(key) as Uint8Array)

export const realmClaims = ({ claims }: Part) => ({
  challenge: bytesOf(claims, CLAIM.challenge),
  rpv: bytesOf(claims, CLAIM.rpv).toString('hex'),
  rim: bytesOf(claims, CLAIM.rim).toString('hex'),
  rems: (claims.get(CLAIM.rems) as readonly Uint8Array[]).map((rem) => Buffer.from(rem).toString('hex')),
})

/** The first link that breaks from the platform's key, which is to be trusted, to what the Realm's part says; or "none". */
export function brokenLink(token: Uint8Array, cpak: KeyObject): 'platform' | 'binding' | 'realm' | 'none' {
  const { platform, realm } = partsOf(token)
  if (!isSigned(platform, cpak)) return 'platform'
  const rak = bytesOf(realm.claims, CLAIM.publicKey)
  if (!hash('sha256', rak, 'buffer').equals(bytesOf(platform.claims, CLAIM.challenge))) return 'binding'
  return isSigned(realm, keyOf(rak)) ? 'none' : 'realm'
}

function keyOf(coseKey: Uint8Array): KeyObject {
  const key = read(coseKey) as ReadonlyMap<number, Uint8Array>
  const coordinate = (at: number): string => Buffer.from(key.get(at) ?? []).toString('base64url')
  const jwk = { kty: 'EC', crv: 'P-384', x: coordinate(COORDINATE.x), y: coordinate(COORDINATE.y) }
  return createPublicKey({ key: jwk, format: 'jwk' })
}

const isSigned = ({ signed, signature }: Part, key: KeyObject): boolean =>
  verify('sha384', signed, { key, dsaEncoding: 'ieee-p1363' }, signature)
