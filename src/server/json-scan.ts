import { JSON_DEPTH, JSON_KEYS } from '../routes/limits.ts'
import { inexactness } from './json-number.ts'

const QUOTE = 0x22
const BACKSLASH = 0x5c
const MINUS = 0x2d
const ZERO = 0x30
const NINE = 0x39
const COLON = 0x3a
const OPEN_OBJECT = 0x7b
const CLOSE_OBJECT = 0x7d
const OPEN_ARRAY = 0x5b
const CLOSE_ARRAY = 0x5d
/** Integers of fewer digits than this are exact without a closer look. */
const PLAIN_DIGITS = 15

/** Where the string that opens at `start` closes. The text is valid JSON. */
export function endOfString(text: string, start: number): number {
  let end = text.indexOf('"', start + 1)
  while (text.charCodeAt(end - 1) === BACKSLASH) {
    let backslashes = 1
    while (text.charCodeAt(end - 1 - backslashes) === BACKSLASH) backslashes++
    if (backslashes % 2 === 0) break
    end = text.indexOf('"', end + 1)
  }
  return end
}

/** Where the number that begins at `start` ends (exclusive). The text is valid JSON. */
export function endOfNumber(text: string, start: number): number {
  let end = start + 1
  for (; end < text.length; end++) {
    const c = text.charCodeAt(end)
    const isNumberCharacter =
      (c >= ZERO && c <= NINE) || c === 0x2e || c === 0x65 || c === 0x45 || c === 0x2b || c === MINUS
    if (!isNumberCharacter) break
  }
  return end
}

/**
 * One pass over a text that JSON.parse has accepted. Gives the number of object members it spells, or -1 when a bound
 * is passed or a number is inexact: then the slow inspection finds out what and where.
 */
export function countMembers(text: string): number {
  let depth = 0
  let members = 0
  for (let at = 0; at < text.length; at++) {
    const c = text.charCodeAt(at)
    if (c === QUOTE) at = endOfString(text, at)
    else if (c === COLON) members++
    else if (c === OPEN_OBJECT || c === OPEN_ARRAY) {
      if (++depth > JSON_DEPTH) return -1
    } else if (c === CLOSE_OBJECT || c === CLOSE_ARRAY) depth--
    else if ((c >= ZERO && c <= NINE) || c === MINUS) {
      const end = endOfNumber(text, at)
      if (!isPlainInteger(text, at, end) && inexactness(text.slice(at, end)) !== undefined) return -1
      at = end - 1
    }
  }
  return members > JSON_KEYS ? -1 : members
}

function isPlainInteger(text: string, start: number, end: number): boolean {
  if (end - start > PLAIN_DIGITS || text.charCodeAt(start) === MINUS) return false
  for (let at = start; at < end; at++) if (text.charCodeAt(at) > NINE || text.charCodeAt(at) < ZERO) return false
  return true
}

/**
 * The number of own members in a parsed value, or -1 when one has a forbidden key or a string has a lone surrogate.
 * A text that spells more members than its value has repeats a key somewhere.
 */
export function countOwnMembers(value: unknown, checkStrings: boolean): number {
  if (typeof value === 'string') return checkStrings && !value.isWellFormed() ? -1 : 0
  if (typeof value !== 'object' || value === null) return 0
  let members = 0
  if (Array.isArray(value)) {
    for (const item of value) {
      const inner = countOwnMembers(item, checkStrings)
      if (inner < 0) return -1
      members += inner
    }
    return members
  }
  const object = value as Readonly<Record<string, unknown>>
  for (const key in object) {
    const item = object[key]
    if (isForbiddenMember(key, item) || (checkStrings && !key.isWellFormed())) return -1
    const inner = countOwnMembers(item, checkStrings)
    if (inner < 0) return -1
    members += 1 + inner
  }
  return members
}

/** Keys that would reach a prototype if the value were ever merged into another. */
export function isForbiddenMember(key: string, value: unknown): boolean {
  if (key === '__proto__') return true
  return key === 'constructor' && typeof value === 'object' && value !== null && Object.hasOwn(value, 'prototype')
}
