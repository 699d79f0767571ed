import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { Compile } from 'typebox/compile'
import {
  AddressInput,
  AddressOutput,
  formatAddress,
  formatBytes,
  parseAddress,
  parseFrame,
} from '../../../src/routes/schemas/address.ts'

const input = Compile(AddressInput)
const output = Compile(AddressOutput)

const taken: readonly (readonly [string | number, bigint])[] = [
  [0, 0n],
  [4096, 4096n],
  [2 ** 53 - 1, 2n ** 53n - 1n],
  ['0x0', 0n],
  ['0x00001000', 4096n],
  ['0xABCdef', 0xabcdefn],
  ['0x1fffffffffffff', 2n ** 53n - 1n],
  ['0x20000000000000', 2n ** 53n],
  ['0x20000000000001', 2n ** 53n + 1n],
  ['0x8000000000000000', 2n ** 63n],
  ['0xfffffffffffff000', 2n ** 64n - 4096n],
  ['0xffffffffffffffff', 2n ** 64n - 1n],
]

for (const [value, bytes] of taken) {
  test(`${value} is taken exactly`, () => {
    assert.ok(input.Check(value))
    assert.equal(parseAddress(value), bytes)
  })
}

const malformed: readonly unknown[] = [
  -1,
  -4096,
  1.5,
  2 ** 53,
  Number.POSITIVE_INFINITY,
  Number.NaN,
  '',
  '0x',
  '0X10',
  '10',
  '4096',
  ' 0x1',
  '0x1 ',
  '0x1\n',
  '0x1_0',
  '0xg',
  '-0x1',
  '+0x1',
  '0x１',
  '１',
  '0x10000000000000000',
  '0x00000000000000001',
  '2MiB',
  null,
  true,
  [],
  {},
  ['0x1'],
]

for (const value of malformed) {
  test(`${JSON.stringify(value)} (${typeof value}) is malformed`, () => assert.equal(input.Check(value), false))
}

test('a frame number is exact up to the end of the address space', () => {
  assert.deepEqual(parseFrame('0xfffffffffffff000', '/gpa'), { ok: true, value: 2 ** 52 - 1 })
  assert.deepEqual(parseFrame('0x20000000001000', '/gpa'), { ok: true, value: 2 ** 41 + 1 })
  assert.deepEqual(parseFrame(2 ** 53 - 4096, '/gpa'), { ok: true, value: 2 ** 41 - 1 })
})

for (const value of [1, 4095, 4097, 2 ** 53 - 1, '0x1', '0xfff', '0x20000000000001', '0xffffffffffffffff']) {
  test(`${value} is inside a page`, () => {
    const result = parseFrame(value, '/entries/3/gpa')
    assert.ok(!result.ok)
    assert.deepEqual(
      [result.refusal.kind, result.refusal.code, result.refusal.pointer],
      ['invalid', 'misaligned-address', '/entries/3/gpa'],
    )
    assert.ok(result.refusal.detail.startsWith(formatBytes(BigInt(value))))
  })
}

test('every frame comes back from its address, and its text is what the output schema says', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 52n - 1n), (frame) => {
      const address = formatAddress(Number(frame))
      assert.ok(output.Check(address))
      assert.equal(address, formatBytes(frame * 4096n))
      assert.deepEqual(parseFrame(address, ''), { ok: true, value: Number(frame) })
    }),
  )
  assert.equal(formatAddress(0), '0x0')
})

test('any 64-bit address gives the frame that exact arithmetic gives', () => {
  fc.assert(
    fc.property(fc.bigInt(0n, 2n ** 64n - 1n), fc.boolean(), (address, aligned) => {
      const bytes = aligned ? address & ~0xfffn : address
      const result = parseFrame(`0x${bytes.toString(16)}`, '')
      assert.equal(result.ok ? BigInt(result.value) : undefined, bytes % 4096n === 0n ? bytes / 4096n : undefined)
    }),
  )
})
