/** As much of ASN.1 DER as X.509 certificates of CPU vendors need. */
const TAG = {
  boolean: 0x01,
  integer: 0x02,
  bitString: 0x03,
  octetString: 0x04,
  null: 0x05,
  oid: 0x06,
  enumerated: 0x0a,
  utf8: 0x0c,
  sequence: 0x30,
  set: 0x31,
  ia5: 0x16,
  utcTime: 0x17,
} as const

export function tagged(tag: number, contents: Uint8Array): Buffer {
  const { length } = contents
  if (length < 0x80) return Buffer.concat([Buffer.from([tag, length]), contents])
  const size = length > 0xffff ? 3 : length > 0xff ? 2 : 1
  const head = Buffer.alloc(2 + size)
  head[0] = tag
  head[1] = 0x80 | size
  head.writeUIntBE(length, 2, size)
  return Buffer.concat([head, contents])
}

export const sequence = (...parts: readonly Uint8Array[]): Buffer => tagged(TAG.sequence, Buffer.concat(parts))
export const set = (...parts: readonly Uint8Array[]): Buffer => tagged(TAG.set, Buffer.concat(parts))
export const octetString = (bytes: Uint8Array): Buffer => tagged(TAG.octetString, bytes)
export const nothing = (): Buffer => tagged(TAG.null, Buffer.alloc(0))
export const boolean = (value: boolean): Buffer => tagged(TAG.boolean, Buffer.from([value ? 0xff : 0]))
/** A value from 0 to 127. */
export const enumerated = (value: number): Buffer => tagged(TAG.enumerated, Buffer.from([value]))
export const utf8 = (text: string): Buffer => tagged(TAG.utf8, Buffer.from(text, 'utf8'))
export const ia5 = (text: string): Buffer => tagged(TAG.ia5, Buffer.from(text, 'latin1'))
export const utcTime = (text: string): Buffer => tagged(TAG.utcTime, Buffer.from(text, 'latin1'))
/** `[n]`, explicitly tagged. */
export const explicit = (number: number, contents: Uint8Array): Buffer => tagged(0xa0 | number, contents)

export function bitString(bytes: Uint8Array, unusedBits = 0): Buffer {
  return tagged(TAG.bitString, Buffer.concat([Buffer.from([unusedBits]), bytes]))
}

/** A non-negative integer. */
export function integer(value: number): Buffer {
  const bytes: number[] = []
  for (let rest = value; rest > 0; rest = Math.floor(rest / 256)) bytes.unshift(rest % 256)
  return unsigned(Uint8Array.from(bytes))
}

/** A non-negative integer from its big-endian bytes, leading zeros allowed; none are 0. */
export function unsigned(bytes: Uint8Array): Buffer {
  const first = bytes.findIndex((byte) => byte !== 0)
  if (first === -1) return tagged(TAG.integer, Buffer.from([0]))
  const minimal = bytes.subarray(first)
  return tagged(TAG.integer, (minimal[0] ?? 0) >= 0x80 ? Buffer.from([0, ...minimal]) : minimal)
}

export function oid(text: string): Buffer {
  const [first = 0, second = 0, ...rest] = text.split('.').map(Number)
  const bytes: number[] = [first * 40 + second]
  for (const arc of rest) {
    const digits = [arc % 128]
    for (let high = Math.floor(arc / 128); high > 0; high = Math.floor(high / 128)) digits.unshift((high % 128) | 0x80)
    bytes.push(...digits)
  }
  return tagged(TAG.oid, Buffer.from(bytes))
}

/** One element: its tag, its contents, and where the next begins. */
export type Element = { readonly tag: number; readonly contents: Buffer; readonly end: number }

/** Reads the element at an offset, or undefined where the bytes are not DER. */
export function readElement(bytes: Buffer, at: number): Element | undefined {
  const tag = bytes[at]
  const short = bytes[at + 1]
  if (tag === undefined || short === undefined) return undefined
  const size = short < 0x80 ? 0 : short & 0x7f
  if (size > 3 || short === 0x80 || at + 2 + size > bytes.length) return undefined
  const length = size === 0 ? short : bytes.readUIntBE(at + 2, size)
  const start = at + 2 + size
  return start + length > bytes.length
    ? undefined
    : { tag, contents: bytes.subarray(start, start + length), end: start + length }
}

/** The elements that fill a constructed element's contents, or undefined where they don't. */
export function readAll(contents: Buffer): readonly Element[] | undefined {
  const elements: Element[] = []
  for (let at = 0; at < contents.length; ) {
    const element = readElement(contents, at)
    if (element === undefined) return undefined
    elements.push(element)
    at = element.end
  }
  return elements
}
