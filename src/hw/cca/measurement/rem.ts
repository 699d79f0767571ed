import { digestBytes, digestField, type HashAlgo, MEASUREMENT_BYTES } from './digest.ts'

export const REM_COUNT = 4
export const MAX_REM_VALUE_BYTES = 64

/**
 * RSI_MEASUREMENT_EXTEND: H(REM ‖ value), the old REM without its padding and `value` (at most 64 bytes) as long as it is
 * (arm-cca.md 8). No bytes at all still change the REM.
 */
export function extendRem(algo: HashAlgo, rem: Uint8Array, value: Uint8Array): Uint8Array {
  if (value.length > MAX_REM_VALUE_BYTES) throw new RangeError(`A REM takes at most ${MAX_REM_VALUE_BYTES} bytes`)
  return digestField(algo, Buffer.concat([rem.subarray(0, digestBytes(algo)), value]))
}

export const initialRem = (): Uint8Array => new Uint8Array(MEASUREMENT_BYTES)
