import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { measurer } from '../../../../src/hw/tdx/measurement/measure.ts'
import { addPage, create, digest, extend } from '../../../../src/hw/tdx/measurement/mrtd.ts'
import { type PageContent, pageOf } from '../../../../src/hw/tdx/measurement/page-content.ts'
import { type SparseInputs, sparseImage } from '../../../../src/hw/tdx/measurement/sparse-image.ts'
import { rehash } from './naive-mrtd.ts'
import { inputOf, mrtdVectors, NO_VECTORS } from './vectors.ts'

type Json = Record<string, unknown>

/** What resolving the files of a request does before a measurer sees it. */
function withFilesRead(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withFilesRead)
  if (typeof value !== 'object' || value === null) return value
  if ('base64' in value && typeof value.base64 === 'string') return Buffer.from(value.base64, 'base64')
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, withFilesRead(inner)]))
}

for (const vector of mrtdVectors) {
  const input = inputOf(vector)
  test(`intel-tdx.md e, f: vector ${vector.id}`, { skip: input === undefined && NO_VECTORS }, () => {
    assert.deepEqual([...Value.Errors(measurer.schema, input)], [], 'the schema takes the vector as it is')
    const resolved = withFilesRead(input) as Json
    const answer = measurer.measure(resolved)
    const { refused, ...expected } = vector.expect
    if (refused !== undefined) {
      assert.ok(!answer.ok)
      assert.ok(answer.refusal.detail.includes(String(refused)), answer.refusal.detail)
      return
    }
    assert.ok(answer.ok, answer.ok ? '' : answer.refusal.detail)
    for (const [name, value] of Object.entries(expected)) assert.deepEqual(answer.value[name], value, name)
    if (vector.kind === 'mrtd-image') {
      const sparse = sparseImage(resolved as SparseInputs)
      assert.ok(sparse.ok)
      const steps = answer.value.steps as Parameters<typeof rehash>[0]
      assert.equal(rehash(steps, { image: sparse.image }), expected.mrtd)
    }
    if (vector.kind === 'mrtd-ops') assert.equal(byPlainData(resolved, answer.value), expected.mrtd)
  })
}

/** The calls that a transcript says succeeded, once more over the state that a checkpoint keeps. */
function byPlainData(inputs: Json, answer: Json): string {
  const ops = inputs.ops as { op: string; gpa: string; content?: PageContent }[]
  const steps = answer.steps as { done: number }[]
  const pages = new Map<number, Uint8Array>()
  const mrtd = create()
  for (const [index, { op, gpa, content }] of ops.entries()) {
    for (let n = 0; n < (steps[index]?.done ?? 0); n++) {
      if (op === 'PAGE.ADD') {
        const gfn = Number(gpa) / 4096 + n
        pages.set(gfn, pageOf(content) ?? new Uint8Array(0))
        addPage(mrtd, gfn)
      } else if (op === 'MR.EXTEND') {
        const at = Number(gpa) + 256 * n
        const gfn = Math.floor(at / 4096)
        extend(mrtd, gfn, at % 4096, pages.get(gfn) ?? new Uint8Array(0))
      }
    }
  }
  return digest(mrtd).toString('hex')
}
