import { p384 } from '@noble/curves/nist.js'

/** Big-endian affine coordinates, 48 bytes each. */
export type P384PublicKey = { readonly qx: Uint8Array; readonly qy: Uint8Array }
/** Big-endian R and S, 48 bytes each. */
export type P384Signature = { readonly r: Uint8Array; readonly s: Uint8Array }

const SIZE = 48
const FIELD = 72
const OPTIONS = { lowS: false, prehash: true } as const

/** ECDSA P-384 over SHA-384 with RFC 6979's nonce: the same bytes always sign alike. */
export function signP384(message: Uint8Array, privateKey: Uint8Array): P384Signature {
  const compact = p384.sign(message, privateKey, OPTIONS)
  return { r: compact.slice(0, SIZE), s: compact.slice(SIZE) }
}

/** False for a wrong signature, for a key not on the curve, and where either could not be read. */
export function verifyP384(
  message: Uint8Array,
  signature: P384Signature | undefined,
  key: P384PublicKey | undefined,
): boolean {
  if (signature === undefined || key === undefined) return false
  try {
    return p384.verify(Buffer.concat([signature.r, signature.s]), message, uncompressed(key), OPTIONS)
  } catch {
    return false // the library throws for a point off the curve and for R or S out of range
  }
}

/** 04 ‖ X ‖ Y. */
export const uncompressed = ({ qx, qy }: P384PublicKey): Buffer => Buffer.concat([Buffer.from([4]), qx, qy])

export function publicKeyOf(privateKey: Uint8Array): P384PublicKey {
  const point = p384.getPublicKey(privateKey, false)
  return { qx: point.slice(1, 1 + SIZE), qy: point.slice(1 + SIZE) }
}

/** A private key from at least 56 uniform bytes: mod (n - 1), plus 1. */
export function scalarFrom(uniform: Uint8Array): Buffer {
  const order = p384.Point.Fn.ORDER
  const scalar = (BigInt(`0x${Buffer.from(uniform).toString('hex')}`) % (order - 1n)) + 1n
  return Buffer.from(scalar.toString(16).padStart(SIZE * 2, '0'), 'hex')
}

/** AMD's layout of a signature: R and S little-endian in 72 bytes each. */
export function writeSignature(target: Buffer, at: number, { r, s }: P384Signature): void {
  Buffer.from(r).reverse().copy(target, at)
  Buffer.from(s)
    .reverse()
    .copy(target, at + FIELD)
}

/** Undefined where a component has more than 48 significant bytes. */
export function readSignature(source: Buffer, at: number): P384Signature | undefined {
  const component = (from: number): Buffer | undefined =>
    source.subarray(from + SIZE, from + FIELD).some((byte) => byte !== 0)
      ? undefined
      : Buffer.from(source.subarray(from, from + SIZE)).reverse()
  const r = component(at)
  const s = component(at + FIELD)
  return r === undefined || s === undefined ? undefined : { r, s }
}
