import Type, { type Static } from 'typebox'
import { invalid, kernelRefusal, type Result } from '../../domain/refusal.ts'
import { MAX_SAFE_INTEGER } from '../limits.ts'

const UNITS: Readonly<Record<string, bigint>> = {
  B: 1n,
  KiB: 1n << 10n,
  MiB: 1n << 20n,
  GiB: 1n << 30n,
  TiB: 1n << 40n,
}
const WITH_UNIT = /^(0|[1-9][0-9]{0,18})(B|KiB|MiB|GiB|TiB)$/
const PATTERN = '^(?:0x[0-9A-Fa-f]{1,16}|(?:0|[1-9][0-9]{0,18})(?:B|KiB|MiB|GiB|TiB))$'
const EXPECTED =
  'a size in bytes: an integer from 0 to 9007199254740991, a hex string such as "0x200000", or a binary unit such as "2MiB"'
const UINT64_MAX = (1n << 64n) - 1n
/** The kernel takes offsets and lengths as signed 64-bit numbers. */
const LOFF_MAX = (1n << 63n) - 1n
const PAGE = 4096n

/** A size or offset as it is taken. */
export const SizeInput = Type.Union(
  [Type.String({ pattern: PATTERN }), Type.Integer({ minimum: 0, maximum: MAX_SAFE_INTEGER })],
  { 'x-expected': EXPECTED, examples: ['2MiB', '0x200000', 2097152] },
)
export type SizeInput = Static<typeof SizeInput>

/** An offset in a file, or its size: up to 2^63, beyond the integers that every reader of JSON keeps. */
export const FileBytes = Type.Integer({ minimum: 0, examples: [2097152] })

/** A multiple of 4096 as it is to be written: all its digits, where a number would print rounded ones. */
export const allDigits = (bytes: unknown): unknown =>
  typeof bytes === 'number' && bytes > MAX_SAFE_INTEGER ? BigInt(bytes) : bytes

/**
 * The exact number of bytes. A value that no 64-bit field holds is malformed (400); one beyond 2^63-1 is well-formed,
 * but negative to the kernel (EINVAL).
 */
export function parseSize(value: SizeInput, pointer: string): Result<bigint> {
  const bytes = exactBytes(value)
  if (bytes > UINT64_MAX) return invalid('size-out-of-range', `${value} does not fit in 64 bits.`, pointer)
  if (bytes > LOFF_MAX) {
    return kernelRefusal(
      'EINVAL',
      'size-beyond-signed-64-bit',
      `${value} is negative as a signed 64-bit size.`,
      pointer,
    )
  }
  return { ok: true, value: bytes }
}

/** A size in whole pages. The kernel takes no other for memory (EINVAL). Exact: at most 2^51 pages. */
export function parsePages(value: SizeInput, pointer: string): Result<number> {
  const size = parseSize(value, pointer)
  if (!size.ok) return size
  if (size.value % PAGE === 0n) return { ok: true, value: Number(size.value / PAGE) }
  return kernelRefusal('EINVAL', 'misaligned-size', `${value} is not a multiple of 4 KiB.`, pointer)
}

function exactBytes(value: SizeInput): bigint {
  if (typeof value === 'number') return BigInt(value)
  const [, count, unit = ''] = WITH_UNIT.exec(value) ?? []
  return count === undefined ? BigInt(value) : BigInt(count) * (UNITS[unit] ?? 1n)
}
