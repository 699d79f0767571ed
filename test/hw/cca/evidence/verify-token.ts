import { createPublicKey, hash, type KeyObject, verify } from 'node:crypto'
import type { Sign1 } from '../../../../src/hw/cca/evidence/cose.ts'
import { readToken } from '../../../../src/hw/cca/evidence/token-reader.ts'
import type { PublicKey } from '../../../../src/hw/shared/ecdsa.ts'

/** What a verifier checks of a token (arm-cca.md 8.1); the first that fails, or "verified". */
export type Verdict =
  | 'verified'
  | 'realm-key'
  | 'realm-signature'
  | 'binding'
  | 'platform-signature'
  | `read: ${string}`

/**
 * Verifies with Node's own cryptography, which shares nothing with what signs. `cpak` is the platform's trusted key;
 * without it the platform's signature is not looked at.
 */
export function verifyToken(bytes: Uint8Array, cpak?: KeyObject): Verdict {
  const token = readToken(bytes)
  if (!token.ok) return `read: ${token.refusal.field}`
  const { realm, platform } = token
  const rak = keyOf(realm.claims.publicKey)
  if (rak === undefined) return 'realm-key'
  if (!isSigned(realm.sign1, rak)) return 'realm-signature'
  const algorithm = realm.claims.publicKeyHashAlgorithm.replace('-', '')
  const bound = hash(algorithm, realm.claims.publicKeyBytes, 'buffer')
  if (!bound.equals(platform.claims.challenge)) return 'binding'
  return cpak === undefined || isSigned(platform.sign1, cpak) ? 'verified' : 'platform-signature'
}

const isSigned = ({ signed, signature }: Sign1, key: KeyObject): boolean =>
  verify('sha384', signed, { key, dsaEncoding: 'ieee-p1363' }, signature)

/** Undefined for a point off the curve. */
export function keyOf({ qx, qy }: PublicKey): KeyObject | undefined {
  const text = (bytes: Uint8Array): string => Buffer.from(bytes).toString('base64url')
  try {
    return createPublicKey({ key: { kty: 'EC', crv: 'P-384', x: text(qx), y: text(qy) }, format: 'jwk' })
  } catch {
    return undefined
  }
}
