import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { extendRtmr, RTMR_BYTES, replayRtmr } from '../../../../src/hw/tdx/measurement/rtmr.ts'

const data = (n: number): Buffer => Buffer.alloc(RTMR_BYTES, n)
const hash = (...parts: Uint8Array[]): string => createHash('sha384').update(Buffer.concat(parts)).digest('hex')

test('intel-tdx.md e.2: an extension is SHA-384 of the register and the data', () => {
  assert.equal(extendRtmr(data(1), data(2)).toString('hex'), hash(data(1), data(2)))
})

test('intel-tdx.md e.2: a replay gives the register after each digest, from zero or from a value', () => {
  const first = Buffer.from(hash(data(0), data(7)), 'hex')
  assert.deepEqual(
    replayRtmr([data(7), data(8)]).map((value) => value.toString('hex')),
    [first.toString('hex'), hash(first, data(8))],
  )
  assert.equal(replayRtmr([data(8)], first)[0]?.toString('hex'), hash(first, data(8)))
  assert.deepEqual(replayRtmr([]), [])
})
