import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Tagged } from 'cborg'
import fc from 'fast-check'
import { type Cbor, decodeCbor, encodeCbor, tagged, untagged } from '../../../../src/hw/cca/evidence/cbor.ts'

const hex = (value: Cbor): string => Buffer.from(encodeCbor(value)).toString('hex')
const read = (text: string): unknown => decodeCbor(Buffer.from(text, 'hex'))

test('arm-cca.md 8.1: the heads that tokens have', () => {
  assert.equal(hex(44234), '19acca')
  assert.equal(hex(44241), '19acd1')
  assert.equal(hex(tagged(399, new Map())), 'd9018fa0')
  assert.equal(hex(tagged(18, [])), 'd280')
  assert.equal(hex(new Map([[1, -35]])), 'a1013822')
  assert.equal(hex(['Signature1', new Uint8Array(0)]), '826a5369676e61747572653140')
  assert.equal(hex(new Uint8Array(300)).slice(0, 6), '59012c')
})

test('maps keep their order', () => {
  const map = new Map([
    [44235, 1],
    [10, 2],
    [-1, 3],
  ])
  assert.equal(hex(map), 'a319accb010a022003')
  assert.deepEqual([...(read('a319accb010a022003') as Map<number, number>)], [...map])
})

test('what is not one item in its shortest form is refused', () => {
  for (const [text, why] of [
    ['', 'nothing'],
    ['0a0a', 'two items'],
    ['180a', 'a number longer than needed'],
    ['19000a', 'a number longer than needed'],
    ['5f4101ff', 'an indefinite byte string'],
    ['9f01ff', 'an indefinite array'],
    ['bf0102ff', 'an indefinite map'],
    ['a201020103', 'a key given twice'],
    ['5a7fffffff00', 'a byte string cut off'],
    ['9a7fffffff00', 'an array cut off'],
    ['ba7fffffff00', 'a map cut off'],
    ['c100', 'another tag'],
    ['f7', 'undefined'],
    ['f97e00', 'not a number'],
    ['ff', 'a break'],
  ] as const)
    assert.equal(read(text), undefined, why)
})

test('bytes nested without end are refused', () => {
  assert.equal(decodeCbor(new Uint8Array(1 << 20).fill(0x81)), undefined)
  assert.equal(decodeCbor(new Uint8Array(1 << 20).fill(0xd2)), undefined)
})

test('a tag is of its number', () => {
  assert.deepEqual(untagged(18, read('d2820102')), [1, 2])
  assert.equal(untagged(399, read('d2820102')), undefined)
  assert.equal(untagged(18, [1, 2]), undefined)
})

const { item } = fc.letrec((tie) => ({
  item: fc.oneof(
    { maxDepth: 4 },
    fc.integer(),
    fc.string(),
    fc.uint8Array(),
    fc.array(tie('item'), { maxLength: 4 }),
    fc
      .uniqueArray(fc.tuple(fc.integer(), tie('item')), { maxLength: 4, selector: ([key]) => key })
      .map((list) => new Map(list)),
    tie('item').map((value) => new Tagged(399, value)),
  ),
}))

test('RFC 8949: what is written is read back', () => {
  fc.assert(fc.property(item, (value) => assert.deepEqual(decodeCbor(encodeCbor(value as Cbor)), value)))
})
