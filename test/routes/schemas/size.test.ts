import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Compile } from 'typebox/compile'
import { parsePages, parseSize, SizeInput } from '../../../src/routes/schemas/size.ts'

const input = Compile(SizeInput)

const taken: readonly (readonly [string | number, bigint])[] = [
  [0, 0n],
  [1, 1n],
  [2 ** 31 + 1, 2n ** 31n + 1n],
  [2 ** 53 - 1, 2n ** 53n - 1n],
  ['0x200000', 2n ** 21n],
  ['0x20000000000001', 2n ** 53n + 1n],
  ['0B', 0n],
  ['1B', 1n],
  ['4KiB', 4096n],
  ['2MiB', 2n ** 21n],
  ['1GiB', 2n ** 30n],
  ['16TiB', 2n ** 44n],
  ['9223372036854775807B', 2n ** 63n - 1n],
  ['0x7fffffffffffffff', 2n ** 63n - 1n],
]

for (const [value, bytes] of taken) {
  test(`${value} is taken exactly`, () => {
    assert.ok(input.Check(value))
    assert.deepEqual(parseSize(value, '/size'), { ok: true, value: bytes })
  })
}

for (const value of [
  -1,
  1.5,
  2 ** 53,
  '',
  '4096',
  '2 MiB',
  '2mib',
  '2MB',
  '2M',
  '2K',
  '1.5GiB',
  '-1KiB',
  '+1KiB',
  '01KiB',
  '1e3B',
  '0X10',
  '0x',
  '1_0B',
  '１B',
  ' 1B',
  '1B ',
  '1PiB',
  'MiB',
  null,
  false,
  {},
]) {
  test(`${JSON.stringify(value)} is malformed`, () => assert.equal(input.Check(value), false))
}

test('what no 64-bit field holds is malformed; what is negative as loff_t is the kernel’s to refuse', () => {
  const of = (value: string) => {
    const result = parseSize(value, '/length')
    assert.ok(!result.ok)
    return [result.refusal.kind, result.refusal.code, result.refusal.errno, result.refusal.pointer]
  }
  assert.deepEqual(of('16777216TiB'), ['invalid', 'size-out-of-range', undefined, '/length'])
  assert.deepEqual(of('9999999999999999999TiB'), ['invalid', 'size-out-of-range', undefined, '/length'])
  const negative = ['kernel', 'size-beyond-signed-64-bit', 'EINVAL', '/length']
  assert.deepEqual(of('0x8000000000000000'), negative)
  assert.deepEqual(of('0xffffffffffffffff'), negative)
  assert.deepEqual(of('8388608TiB'), negative)
})

test('pages are exact, and a part of one is EINVAL', () => {
  assert.deepEqual(parsePages('0x7ffffffffffff000', '/size'), { ok: true, value: 2 ** 51 - 1 })
  assert.deepEqual(parsePages('2MiB', '/size'), { ok: true, value: 512 })
  assert.deepEqual(parsePages(0, '/size'), { ok: true, value: 0 })
  for (const value of [1, 4095, 4097, '0x1001', '1B', 2 ** 53 - 1]) {
    const result = parsePages(value, '/size')
    assert.equal(result.ok ? undefined : result.refusal.errno, 'EINVAL', String(value))
  }
})
