/** An unsigned number as clients give it: a hex string (`"0x30000"`) or a non-negative integer. */
export type HexOrInteger = string | number

const HEX_U64 = /^0x[0-9a-fA-F]{1,16}$/
const HEX_BYTES = /^(?:[0-9a-fA-F]{2})*$/

export const toHex = (value: number | bigint): string => `0x${value.toString(16)}`

/** Reads a u64, or undefined where the text isn't one. */
export function parseU64(value: HexOrInteger): bigint | undefined {
  if (typeof value === 'number') return Number.isSafeInteger(value) && value >= 0 ? BigInt(value) : undefined
  return HEX_U64.test(value) ? BigInt(value) : undefined
}

/** Reads exactly `length` bytes of plain hex (no 0x), or undefined. */
export function parseBytes(text: string, length: number): Buffer | undefined {
  return text.length === length * 2 && HEX_BYTES.test(text) ? Buffer.from(text, 'hex') : undefined
}

export const hexOf = (bytes: Uint8Array): string =>
  Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength).toString('hex')

/** A Buffer over the same bytes, for its little-endian accessors. */
export const view = (bytes: Uint8Array): Buffer => Buffer.from(bytes.buffer, bytes.byteOffset, bytes.byteLength)

/** A GUID's 16 bytes in the mixed-endian order EFI stores, as its usual text. */
export function guidText(bytes: Buffer, at: number): string {
  const group = (from: number, to: number, reverse: boolean): string => {
    const part = Buffer.from(bytes.subarray(at + from, at + to))
    return (reverse ? part.reverse() : part).toString('hex')
  }
  return [group(0, 4, true), group(4, 6, true), group(6, 8, true), group(8, 10, false), group(10, 16, false)].join('-')
}

/** The inverse of {@link guidText}. */
export function guidBytes(text: string): Buffer {
  const bytes = Buffer.from(text.replaceAll('-', ''), 'hex')
  bytes.subarray(0, 4).reverse()
  bytes.subarray(4, 6).reverse()
  bytes.subarray(6, 8).reverse()
  return bytes
}
