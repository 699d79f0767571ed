import { type PublicKey, p384 } from '../../shared/ecdsa.ts'
import { decodeCbor, encodeCbor, TAG, tagged, untagged } from './cbor.ts'

/** A COSE_Sign1 taken apart; `signed` are the bytes that the signature (r ‖ s) is over. */
export type Sign1 = { readonly payload: Uint8Array; readonly signature: Uint8Array; readonly signed: Uint8Array }

/** {1: -35}: ES384, ECDSA on P-384 with SHA-384 (arm-cca.md 8.1). */
const PROTECTED = encodeCbor(new Map([[1, -35]]))
const SIGNATURE_BYTES = 96
const KEY_BYTES = 48
const COSE_KEY = { type: 1, curve: -1, x: -2, y: -3 } as const
const EC2 = 2
const P384 = 2
const UNCOMPRESSED = 4

const sigStructure = (payload: Uint8Array): Uint8Array =>
  encodeCbor(['Signature1', PROTECTED, new Uint8Array(0), payload])

/** A COSE_Sign1 over `payload`, the same for the same inputs. */
export function sign1(payload: Uint8Array, privateKey: Uint8Array): Uint8Array {
  const { r, s } = p384.sign(sigStructure(payload), privateKey)
  return encodeCbor(tagged(TAG.coseSign1, [PROTECTED, new Map(), payload, Buffer.concat([r, s])]))
}

/** Undefined where the bytes are no COSE_Sign1 of ES384 with an empty unprotected map. */
export function readSign1(bytes: Uint8Array): Sign1 | undefined {
  const parts = untagged(TAG.coseSign1, decodeCbor(bytes))
  if (!Array.isArray(parts) || parts.length !== 4) return undefined
  const [header, unprotected, payload, signature]: unknown[] = parts
  if (!(header instanceof Uint8Array) || !Buffer.from(header).equals(PROTECTED)) return undefined
  if (!(unprotected instanceof Map) || unprotected.size > 0) return undefined
  if (!(payload instanceof Uint8Array) || !(signature instanceof Uint8Array)) return undefined
  return signature.length === SIGNATURE_BYTES ? { payload, signature, signed: sigStructure(payload) } : undefined
}

/** COSE_Key of a P-384 key: 107 bytes (8.1). */
export const coseKey = ({ qx, qy }: PublicKey): Uint8Array =>
  encodeCbor(
    new Map<number, number | Uint8Array>([
      [COSE_KEY.type, EC2],
      [COSE_KEY.curve, P384],
      [COSE_KEY.x, qx],
      [COSE_KEY.y, qy],
    ]),
  )

/** A P-384 key as a COSE_Key, or as the 97 bytes 04 ‖ x ‖ y that tokens had before; undefined where it is neither. */
export function readKey(bytes: Uint8Array): PublicKey | undefined {
  if (bytes.length === 1 + 2 * KEY_BYTES && bytes[0] === UNCOMPRESSED)
    return { qx: bytes.slice(1, 1 + KEY_BYTES), qy: bytes.slice(1 + KEY_BYTES) }
  const key = decodeCbor(bytes)
  if (!(key instanceof Map) || key.get(COSE_KEY.type) !== EC2 || key.get(COSE_KEY.curve) !== P384) return undefined
  const [qx, qy]: unknown[] = [key.get(COSE_KEY.x), key.get(COSE_KEY.y)]
  if (!(qx instanceof Uint8Array) || !(qy instanceof Uint8Array)) return undefined
  return qx.length === KEY_BYTES && qy.length === KEY_BYTES ? { qx, qy } : undefined
}
