import { hash } from 'node:crypto'

/** RmiHashAlgorithm (arm-cca.md 1): 0 is SHA-256, 1 is SHA-512. */
export type HashAlgo = 0 | 1

/** Every measurement, and every digest in a descriptor, is a field of 64 bytes; with SHA-256 the upper half is zero (8). */
export const MEASUREMENT_BYTES = 64
export const PAGE_BYTES = 4096

/** Bytes of a digest itself. */
export const digestBytes = (algo: HashAlgo): 32 | 64 => (algo === 0 ? 32 : 64)

/** A digest in its 64-byte field. As text it comes out of node:crypto several times as fast as in a buffer of its own. */
export function digestField(algo: HashAlgo, bytes: Uint8Array): Uint8Array {
  const digest = hash(algo === 0 ? 'sha256' : 'sha512', bytes, 'binary')
  const field = new Uint8Array(MEASUREMENT_BYTES)
  for (let index = 0; index < digest.length; index++) field[index] = digest.charCodeAt(index)
  return field
}
