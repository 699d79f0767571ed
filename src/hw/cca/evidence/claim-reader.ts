/** Why a token was refused: the part and claim that is wrong. Data, never an exception. */
export type TokenRefusal = { readonly field: string; readonly detail: string }
export type Refused = { readonly ok: false; readonly refusal: TokenRefusal }

export const refused = (field: string, detail: string): Refused => ({ ok: false, refusal: { field, detail } })

/**
 * Reads claims of a map by key. The first fault stays: from then on texts and byte strings read as empty and numbers as 0,
 * so a caller may read on and must look at `refusal` before it uses what it read.
 */
export type ClaimReader = {
  text(field: string, key: number, allowed?: readonly string[]): string
  number(field: string, key: number): number
  /** A byte string of one of these lengths; of any where none is named. */
  bytes(field: string, key: number, lengths?: readonly number[]): Uint8Array
  list(field: string, key: number): readonly unknown[]
  has(key: number): boolean
  /** Refuses `field` unless the condition holds. */
  expect(field: string, holds: boolean, detail: string): void
  readonly refusal: Refused | undefined
}

export function claimReader(part: string, claims: unknown): ClaimReader {
  const map: ReadonlyMap<unknown, unknown> = claims instanceof Map ? claims : new Map()
  let refusal: Refused | undefined
  const expect = (field: string, holds: boolean, detail: string): void => {
    if (!holds) refusal ??= refused(`${part}.${field}`, detail)
  }
  if (!(claims instanceof Map)) refusal = refused(part, 'It is no map of claims.')
  return {
    expect,
    has: (key) => map.has(key),
    text(field, key, allowed) {
      const value = map.get(key)
      expect(field, typeof value === 'string', 'It is no text.')
      expect(field, allowed === undefined || allowed.includes(String(value)), `It is not ${allowed?.join(' or ')}.`)
      return typeof value === 'string' ? value : ''
    },
    number(field, key) {
      const value = map.get(key)
      const isUnsigned = typeof value === 'number' && Number.isInteger(value) && value >= 0
      expect(field, isUnsigned, 'It is no unsigned number.')
      return isUnsigned ? value : 0
    },
    bytes(field, key, lengths) {
      const value = map.get(key)
      const bytes = value instanceof Uint8Array ? value : new Uint8Array(0)
      expect(field, value instanceof Uint8Array, 'It is no byte string.')
      const fits = lengths === undefined || lengths.includes(bytes.length)
      expect(field, fits, `It has ${bytes.length} bytes instead of ${lengths?.join(' or ')}.`)
      return bytes
    },
    list(field, key) {
      const value = map.get(key)
      expect(field, Array.isArray(value), 'It is no array.')
      return Array.isArray(value) ? value : []
    },
    get refusal() {
      return refusal
    },
  }
}
