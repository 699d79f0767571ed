import { decode, encode, Tagged } from 'cborg'

/** As much of CBOR (RFC 8949) as tokens have. Maps keep their order: tokens sign it. */
export type Cbor = number | string | Uint8Array | readonly Cbor[] | CborMap | Tagged
export type CborMap = ReadonlyMap<number, Cbor>

export const TAG = { coseSign1: 18, ccaToken: 399 } as const

export const tagged = (tag: number, value: Cbor): Tagged => new Tagged(tag, value)

/** In the shortest form of every head. */
export const encodeCbor = (value: Cbor): Uint8Array => encode(value, { mapSorter: () => 0 })

const STRICT = {
  strict: true,
  useMaps: true,
  allowIndefinite: false,
  allowUndefined: false,
  allowNaN: false,
  allowInfinity: false,
  rejectDuplicateMapKeys: true,
  tags: Tagged.preserve(TAG.coseSign1, TAG.ccaToken),
} as const

/** Undefined where the bytes are not one item in the shortest form, with definite lengths and without other tags. */
export function decodeCbor(bytes: Uint8Array): unknown {
  try {
    return decode(bytes, STRICT)
  } catch {
    return undefined // what the library throws differs: not CBOR, cut off, followed by more, nested too deep
  }
}

/** What a tag of this number holds, undefined where the value isn't one. */
export const untagged = (tag: number, value: unknown): unknown =>
  value instanceof Tagged && value.tag === tag ? value.value : undefined
