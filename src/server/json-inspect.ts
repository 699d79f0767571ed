import { JSON_DEPTH, JSON_KEYS, PROBLEM_ERRORS } from '../routes/limits.ts'
import type { ServiceCode } from '../routes/problem-codes.ts'
import { inexactness } from './json-number.ts'
import { endOfNumber, endOfString, isForbiddenMember } from './json-scan.ts'

export type JsonFault = { readonly code: ServiceCode; readonly pointer: string; readonly detail: string }

type Frame = { readonly keys: Set<string> | undefined; key: string; index: number; expectKey: boolean }

/**
 * Names every fault in a text that JSON.parse accepted, with its place. Slower than the scan that found that there is
 * one, and stops at the first bound that is passed.
 */
export function inspectJson(text: string): JsonFault[] {
  const faults: JsonFault[] = []
  const stack: Frame[] = []
  let members = 0

  const report = (code: ServiceCode, detail: string, pointer = pointerOf(stack)) => {
    if (faults.length < PROBLEM_ERRORS) faults.push({ code, pointer, detail })
  }

  for (let at = 0; at < text.length; at++) {
    const c = text[at]
    const frame = stack.at(-1)
    if (c === '{' || c === '[') {
      if (stack.length === JSON_DEPTH) {
        report('json-too-complex', `nested deeper than ${JSON_DEPTH} levels`, '')
        return faults
      }
      stack.push({ keys: c === '{' ? new Set() : undefined, key: '', index: 0, expectKey: c === '{' })
    } else if (c === '}' || c === ']') {
      const closed = stack.pop()
      const parent = stack.at(-1)
      const reachesPrototype = closed?.keys?.has('prototype') === true && parent?.key === 'constructor'
      if (reachesPrototype && parent?.keys !== undefined) report('forbidden-key', 'holds "prototype"')
    } else if (c === ',' && frame !== undefined) {
      frame.index++
      frame.expectKey = frame.keys !== undefined
    } else if (c === '"') {
      const end = endOfString(text, at)
      const value = JSON.parse(text.slice(at, end + 1)) as string
      if (frame?.keys !== undefined && frame.expectKey) {
        frame.key = value
        frame.expectKey = false
        if (frame.keys.has(value)) report('duplicate-key', 'the key is given more than once')
        frame.keys.add(value)
        if (isForbiddenMember(value, undefined)) report('forbidden-key', 'the key is forbidden')
        if (++members > JSON_KEYS) {
          report('json-too-complex', `more than ${JSON_KEYS} object members`, '')
          return faults
        }
      }
      if (!value.isWellFormed()) report('malformed-json', 'the string has a lone surrogate')
      at = end
    } else if (c !== undefined && /[-0-9]/.test(c)) {
      const end = endOfNumber(text, at)
      const reason = inexactness(text.slice(at, end))
      if (reason !== undefined) report('inexact-number', reason)
      at = end - 1
    }
  }
  return faults
}

/** RFC 6901, with lone surrogates made printable. */
function pointerOf(stack: readonly Frame[]): string {
  return stack
    .map((frame) => (frame.keys === undefined ? `/${frame.index}` : `/${escapePointer(frame.key)}`))
    .join('')
    .toWellFormed()
}

export const escapePointer = (key: string): string => key.replaceAll('~', '~0').replaceAll('/', '~1')
