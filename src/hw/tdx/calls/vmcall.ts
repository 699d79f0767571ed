import { Type } from 'typebox'
import type { Call, CallResult, GuestContext, GuestRequest } from '../../contract.ts'
import type { Host } from '../data.ts'
import { type Answer, refuseOperand } from '../module/answer.ts'
import { vmcallExit } from '../module/guest-vp.ts'
import type { Td } from '../module/td.ts'
import type { Vcpu } from '../module/vcpu.ts'
import { addressValue, closed, defineGuestCall, optionalWord, result } from './call-definition.ts'

/** The registers a guest hands to its VMM (intel-tdx.md d.4). `r11` is the sub-function where `r10` is 0. */
export type VmcallRegisters = {
  readonly r10: bigint
  readonly r11: bigint
  readonly r12: bigint
  readonly r13: bigint
  readonly r14: bigint
  readonly r15: bigint
}

/**
 * The VMM's side of a VMCALL: what KVM makes of the registers. The vCPU has left by then; `exit` is what VP.ENTER answered.
 * `outputs` is as in {@link Call}.
 */
export type VmcallHandler = {
  handle(host: Host, td: Td, vcpu: Vcpu, registers: VmcallRegisters, guest: GuestContext, exit: Answer): CallResult
  outputs?(request: GuestRequest, args: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>
}

/** RAX, RCX, RSP and bits 63:32 of the mask of registers to expose. */
const UNEXPOSABLE = 0xffffffff00000013n
/** R10 to R15. */
const DEFAULT_MASK = '0xfc00'

const schema = Type.Object(
  {
    rcx: optionalWord('Which registers the VMM sees, a bit each; R10 to R15 by default.'),
    r10: optionalWord('0 for a sub-function of the GHCI, which is the default.'),
    r11: optionalWord('The sub-function: 0x10001 MapGPA, 0x10003 ReportFatalError; others are not supported.'),
    r12: optionalWord('MapGPA: first GPA, with the shared bit to make it shared. ReportFatalError: the error.'),
    r13: optionalWord('MapGPA: size in bytes.'),
    r14: optionalWord('An argument of the sub-function.'),
    r15: optionalWord('An argument of the sub-function.'),
  },
  closed,
)

/** TDG.VP.VMCALL: the TD exits, and the answer is the VMM's. */
export function defineVmcall({ handle, outputs }: VmcallHandler): Call {
  const call = defineGuestCall({
    name: 'TDG.VP.VMCALL',
    summary: 'Exits to the VMM with a request, such as MapGPA.',
    schema,
    example: { r11: '0x10001', r12: '0x80000000', r13: '0x1000' },
    run(host, td, vcpu, { rcx = DEFAULT_MASK, r10 = 0, r11 = 0, r12 = 0, r13 = 0, r14 = 0, r15 = 0 }, guest) {
      if ((addressValue(rcx) & UNEXPOSABLE) !== 0n) return result(refuseOperand('TDX_OPERAND_INVALID', 'RCX'))
      const registers = {
        r10: addressValue(r10),
        r11: addressValue(r11),
        r12: addressValue(r12),
        r13: addressValue(r13),
        r14: addressValue(r14),
        r15: addressValue(r15),
      }
      return handle(host, td, vcpu, registers, guest, vmcallExit(td, vcpu))
    },
  })
  return outputs === undefined ? call : { ...call, outputs }
}
