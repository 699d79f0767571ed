import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import * as pageMap from '../../../src/hw/shared/page-map.ts'
import * as translation from '../../../src/hw/shared/translation.ts'

const anyIndex = fc.oneof(
  fc.maxSafeNat().map((n) => n % 2 ** 40),
  fc.constantFrom(0, 2 ** 31, 2 ** 32, 2 ** 40 - 1),
)
const anyFrame = fc.oneof(fc.nat(2 ** 31 - 1), fc.constantFrom(0, 1, 2 ** 31 - 1))

describe('translation', () => {
  it('gives back the target, for every index and frame', () => {
    fc.assert(
      fc.property(anyIndex, anyFrame, (index, frame) => {
        const value = translation.encode(index, frame)
        assert.ok(Number.isInteger(value) && value > 0 && value < 2 ** 32)
        assert.ok(translation.isPresent(value))
        assert.equal(translation.target(index, value), frame)
        const distance = ((((frame - index) % 2 ** 31) + 2 ** 31) % 2 ** 31) + 2 ** 31
        assert.equal(value, distance)
      }),
    )
  })

  it('is one value for a contiguous mapping', () => {
    fc.assert(
      fc.property(anyIndex, fc.nat(2 ** 31 - 2), (index, frame) => {
        assert.equal(translation.encode(index + 1, frame + 1), translation.encode(index, frame))
      }),
    )
    const map = pageMap.create()
    const index = 2 ** 33
    const frame = 12345
    for (let page = 0; page < 262144; page++)
      pageMap.set(map, index + page, translation.encode(index + page, frame + page))
    assert.equal(pageMap.nextRun(map, index, 2 ** 34), index + 262144)
    const last = index + 262143
    assert.equal(translation.target(last, pageMap.get(map, last)), frame + 262143)
  })

  it('tells an absent translation from one to the same frame', () => {
    assert.ok(!translation.isPresent(translation.ABSENT))
    assert.equal(translation.encode(7, 7), 0x80000000)
  })
})
