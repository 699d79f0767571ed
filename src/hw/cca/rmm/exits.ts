import type { Outputs } from './answer.ts'
import { addressOf, hex } from './geometry.ts'
import { EXIT_REASON, type LastExit, type Rec } from './rec.ts'
import { type Ripas, ripasName } from './states.ts'

/** A data or instruction abort that the host gets to see (arm-cca.md 6). */
export type SyncExit = {
  readonly reason: 'SYNC'
  /** The page it was at, by the guest's IPA. */
  readonly page: number
  readonly write: boolean
  readonly esr: number
  /** The low 12 bits of the address where the host may emulate the access, else 0. */
  readonly far: number
  /** An emulatable write's data, else 0. */
  readonly gpr0: bigint
  readonly emulatable: boolean
  readonly unprotectedAbort: boolean
}

/** What a REC exit tells the host: the exit half of RmiRecRun (arm-cca.md 1). */
export type RecExit =
  | SyncExit
  | { readonly reason: 'RIPAS_CHANGE'; readonly base: number; readonly top: number; readonly ripas: Ripas }
  | { readonly reason: 'HOST_CALL'; readonly imm: number; readonly gprs: readonly bigint[] }
  | { readonly reason: 'PSCI'; readonly gprs: readonly bigint[] }
  | { readonly reason: 'IRQ' }

export const IRQ: RecExit = { reason: 'IRQ' }

const EC_SHIFT = 26
export const faultStatus = (esr: number): number => esr & 0x3f
export const exceptionClass = (esr: number): number => esr >>> EC_SHIFT

/** Records an exit: the REC is no longer inside, and the host may answer what this exit allows. */
export function leave(rec: Rec, exit: RecExit): void {
  rec.running = false
  rec.lastExit = lastExitOf(exit)
}

const lastExitOf = (exit: RecExit): LastExit =>
  exit.reason === 'SYNC'
    ? { reason: 'SYNC', emulatable: exit.emulatable, unprotectedAbort: exit.unprotectedAbort }
    : { reason: exit.reason, emulatable: false, unprotectedAbort: false }

/** An exit's fields under the reference's names. */
export const exitOutputs = (exit: RecExit): Outputs => ({
  outcome: 'exit',
  exit_reason: exit.reason,
  exit_reason_code: EXIT_REASON[exit.reason],
  ...detailsOf(exit),
})

function detailsOf(exit: RecExit): Outputs {
  switch (exit.reason) {
    case 'SYNC':
      return {
        esr: hex(exit.esr),
        ec: hex(exceptionClass(exit.esr)),
        fsc: hex(faultStatus(exit.esr)),
        hpfar: hex(hpfarOf(exit)),
        far: hex(exit.far),
        emulatable: exit.emulatable,
        gprs: [hex(exit.gpr0)],
      }
    case 'RIPAS_CHANGE':
      return { ripas_base: addressOf(exit.base), ripas_top: addressOf(exit.top), ripas_value: ripasName(exit.ripas) }
    case 'HOST_CALL':
      return { imm: exit.imm, gprs: exit.gprs.map(hex) }
    case 'PSCI':
      return { gprs: exit.gprs.map(hex) }
    default:
      return {}
  }
}

/** HPFAR_EL2: bits of the IPA from 12 up, shifted right by 8. */
const HPFAR_SHIFT = 2 ** 4
export const hpfarOf = ({ page }: SyncExit): number => page * HPFAR_SHIFT
