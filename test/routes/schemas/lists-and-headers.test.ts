import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import Type from 'typebox'
import { Compile } from 'typebox/compile'
import { GuardedMutationHeaders, ifMatchHolds } from '../../../src/routes/schemas/headers.ts'
import { formatCursor, listOf, PageQuery, pageOf, parsePage } from '../../../src/routes/schemas/pagination.ts'
import { DecimalText, parseDecimal } from '../../../src/routes/schemas/query.ts'

const query = Compile(PageQuery)
const headers = Compile(GuardedMutationHeaders)
const decimal = Compile(DecimalText)

test('a page has a hundred items unless the client says', () => {
  assert.deepEqual(parsePage({}), { ok: true, value: { limit: 100, after: undefined } })
  assert.deepEqual(parsePage({ limit: '1000' }), { ok: true, value: { limit: 1000, after: undefined } })
  for (const limit of ['1001', '9999']) assert.equal(parsePage({ limit }).ok, false)
  for (const limit of ['0', '-1', '1e3', ' 1', '01', '+1', '1.0', '', '10000', '１']) {
    assert.equal(query.Check({ limit }), false, limit)
  }
})

test('walking the pages gives every item once', () => {
  fc.assert(
    fc.property(fc.uniqueArray(fc.string({ minLength: 1 })), fc.integer({ min: 1, max: 5 }), (keys, limit) => {
      const sorted = [...keys].sort()
      const walked: string[] = []
      let cursor: string | null = null
      do {
        const page = parsePage(cursor === null ? {} : { cursor })
        assert.ok(page.ok)
        const start = page.value.after === undefined ? 0 : sorted.indexOf(page.value.after) + 1
        const { items, nextCursor } = pageOf(sorted.slice(start, start + limit + 1), limit, (key) => key)
        walked.push(...items)
        cursor = nextCursor
      } while (cursor !== null)
      assert.deepEqual(walked, sorted)
    }),
  )
})

test('a cursor that was not given is refused', () => {
  assert.ok(parsePage({ cursor: formatCursor('vm-7') }).ok)
  for (const cursor of ['_w', 'A', 'dm0tNx']) {
    const page = parsePage({ cursor })
    assert.equal(page.ok ? undefined : page.refusal.code, 'invalid-cursor', cursor)
  }
  assert.equal(query.Check({ cursor: 'a b' }), false)
  assert.equal(query.Check({ cursor: 'x'.repeat(513) }), false)
})

test('a list is an envelope', () => {
  const list = Compile(listOf(Type.String(), 'Names.'))
  assert.ok(list.Check({ items: ['a'], nextCursor: null }))
  assert.equal(list.Check({ items: ['a'] }), false)
})

test('decimal text is an integer or nothing', () => {
  for (const text of ['0', '7', '9007199254740991']) {
    assert.ok(decimal.Check(text) && parseDecimal(text, '/n').ok)
  }
  assert.ok(decimal.Check('9007199254740992'))
  assert.equal(parseDecimal('9007199254740992', '/n').ok, false)
  assert.equal(parseDecimal('4', '/n', { minimum: 5 }).ok, false)
  for (const text of ['', '-0', '-1', '00', '1e3', '0x10', '1.0', ' 1', '1 ', '１', '18446744073709551616']) {
    assert.equal(decimal.Check(text), false, text)
  }
})

test('If-Match', () => {
  assert.ok(ifMatchHolds(undefined, 7))
  assert.ok(ifMatchHolds('*', 7))
  assert.ok(ifMatchHolds('"7"', 7))
  assert.ok(ifMatchHolds('"5", "7"', 7))
  assert.equal(ifMatchHolds('"5"', 7), false)
  for (const tag of ['"7"', '*', '"a","b"']) assert.ok(headers.Check({ 'if-match': tag }), tag)
  for (const tag of ['7', 'W/"7"', '"7', '']) assert.equal(headers.Check({ 'if-match': tag }), false, tag)
})

test('Idempotency-Key', () => {
  for (const key of ['x', 'x'.repeat(128)]) assert.ok(headers.Check({ 'idempotency-key': key, accept: '*/*' }))
  for (const key of ['', 'x y', 'é', 'x'.repeat(129)])
    assert.equal(headers.Check({ 'idempotency-key': key }), false, key)
})
