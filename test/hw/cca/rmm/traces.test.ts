import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { type Args, callNamed, createEmptyBench } from './rmm-bench.ts'

type Step = { readonly call: string; readonly args: Args; readonly result: Args }
type Trace = { readonly name: string; readonly steps: readonly Step[] }

const { traces } = JSON.parse(
  readFileSync(new URL('../../../vectors/cca-rmm-traces.json', import.meta.url), 'utf8'),
) as { readonly traces: readonly Trace[] }

/** TF-RMM's own answers, as they would be given over HTTP: each field of a step's result, whatever else there is. */
for (const { name, steps } of traces)
  test(`${name}: ${steps.length} calls answer as TF-RMM does`, () => {
    const bench = createEmptyBench()
    for (const [index, { call, args, result }] of steps.entries()) {
      const what = `step ${index}: ${call} ${JSON.stringify(args)}`
      assert.ok(Value.Check(callNamed(call).schema, args), what)
      const answer = bench.run(call, args)
      assert.equal(answer.kind, 'done', what)
      if (answer.kind !== 'done') return
      const { status, ...fields } = result
      if (status !== undefined) assert.equal(answer.status.name, status, what)
      for (const [field, value] of Object.entries(fields))
        assert.deepEqual(answer.outputs?.[field], value, `${what}: ${field}`)
    }
  })

test('there are traces, with every kind of call in them', () => {
  assert.equal(traces.length, 9)
  const kinds = new Set(traces.flatMap(({ steps }) => steps.map(({ call }) => call)))
  assert.equal(kinds.size, 25)
})
