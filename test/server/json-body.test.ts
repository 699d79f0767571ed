import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { ServiceError } from '../../src/routes/errors.ts'
import { JSON_DEPTH, JSON_KEYS } from '../../src/routes/limits.ts'
import { parseJsonBody } from '../../src/server/json-body.ts'
import { inspectJson } from '../../src/server/json-inspect.ts'
import { countMembers, countOwnMembers } from '../../src/server/json-scan.ts'

function faultOf(body: string | Buffer): ServiceError {
  try {
    parseJsonBody(Buffer.from(body))
  } catch (error) {
    if (error instanceof ServiceError) return error
    throw error
  }
  return assert.fail(`accepted ${body.toString().slice(0, 80)}`)
}

const nested = (depth: number, open = '[', close = ']') => open.repeat(depth) + close.repeat(depth)

const taken: readonly string[] = [
  '{}',
  '[]',
  'null',
  '"\\ud83d\\ude00"',
  '{"a":{"b":1},"c":{"b":1}}',
  '{"a\\\\":1,"a":2}',
  '[{"k":1},{"k":2}]',
  '9007199254740991',
  '-9007199254740991',
  '9007199254740991.0',
  '900719925474099.1e1',
  '1e3',
  '1.5',
  '0',
  '0e5',
  '{"constructor":1}',
  '{"constructor":{"name":"x"}}',
  '{"prototype":1}',
  '{"a":"\ufffd"}',
  '{"a":"x:\\"y\\",{"}',
  nested(JSON_DEPTH),
]

for (const body of taken) {
  test(`takes ${body.slice(0, 60)}`, () => assert.deepEqual(parseJsonBody(Buffer.from(body)), JSON.parse(body)))
}

const refused: readonly (readonly [body: string | Buffer, code: string, pointer?: string])[] = [
  ['', 'malformed-json'],
  ['{', 'malformed-json'],
  ['{"a":1,}', 'malformed-json'],
  ['{"a":NaN}', 'malformed-json'],
  ['{"a":Infinity}', 'malformed-json'],
  ['{"a":1}//', 'malformed-json'],
  ['/**/{}', 'malformed-json'],
  ["{'a':1}", 'malformed-json'],
  ['{"a":01}', 'malformed-json'],
  ['{"a":+1}', 'malformed-json'],
  ['{"a":0x10}', 'malformed-json'],
  ['{"a":1_0}', 'malformed-json'],
  ['{"a":１}', 'malformed-json'],
  ['\ufeff{}', 'malformed-json'],
  ['{}{}', 'malformed-json'],
  ['{"a":"\n"}', 'malformed-json'],
  [Buffer.from([0x22, 0xff, 0x22]), 'malformed-json'],
  [Buffer.from([0x22, 0xc0, 0xaf, 0x22]), 'malformed-json'],
  [Buffer.from([0x22, 0xed, 0xa0, 0x80, 0x22]), 'malformed-json'],
  [Buffer.from('{}', 'utf16le'), 'malformed-json'],
  ['{"a":"\\ud800"}', 'malformed-json', '/a'],
  ['{"a":["x","\\udc00\\ud800"]}', 'malformed-json', '/a/1'],
  ['{"\\ud800":1}', 'malformed-json', '/\ufffd'],
  ['{"a":1,"a":2}', 'duplicate-key', '/a'],
  ['{"a":1,"\\u0061":2}', 'duplicate-key', '/a'],
  ['[0,{"x":{"p/q":{},"p/q":{}}}]', 'duplicate-key', '/1/x/p~1q'],
  ['{"a":{"b":1},"a":{}}', 'duplicate-key', '/a'],
  ['{"__proto__":{"x":1}}', 'forbidden-key', '/__proto__'],
  ['{"\\u005f_proto__":null}', 'forbidden-key', '/__proto__'],
  ['{"a":{"constructor":{"prototype":{}}}}', 'forbidden-key', '/a/constructor'],
  ['{"a":9007199254740992}', 'inexact-number', '/a'],
  ['[1,-9007199254740993]', 'inexact-number', '/1'],
  ['9007199254740992.0', 'inexact-number', ''],
  ['9.007199254740993e15', 'inexact-number', ''],
  ['1e16', 'inexact-number', ''],
  ['1e400', 'inexact-number', ''],
  ['-1e400', 'inexact-number', ''],
  ['1e999999999999', 'inexact-number', ''],
  ['18446744073709551615', 'inexact-number', ''],
  ['-0', 'inexact-number', ''],
  ['-0.0', 'inexact-number', ''],
  ['-0e7', 'inexact-number', ''],
  ['1e-400', 'inexact-number', ''],
  ['4096.00000000000000000001', 'inexact-number', ''],
  [nested(JSON_DEPTH + 1), 'json-too-complex', ''],
  [nested(JSON_DEPTH + 1, '{"a":', '').replace(/$/, `1${'}'.repeat(JSON_DEPTH + 1)}`), 'json-too-complex', ''],
  [nested(500_000), 'json-too-complex', ''],
]

