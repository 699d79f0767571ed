import { MAX_SAFE_INTEGER } from '../routes/limits.ts'

const NUMBER = /^(-?)(\d+)(?:\.(\d+))?(?:[eE]([+-]?\d+))?$/
const SAFE_DIGITS = 16

/**
 * Why a JSON number cannot be taken as it is written, or undefined when it can: an integer must be within 2^53-1,
 * minus zero does not exist, and a fraction must not vanish in a double. `token` is a valid JSON number.
 */
export function inexactness(token: string): string | undefined {
  const parts = NUMBER.exec(token)
  if (parts === null) return undefined
  const [, sign, whole = '', fraction = '', exponentText = '0'] = parts
  const significand = stripLeadingZeros(whole + fraction)
  if (significand === '') return sign === '-' ? 'minus zero is not a number here' : undefined
  const digits = stripTrailingZeros(significand)
  const exponent = Number(exponentText) - fraction.length + (significand.length - digits.length)
  if (exponent >= 0) {
    const tooLarge = digits.length + exponent > SAFE_DIGITS || Number(digits + '0'.repeat(exponent)) > MAX_SAFE_INTEGER
    return tooLarge ? 'the integer is beyond 2^53-1 and would be rounded; send it as a hex string' : undefined
  }
  return Number.isInteger(Number(token)) ? 'the fraction would be lost by rounding' : undefined
}

function stripLeadingZeros(digits: string): string {
  let start = 0
  while (digits.charCodeAt(start) === 0x30) start++
  return digits.slice(start)
}

function stripTrailingZeros(digits: string): string {
  let end = digits.length
  while (end > 0 && digits.charCodeAt(end - 1) === 0x30) end--
  return digits.slice(0, end)
}
