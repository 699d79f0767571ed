import type { ECDSA } from '@noble/curves/abstract/weierstrass.js'
import { p256 as nistP256, p384 as nistP384 } from '@noble/curves/nist.js'

/** Big-endian affine coordinates, each as long as the curve's field. */
export type PublicKey = { readonly qx: Uint8Array; readonly qy: Uint8Array }
/** Big-endian R and S, each as long as the curve's order. */
export type Signature = { readonly r: Uint8Array; readonly s: Uint8Array }

/** One curve with its hash: P-256 signs SHA-256, P-384 SHA-384. */
export type Ecdsa = {
  /** Bytes of a coordinate, of R and of S. */
  readonly size: number
  /** With RFC 6979's nonce: the same bytes always sign alike. */
  sign(message: Uint8Array, privateKey: Uint8Array): Signature
  /** False for a wrong signature, for a key not on the curve, and where either could not be read. */
  verify(message: Uint8Array, signature: Signature | undefined, key: PublicKey | undefined): boolean
  publicKeyOf(privateKey: Uint8Array): PublicKey
  /** A private key from at least {@link size} + 8 uniform bytes: mod (n - 1), plus 1. */
  scalarFrom(uniform: Uint8Array): Buffer
}

const OPTIONS = { lowS: false, prehash: true } as const

export const p256 = ecdsa(nistP256, 32)
export const p384 = ecdsa(nistP384, 48)

/** 04 ‖ X ‖ Y. */
export const uncompressed = ({ qx, qy }: PublicKey): Buffer => Buffer.concat([Buffer.from([4]), qx, qy])

function ecdsa(curve: ECDSA, size: number): Ecdsa {
  return {
    size,
    sign(message, privateKey) {
      const compact = curve.sign(message, privateKey, OPTIONS)
      return { r: compact.slice(0, size), s: compact.slice(size) }
    },
    verify(message, signature, key) {
      if (signature === undefined || key === undefined) return false
      try {
        return curve.verify(Buffer.concat([signature.r, signature.s]), message, uncompressed(key), OPTIONS)
      } catch {
        return false // the library throws for a point off the curve and for R or S out of range
      }
    },
    publicKeyOf(privateKey) {
      const point = curve.getPublicKey(privateKey, false)
      return { qx: point.slice(1, 1 + size), qy: point.slice(1 + size) }
    },
    scalarFrom(uniform) {
      const scalar = (BigInt(`0x${Buffer.from(uniform).toString('hex')}`) % (curve.Point.Fn.ORDER - 1n)) + 1n
      return Buffer.from(scalar.toString(16).padStart(size * 2, '0'), 'hex')
    },
  }
}