for (const [body, code, pointer] of refused) {
  test(`refuses ${JSON.stringify(body.toString().slice(0, 60))} as ${code}`, () => {
    const fault = faultOf(body)
    assert.equal(fault.code, code)
    if (pointer !== undefined) assert.equal(fault.options.errors?.[0]?.pointer, pointer)
  })
}

test('the number of members is bounded', () => {
  const body = (keys: number) => `{${Array.from({ length: keys }, (_, key) => `"${key}":0`).join(',')}}`
  assert.equal(Object.keys(parseJsonBody(Buffer.from(body(JSON_KEYS))) as object).length, JSON_KEYS)
  assert.equal(faultOf(body(JSON_KEYS + 1)).code, 'json-too-complex')
  assert.equal(faultOf(body(100_000)).code, 'json-too-complex')
})

test('every fault is named', () => {
  const fault = faultOf('{"a":-0,"b":[1e99],"a":"\\ud800"}')
  assert.deepEqual(
    fault.options.errors?.map(({ pointer }) => pointer),
    ['/a', '/b/0', '/a', '/a'],
  )
})

test('a syntax error does not repeat the body', () => {
  assert.doesNotMatch(faultOf('{"secret":"hunter2" oops}').message, /hunter2|oops/)
})

test('a parsed body is what JSON.parse gives, and a scan that objects is explained', () => {
  const value = fc.letrec((tie) => ({
    tree: fc.oneof(
      { maxDepth: 5 },
      fc.string({ unit: 'binary' }),
      fc.double({ noDefaultInfinity: true, noNaN: true }),
      fc.integer(),
      fc.boolean(),
      fc.constant(null),
      fc.array(tie('tree'), { maxLength: 4 }),
      fc.dictionary(
        fc.oneof(fc.string(), fc.constantFrom('__proto__', 'constructor', 'prototype', '\ud800')),
        tie('tree'),
        {
          maxKeys: 4,
          noNullPrototype: true,
        },
      ),
    ),
  })).tree
  fc.assert(
    fc.property(value, fc.constantFrom(undefined, 1, 2), (tree, space) => {
      const text = JSON.stringify(tree, null, space)
      const spelled = countMembers(text)
      const quick = spelled >= 0 && spelled === countOwnMembers(JSON.parse(text), text.includes('\\u'))
      assert.equal(quick, inspectJson(text).length === 0, text)
      if (quick) assert.deepEqual(parseJsonBody(Buffer.from(text)), JSON.parse(text))
    }),
    { numRuns: 1000 },
  )
})

test('a small body costs less than 20 microseconds', () => {
  const body = Buffer.from(
    '{"vcpu":0,"entries":[{"gpa":"0x80000000","pages":512,"pageSize":"4K","operation":"private"}]}',
  )
  for (let warmUp = 0; warmUp < 20_000; warmUp++) parseJsonBody(body)
  const best = Math.min(
    ...Array.from({ length: 5 }, () => {
      const start = performance.now()
      for (let run = 0; run < 2_000; run++) parseJsonBody(body)
      return (performance.now() - start) / 2
    }),
  )
  assert.ok(best < 20, `${best} µs`)
})
