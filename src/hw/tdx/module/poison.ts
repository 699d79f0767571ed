import type { TdxData } from '../data.ts'
import { statusOf } from '../status.ts'
import type { Answer } from './answer.ts'
import { entryAt, PAGE_TYPE, typeOf } from './pamt.ts'
import type { Td } from './td.ts'
import { leave } from './tracking.ts'
import type { Vcpu } from './vcpu.ts'

/**
 * A write to a TD's page with a shared key (intel-tdx.md d.6): nothing happens, but the TD's next read is a machine check.
 * Says whether the page is a TD's. Precondition: the frame is below the machine's end.
 */
export function poison(data: TdxData, frame: number): boolean {
  if (typeOf(entryAt(data.pamt, frame)) !== PAGE_TYPE.REG) return false
  data.poisoned.add(frame)
  return true
}

export const isPoisoned = (data: TdxData, frame: number): boolean => data.poisoned.size > 0 && data.poisoned.has(frame)

/** The TD reads a poisoned page: this is what VP.ENTER answers, once; the TD is fatal from then on (d.6). */
export function machineCheck(td: Td, vcpu: Vcpu): Answer {
  td.fatal = true
  leave(td, vcpu)
  return MACHINE_CHECK
}
const MACHINE_CHECK: Answer = {
  status: statusOf('TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE'),
  outputs: { r9: '0x80000312', exit: { exitReason: 0, name: 'EXCEPTION_OR_NMI', interruption: '#MC' } },
}
