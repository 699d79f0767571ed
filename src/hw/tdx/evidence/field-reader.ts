import { view } from '../../shared/hex.ts'

/** Why bytes were refused: the first field that is wrong, and what is wrong with it. Data, never an exception. */
export type FieldRefusal = { readonly field: string; readonly detail: string }
export type Refused = { readonly ok: false; readonly refusal: FieldRefusal }

export const refused = (field: string, detail: string): Refused => ({ ok: false, refusal: { field, detail } })

/**
 * Reads fields one after the other. The first fault stays: from then on numbers read as 0 and byte strings as empty, so a
 * caller may read on and must look at `refusal` before it uses what it read.
 */
export type FieldReader = {
  /** A copy of the next `length` bytes. */
  take(field: string, length: number): Uint8Array
  u16(field: string): number
  u32(field: string): number
  /** Refuses `field` unless the condition holds. */
  require(field: string, condition: boolean, detail: string): void
  /** Bytes read so far. */
  readonly position: number
  readonly refusal: FieldRefusal | undefined
}

export function fieldReader(input: Uint8Array): FieldReader {
  const bytes = view(input)
  let position = 0
  let refusal: FieldRefusal | undefined
  const refuse = (field: string, detail: string): void => {
    refusal ??= { field, detail }
  }
  const advance = (field: string, length: number): boolean => {
    if (length > bytes.length - position)
      refuse(field, `${length} bytes at ${position} reach past the end of ${bytes.length} bytes.`)
    if (refusal !== undefined) return false
    position += length
    return true
  }
  const number = (field: string, size: number): number =>
    advance(field, size) ? bytes.readUIntLE(position - size, size) : 0
  return {
    take: (field, length) => Uint8Array.from(advance(field, length) ? bytes.subarray(position - length, position) : []),
    u16: (field) => number(field, 2),
    u32: (field) => number(field, 4),
    require(field, condition, detail) {
      if (!condition) refuse(field, detail)
    },
    get position() {
      return position
    },
    get refusal() {
      return refusal
    },
  }
}
