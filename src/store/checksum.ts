import { createHash, hash } from 'node:crypto'

/** Checksums are summed in doubles without rounding, so they keep to 52 bits. */
const MODULUS = 2 ** 52

export const addChecksums = (a: number, b: number): number => (a + b) % MODULUS
export const subtractChecksums = (a: number, b: number): number => (a - b + MODULUS) % MODULUS

/**
 * Checksum of a row's canonical text. It finds accidents, not forgers: two 32-bit multiply-and-xor lanes (the public
 * domain cyrb53), cut to 52 bits. Chosen over CRC because rows are short strings and no call leaves JavaScript.
 */
export function checksum(text: string): number {
  let a = 0xdeadbeef
  let b = 0x41c6ce57
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, 2654435761)
    b = Math.imul(b ^ unit, 1597334677)
  }
  a = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  b = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(a ^ (a >>> 13), 3266489909)
  return 4294967296 * (b & 0xfffff) + (a >>> 0)
}

export const sha256 = (bytes: Uint8Array): Buffer => hash('sha256', bytes, 'buffer')

/** One digest over the contents of a checkpoint, in order of frame. */
export class ContentsDigest {
  readonly #hash = createHash('sha256')
  readonly #header = Buffer.alloc(16)

  add(frame: number, bytes: Uint8Array): void {
    this.#header.writeDoubleLE(frame, 0)
    this.#header.writeDoubleLE(bytes.length, 8)
    this.#hash.update(this.#header).update(bytes)
  }

  digest(): Buffer {
    return this.#hash.digest()
  }
}
