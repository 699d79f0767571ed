import assert from 'node:assert/strict'
import { test } from 'node:test'
import { REFUSAL_CODES } from '../../src/routes/refusal-codes.ts'
import { sourceFiles, withoutComments } from '../support/source-files.ts'

const KINDS: Readonly<Record<string, string>> = {
  invalid: 'invalid',
  conflict: 'conflict',
  einval: 'kernel',
  kernelRefusal: 'kernel',
}

/** Every refusal that the domain and the routes spell out: its code and its kind. */
function spelled(): Map<string, Set<string>> {
  const found = new Map<string, Set<string>>()
  const add = (code: string, kind: string) => found.set(code, (found.get(code) ?? new Set()).add(kind))
  for (const { file, text } of sourceFiles()) {
    if (!/^src\/(?:domain|routes)\//.test(file)) continue
    const code = withoutComments(text)
    for (const [, call = '', name = ''] of code.matchAll(
      /\b(invalid|conflict|einval|kernelRefusal)\(\s*(?:'E[A-Z0-9]+',\s*)?'([a-z0-9-]+)'/g,
    )) {
      add(name, KINDS[call] ?? '')
    }
    for (const [, what = ''] of code.matchAll(/\bnotFound\('([a-z]+)'/g)) add(`no-such-${what}`, 'not-found')
    for (const [, kind = '', name = ''] of code.matchAll(/\bkind: '([a-z-]+)',\s*code: '([a-z0-9-]+)'/g))
      add(name, kind)
  }
  return found
}

test('every refusal that is spelled out is in the table, under its kind, and nothing else is', () => {
  const codes = spelled()
  const missing = [...codes].flatMap(([code, kinds]) =>
    [...kinds]
      .filter((kind) => !REFUSAL_CODES[code]?.kinds.some((known) => known === kind))
      .map((kind) => `${code}: ${kind}`),
  )
  assert.deepEqual(missing, [])
  // The codes of a refusal that is chosen by its errno.
  const computed = ['out-of-memory', 'hardware-refused']
  assert.deepEqual(
    Object.keys(REFUSAL_CODES).filter((code) => !codes.has(code) && !computed.includes(code)),
    [],
  )
})
