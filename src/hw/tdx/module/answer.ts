import type { Status } from '../../contract.ts'
import { type OperandName, operandStatus, type StatusName, SUCCESS, statusOf } from '../status.ts'
import { addressOf, hex } from './geometry.ts'
import type { Entry } from './sept.ts'
import { isLeafState, STATE, stateName } from './states.ts'

export type Outputs = Readonly<Record<string, unknown>>

/** What a SEAMCALL or TDCALL answers: RAX, and the registers it sets with their decoded forms. */
export type Answer = { readonly status: Status; readonly outputs?: Outputs }

/** The value a check came to, or the answer of the call that made it. */
export type Checked<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly answer: Answer }

export const DONE: Answer = { status: SUCCESS }
export const done = (outputs: Outputs): Answer => ({ status: SUCCESS, outputs })

export const refuse = (name: StatusName): Answer => ({ status: statusOf(name) })
export const refuseOperand = (name: StatusName, operand: OperandName, outputs?: Outputs): Answer => ({
  status: operandStatus(name, operand),
  outputs: { operand, ...outputs },
})

export const pass = <T>(value: T): Checked<T> => ({ ok: true, value })
export const fail = <T>(answer: Answer): Checked<T> => ({ ok: false, answer })

const SUPPRESS_VE = 1n << 63n
const MAPPED_BITS = 0xf7n
const NOT_PRESENT_BITS = 0xf0n

/** An entry as software is shown it (intel-tdx.md c.1): the page of a table is not. */
export function maskedEntry({ state, frame }: Entry): bigint {
  if (state === STATE.FREE) return SUPPRESS_VE
  if (state === STATE.NL_MAPPED) return 7n
  if (state === STATE.NL_BLOCKED) return 0n
  return SUPPRESS_VE | (BigInt(frame) << 12n) | (state === STATE.MAPPED ? MAPPED_BITS : NOT_PRESENT_BITS)
}

/** RCX and RDX of SEPT.RD and of refusals that show an entry: its value, its level and state. */
export const entryOutputs = (entry: Entry): Outputs => ({
  rcx: hex(maskedEntry(entry)),
  rdx: hex(entry.level | (entry.state << 8)),
  entry: {
    state: stateName(entry.state),
    level: entry.level,
    leaf: isLeafState(entry.state),
    ...(isLeafState(entry.state) ? { hpa: addressOf(entry.frame) } : {}),
  },
})
