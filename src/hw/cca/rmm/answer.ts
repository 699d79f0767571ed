import type { Status } from '../../contract.ts'
import { ERROR_INPUT, ERROR_REC, errorRealm, errorRtt, type RsiName, rsiStatus, SUCCESS } from '../status.ts'
import { addressOf } from './geometry.ts'

export type Outputs = Readonly<Record<string, unknown>>

/** What an RMI or RSI call answers: x0, and the other registers under the reference's names. */
export type Answer = { readonly status: Status; readonly outputs?: Outputs }

/** The value a check came to, or the answer of the command that made it. */
export type Checked<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly answer: Answer }

export const pass = <T>(value: T): Checked<T> => ({ ok: true, value })
export const fail = <T>(answer: Answer): Checked<T> => ({ ok: false, answer })

export const DONE: Answer = { status: SUCCESS }
export const done = (outputs: Outputs): Answer => ({ status: SUCCESS, outputs })
export const INPUT: Answer = { status: ERROR_INPUT }
export const REC: Answer = { status: ERROR_REC }
/** ERROR_REALM; `index` is 1 only where REC_ENTER meets SYSTEM_OFF (arm-cca.md 1). */
export const realmError = (index: 0 | 1 = 0): Answer => ({ status: errorRealm(index), outputs: { index } })
/** ERROR_RTT of the level where the walk stopped. */
export const rttError = (level: number, outputs?: Outputs): Answer => ({
  status: errorRtt(level),
  outputs: { index: level, ...outputs },
})

/** `top` of the commands that give it on failure too, from a page; 0 where nothing was walked (arm-cca.md 5). */
export const top = (page: number): Outputs => ({ top: addressOf(page) })
export const INPUT_WITHOUT_TOP: Answer = { status: ERROR_INPUT, outputs: top(0) }

export const rsi = (name: RsiName, outputs?: Outputs): Answer =>
  outputs === undefined ? { status: rsiStatus(name) } : { status: rsiStatus(name), outputs }
