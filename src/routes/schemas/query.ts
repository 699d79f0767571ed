import Type from 'typebox'
import { invalid, type Result } from '../../domain/refusal.ts'
import { MAX_SAFE_INTEGER } from '../limits.ts'

// A query or path value is text and stays text: its schema is a pattern, and the handler parses it. So nothing is
// coerced, and "1e3", " 1", "01" and "+1" are refused instead of guessed at.

/** A non-negative integer in decimal, as text. */
export const DecimalText = Type.String({
  pattern: '^(?:0|[1-9][0-9]{0,15})$',
  'x-expected': 'a decimal integer from 0 to 9007199254740991',
  examples: ['42'],
})

/** The integer that a DecimalText spells, refused when it is outside the bounds. */
export function parseDecimal(
  text: string,
  pointer: string,
  { minimum = 0, maximum = MAX_SAFE_INTEGER }: { minimum?: number; maximum?: number } = {},
): Result<number> {
  const value = Number(text)
  if (Number.isSafeInteger(value) && value >= minimum && value <= maximum) return { ok: true, value }
  return invalid('out-of-range', `${text} is not between ${minimum} and ${maximum}.`, pointer)
}

/** A truth value, as text. */
export const BooleanText = Type.Enum(['true', 'false'], { examples: ['true'] })
