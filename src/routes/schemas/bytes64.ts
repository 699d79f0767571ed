import Type from 'typebox'
import type { Bytes64 } from '../../domain/commands.ts'
import { invalid, type Result } from '../../domain/refusal.ts'
import { MAX_SAFE_INTEGER } from '../limits.ts'
import { type SizeInput, SizeInput as SizeSchema } from './size.ts'

// Byte values that the kernel itself is to judge: any 64 bits, aligned or not.

const UNIT_SHIFTS: Readonly<Record<string, bigint>> = { KiB: 10n, MiB: 20n, GiB: 30n, TiB: 40n }

/** A size or offset that the kernel takes as signed: negative integers are well-formed, and answered by it. */
export const SignedSizeInput = Type.Union(
  [...SizeSchema.anyOf, Type.Integer({ minimum: -MAX_SAFE_INTEGER, maximum: -1 })],
  {
    'x-expected':
      'a size in bytes: an integer up to 9007199254740991, a hex string such as "0x200000", or a binary unit such as "2MiB"',
    examples: ['2MiB', '0x200000', 2097152],
  },
)

/** A size for the domain, its unit spelled out. Refused as malformed only when no 64-bit field holds it. */
export function parseBytes64(value: SizeInput, pointer: string): Result<Bytes64> {
  if (typeof value === 'number' || value.startsWith('0x')) return { ok: true, value }
  const [, count = '0', unit = 'B'] = /^(\d+)(.*)$/.exec(value) ?? []
  const bytes = BigInt(count) << (UNIT_SHIFTS[unit] ?? 0n)
  if (bytes < 2n ** 64n) return { ok: true, value: `0x${bytes.toString(16)}` }
  return invalid('size-out-of-range', `${value} does not fit in 64 bits.`, pointer)
}

/** An address or a number of bytes in a path or a query, where everything is text. */
export const Bytes64Text = Type.String({
  pattern: '^(?:0x[0-9A-Fa-f]{1,16}|(?:0|[1-9][0-9]{0,18})(?:B|KiB|MiB|GiB|TiB)?)$',
  'x-expected': 'bytes: a decimal integer, a hex string such as "0x200000", or a binary unit such as "2MiB"',
  examples: ['0x200000'],
})

const FRAME_LIMIT = 2 ** 40

/** A whole number of 4 KiB frames, at most 2^40: what a guest can address. */
export function parseFrames(text: string, pointer: string): Result<number> {
  const spelled = parseBytes64(/^\d+$/.test(text) ? `${text}B` : text, pointer)
  if (!spelled.ok) return spelled
  const bytes = BigInt(spelled.value)
  if (bytes % 4096n !== 0n) return invalid('misaligned-address', `${text} is not a multiple of 4 KiB.`, pointer)
  const frames = Number(bytes / 4096n)
  if (frames <= FRAME_LIMIT) return { ok: true, value: frames }
  return invalid('gpa-beyond-limit', `${text} is beyond 2^52.`, pointer)
}
