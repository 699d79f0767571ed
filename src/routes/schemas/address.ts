import Type, { type Static } from 'typebox'
import { invalid, type Result } from '../../domain/refusal.ts'
import { MAX_SAFE_INTEGER } from '../limits.ts'

const HEX_PATTERN = '^0x[0-9A-Fa-f]{1,16}$'
const EXPECTED =
  'an address: a hex string of up to 64 bits such as "0x80000000", or an integer from 0 to 9007199254740991'
/** Hex digits that a double holds exactly. */
const EXACT_HEX_DIGITS = 13
const PAGE = 4096

/** An address as it is taken: a hex string, or a non-negative integer that JSON carries exactly. */
export const AddressInput = Type.Union(
  [Type.String({ pattern: HEX_PATTERN }), Type.Integer({ minimum: 0, maximum: MAX_SAFE_INTEGER })],
  { 'x-expected': EXPECTED, examples: ['0x80000000', 2147483648] },
)
export type AddressInput = Static<typeof AddressInput>

/** An address in a path or a query, where everything is text. */
export const AddressText = Type.String({
  pattern: HEX_PATTERN,
  'x-expected': 'an address: a hex string of up to 64 bits such as "0x80000000"',
  examples: ['0x80000000'],
})

/** An address as it is given: lower-case hex, without leading zeros. */
export const AddressOutput = Type.String({ pattern: '^0x(?:0|[1-9a-f][0-9a-f]{0,15})$', examples: ['0x80000000'] })

/** The exact byte address. The value has passed its schema. */
export const parseAddress = (value: AddressInput): bigint => BigInt(value)

/**
 * The frame number of a page-aligned address: below 2^52, so a plain number is exact. Refused as invalid when the
 * address is not a multiple of 4 KiB; `pointer` names the field.
 */
export function parseFrame(value: AddressInput, pointer: string): Result<number> {
  const exact = typeof value === 'number' || value.length <= EXACT_HEX_DIGITS + 2
  const frame = exact ? Number(value) / PAGE : frameOf(BigInt(value))
  if (Number.isInteger(frame)) return { ok: true, value: frame }
  return invalid('misaligned-address', `${formatBytes(BigInt(value))} is not a multiple of 4 KiB.`, pointer)
}

/** A frame number, or NaN for an address inside a page. */
const frameOf = (address: bigint): number => ((address & 0xfffn) === 0n ? Number(address >> 12n) : Number.NaN)

/** The address of a frame: its number in hex and three zeros, exact although the address may be beyond 2^53. */
export const formatAddress = (frame: number): string => (frame === 0 ? '0x0' : `0x${frame.toString(16)}000`)

/** Any byte address, aligned or not. */
export const formatBytes = (address: bigint | number): string => `0x${address.toString(16)}`
