import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { measurer } from '../../../../src/hw/cca/measurement/measure.ts'
import { rehash } from './rehash.ts'
import { NO_VECTORS, originals, type RimVector, rimVectors } from './vectors.ts'

type Answer = ReturnType<typeof JSON.parse>

function measured({ ops }: RimVector): Answer {
  assert.deepEqual([...Value.Errors(measurer.schema, { ops })], [], 'the schema takes the vector as it is')
  const answer = measurer.measure({ ops })
  assert.ok(answer.ok, answer.ok ? '' : answer.refusal.detail)
  return answer.value
}

for (const vector of rimVectors)
  test(`arm-cca.md 8: vector ${vector.name}`, () => {
    const answer = measured(vector)
    for (const [name, value] of Object.entries(vector.expect)) assert.deepEqual(answer[name], value, name)
    assert.deepEqual(rehash(answer.steps), { rim: vector.expect.rim, rem: answer.rem })
  })

test('arm-cca.md 8: vectors that are the same, or differ, do so as measured', () => {
  const rimOf = new Map(rimVectors.map((vector) => [vector.name, measured(vector)]))
  const both = ({ rim, rem }: Answer) => ({ rim, rem })
  let pairs = 0
  for (const { name, same_as, differs_from } of rimVectors) {
    if (same_as !== undefined) assert.equal(rimOf.get(name).rim, rimOf.get(same_as).rim, name)
    if (differs_from !== undefined) assert.notDeepEqual(both(rimOf.get(name)), both(rimOf.get(differs_from)), name)
    pairs += Number(same_as !== undefined) + Number(differs_from !== undefined)
  }
  assert.equal(pairs, 15)
  assert.equal(rimVectors.length, 45)
})

test('arm-cca.md 9: the public measurements with the pages they are of', {
  skip: originals ? false : NO_VECTORS,
}, () => {
  for (const vector of originals ?? [])
    if (JSON.stringify(vector.ops).includes('zlib_base64')) assert.equal(measured(vector).rim, vector.expect.rim)
})
