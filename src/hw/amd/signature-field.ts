import { p384, type Signature } from '../shared/ecdsa.ts'

const FIELD = 72

/** AMD's layout of a signature: R and S little-endian in 72 bytes each. */
export function writeSignature(target: Buffer, at: number, { r, s }: Signature): void {
  Buffer.from(r).reverse().copy(target, at)
  Buffer.from(s)
    .reverse()
    .copy(target, at + FIELD)
}

/** Undefined where a component has more than 48 significant bytes. */
export function readSignature(source: Buffer, at: number): Signature | undefined {
  const component = (from: number): Buffer | undefined =>
    source.subarray(from + p384.size, from + FIELD).some((byte) => byte !== 0)
      ? undefined
      : Buffer.from(source.subarray(from, from + p384.size)).reverse()
  const r = component(at)
  const s = component(at + FIELD)
  return r === undefined || s === undefined ? undefined : { r, s }
}
