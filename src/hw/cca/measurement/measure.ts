import type { HwRefusal, Measurer } from '../../contract.ts'
import { type LaunchInputs, measureLaunch } from './measure-launch.ts'
import { measureOps, type OpsInputs } from './measure-ops.ts'
import { CcaInputs } from './measure-schema.ts'

/** What an RMM would measure: the RIM and REMs of operations given one by one, or of a VMM's launch (arm-cca.md 8, 9). */
export const measurer: Measurer = {
  technology: 'cca',
  schema: CcaInputs,
  measure(inputs) {
    const given = inputs as OpsInputs | LaunchInputs
    const measured = 'ops' in given ? measureOps(given) : measureLaunch(given)
    return measured.ok ? measured : { ok: false, refusal: inInputs(measured.refusal) }
  },
}

const inInputs = (refusal: HwRefusal): HwRefusal => ({ ...refusal, pointer: `/inputs${refusal.pointer ?? ''}` })
