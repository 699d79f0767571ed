import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { type MeasureInputs, measureSev, measureSevEs, measureSevSnp } from '../../../src/hw/amd/measure.ts'
import { SevEsInputs, SevInputs, SevSnpInputs } from '../../../src/hw/amd/measure-schema.ts'
import { rehash, rehashSev, type SevStep, type SnpStep } from '../../../src/hw/amd/transcript.ts'
import { fixture, type LaunchVector, launchVectors, NO_VECTORS } from '../../support/snp-vectors.ts'

const BACKENDS = {
  snp: { measure: measureSevSnp, schema: SevSnpInputs },
  seves: { measure: measureSevEs, schema: SevEsInputs },
  sev: { measure: measureSev, schema: SevInputs },
}
const backendOf = (mode: unknown) =>
  mode === 'seves' ? BACKENDS.seves : mode === 'sev' || mode === 'launch-measure' ? BACKENDS.sev : BACKENDS.snp

/** The vector's inputs as a client sends them: modes for all kinds, files as base64. */
function clientInputs({ kind, inputs }: LaunchVector): Record<string, unknown> {
  switch (kind) {
    case 'page-chain': {
      const pages = (inputs.pages as Record<string, unknown>[]).map((run) =>
        run.contents === undefined ? run : { ...run, contents: { base64: lgtm().toString('base64') } },
      )
      return { mode: 'pages', ...inputs, pages }
    }
    case 'kernel-hash-table': {
      const { kernelBase64, initrdBase64, cmdline } = inputs
      return { mode: kind, kernel: { base64: kernelBase64 }, initrd: { base64: initrdBase64 }, cmdline }
    }
    case 'sev-launch-measure':
      return { mode: 'launch-measure', ...inputs }
    case 'launch-digest': {
      const { fixture: name } = inputs.image as { fixture: string }
      return { ...inputs, image: { base64: fixture(name)?.toString('base64') } }
    }
    default:
      return { mode: kind, ...inputs }
  }
}

/** The one vector that describes its contents in words. */
function lgtm(): Buffer {
  const pages = Buffer.alloc(12288)
  pages.write('LGTMLGTMLGTMLGTM', 0)
  pages.write('LGTMLGTMLGTMLGTM', 12272)
  return pages
}

function withFilesRead(value: unknown): unknown {
  if (Array.isArray(value)) return value.map(withFilesRead)
  if (typeof value !== 'object' || value === null) return value
  if ('base64' in value && typeof value.base64 === 'string') return Buffer.from(value.base64, 'base64')
  return Object.fromEntries(Object.entries(value).map(([name, inner]) => [name, withFilesRead(inner)]))
}

const FULL_STEP = ['pageType', 'gpa', 'pages', 'digestAfter'] as const

for (const vector of launchVectors.vectors.filter(({ kind }) => kind !== 'id-auth-layout')) {
  const image = vector.inputs.image as { fixture: string } | undefined
  const absent = image !== undefined && fixture(image.fixture) === undefined
  test(`amd-sev-snp.md d: vector ${vector.name}`, { skip: absent && NO_VECTORS }, () => {
    const inputs = clientInputs(vector)
    const { measure, schema } = backendOf(inputs.mode)
    assert.deepEqual([...Value.Errors(schema, inputs)], [], 'the schema takes the vector as it is')
    const resolved = withFilesRead(inputs) as MeasureInputs
    const answer = measure(resolved)
    const { error, steps, afterEachPage: _, ...expected } = vector.expected
    if (error !== undefined) {
      assert.equal(answer.ok, false)
      if (!answer.ok)
        assert.deepEqual([answer.fault.code, answer.fault.pointer], ['kernel-hashes-unsupported', '/kernel'])
      return
    }
    assert.ok(answer.ok, answer.ok ? '' : `${answer.fault.code}: ${answer.fault.detail}`)
    const given = answer as unknown as Record<string, unknown>
    for (const [name, value] of Object.entries(expected)) assert.deepEqual(given[name], value, name)
    if (steps !== undefined) {
      const names = vector.kind === 'page-chain' ? (['digestAfter', 'lastPageInfoHex'] as const) : FULL_STEP
      const shown = (given.steps as Record<string, unknown>[]).map((step) =>
        Object.fromEntries(names.map((name) => [name, step[name]])),
      )
      assert.deepEqual(shown, steps)
    }
    if ('startDigest' in answer)
      assert.deepEqual(rehash({ startDigest: answer.startDigest as string, steps: answer.steps as SnpStep[] }), {
        ok: true,
        digest: answer.launchDigest,
      })
    else if ('launchDigest' in answer && 'image' in resolved)
      assert.equal(rehashSev(resolved.image, answer.steps as SevStep[]), answer.launchDigest)
  })
}
