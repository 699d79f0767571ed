import assert from 'node:assert/strict'
import { test } from 'node:test'
import * as der from '../../../src/hw/shared/der.ts'

test('X.690 8.3: integers are minimal and not negative', () => {
  const text = (bytes: Buffer): string => bytes.toString('hex')
  for (const [value, expected] of [
    [0, '020100'],
    [127, '02017f'],
    [128, '02020080'],
    [256, '02020100'],
    [0x80000000, '02050080000000'],
  ] as const)
    assert.equal(text(der.integer(value)), expected)
  for (const [bytes, expected] of [
    ['', '020100'],
    ['0000', '020100'],
    ['007f', '02017f'],
    ['0080', '02020080'],
    ['ff00', '020300ff00'],
  ] as const)
    assert.equal(text(der.unsigned(Buffer.from(bytes, 'hex'))), expected)
})
