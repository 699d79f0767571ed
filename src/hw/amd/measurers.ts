import type { TSchema } from 'typebox'
import type { Measurer } from '../contract.ts'
import { type MeasureInputs, type Measurement, measureSev, measureSevEs, measureSevSnp } from './measure.ts'
import { SevEsInputs, SevInputs, SevSnpInputs } from './measure-schema.ts'

/** A measurement as `POST /v1/measurements` has it; the schema has seen the inputs, and files are bytes. */
const measurer = (technology: string, schema: TSchema, measure: (inputs: MeasureInputs) => Measurement): Measurer => ({
  technology,
  schema,
  measure(inputs) {
    const measured = measure(inputs as MeasureInputs)
    if (!measured.ok) {
      const { code, detail, pointer } = measured.fault
      return { ok: false, refusal: { errno: 'EINVAL', code, detail, pointer: `/inputs${pointer}` } }
    }
    const { ok: _, ...value } = measured
    return { ok: true, value }
  },
})

/** What AMD's firmware would report for each of its technologies (amd-sev-snp.md a.3, d). */
export const measurers: readonly Measurer[] = [
  measurer('sev', SevInputs, measureSev),
  measurer('sev-es', SevEsInputs, measureSevEs),
  measurer('sev-snp', SevSnpInputs, measureSevSnp),
]
