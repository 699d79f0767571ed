import { createHash, hash } from 'node:crypto'

/** Checksums are summed in doubles without rounding, so they keep to 52 bits. */
const MODULUS = 2 ** 52
const LANE_A = 0xdeadbeef
const LANE_B = 0x41c6ce57
const FACTOR_A = 2654435761
const FACTOR_B = 1597334677

export const addChecksums = (a: number, b: number): number => (a + b) % MODULUS
export const subtractChecksums = (a: number, b: number): number => (a - b + MODULUS) % MODULUS

/**
 * Checksum of a row's canonical text. It finds accidents, not forgers: two 32-bit multiply-and-xor lanes (the public
 * domain cyrb53), cut to 52 bits. Chosen over CRC because rows are short strings and no call leaves JavaScript.
 */
export function checksum(text: string): number {
  let a = LANE_A
  let b = LANE_B
  for (let i = 0; i < text.length; i++) {
    const unit = text.charCodeAt(i)
    a = Math.imul(a ^ unit, FACTOR_A)
    b = Math.imul(b ^ unit, FACTOR_B)
  }
  return finish(a, b)
}

/** The same over integers below 2^53, checksums of texts among them. */
export function checksumOfNumbers(values: readonly number[]): number {
  let a = LANE_A
  let b = LANE_B
  for (const value of values) {
    const high = Math.floor(value / 4294967296)
    a = Math.imul(Math.imul(a ^ value, FACTOR_A) ^ high, FACTOR_A)
    b = Math.imul(Math.imul(b ^ value, FACTOR_B) ^ high, FACTOR_B)
  }
  return finish(a, b)
}

function finish(a: number, b: number): number {
  const low = Math.imul(a ^ (a >>> 16), 2246822507) ^ Math.imul(b ^ (b >>> 13), 3266489909)
  const high = Math.imul(b ^ (b >>> 16), 2246822507) ^ Math.imul(low ^ (low >>> 13), 3266489909)
  return 4294967296 * (high & 0xfffff) + (low >>> 0)
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
