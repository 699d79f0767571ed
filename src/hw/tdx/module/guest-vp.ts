import { statusOf } from '../status.ts'
import { type Answer, DONE, done, refuse } from './answer.ts'
import { hex } from './geometry.ts'
import { TD_CTLS, type Td } from './td.ts'
import { CONFIG_FLAG, gpaw } from './td-params.ts'
import { leave } from './tracking.ts'
import type { Vcpu } from './vcpu.ts'
import { EXIT_REASON } from './vp.ts'

/** TDG.VP.INFO (intel-tdx.md d.1): what a TD is told of itself. */
export const vpInfo = (td: Td, vcpu: Vcpu): Answer =>
  done({
    rcx: hex(gpaw(td.params)),
    rdx: hex(td.params.attributes),
    r8: hex((BigInt(td.params.maxVcpus) << 32n) | BigInt(td.indexed.length)),
    r9: hex(vcpu.index),
    info: {
      gpaw: gpaw(td.params),
      attributes: hex(td.params.attributes),
      vcpus: td.indexed.length,
      maxVcpus: td.params.maxVcpus,
      vcpu: vcpu.index,
    },
  })

/** TDG.VP.VEINFO.GET (d.2): why the last #VE came; the next may come after this. */
export function veInfoGet(vcpu: Vcpu): Answer {
  const info = vcpu.veInfo
  if (info === undefined) return refuse('TDX_NO_VALID_VE_INFO')
  vcpu.veInfo = undefined
  return done({
    rcx: hex(info.exitReason),
    rdx: hex(info.exitQualification),
    r8: hex(info.gla),
    r9: hex(info.gpa),
    r10: '0x0',
  })
}

/** A field of TDCS that TDG.VM.RD and TDG.VM.WR know, by its name; its id is the word a guest gives in RDX. */
export const VM_FIELDS = {
  CONFIG_FLAGS: 0x1110000300000016n,
  TD_CTLS: 0x1110000300000017n,
} as const
export type VmField = keyof typeof VM_FIELDS

/** TDG.VM.RD: R8 is the field. */
export const vmRead = (td: Td, field: VmField): Answer => done({ r8: hex(fieldValue(td, field)) })

const fieldValue = (td: Td, field: VmField): bigint => BigInt(field === 'TD_CTLS' ? td.tdCtls : td.params.configFlags)

/**
 * TDG.VM.WR: the bits of `mask` (R9) become those of `value` (R8); R8 is what was there. With FLEXIBLE_PENDING_VE a TD
 * decides itself whether accesses to pending pages exit (d.2); nothing else is writable.
 */
export function vmWrite(td: Td, field: VmField, value: bigint, mask: bigint): Answer {
  const flexible = (td.params.configFlags & CONFIG_FLAG.FLEXIBLE_PENDING_VE) !== 0
  const writable = field === 'TD_CTLS' && flexible ? BigInt(TD_CTLS.PENDING_VE_DISABLE) : 0n
  const before = fieldValue(td, field)
  if ((mask & writable) === 0n) return { status: statusOf('TDX_METADATA_FIELD_NOT_WRITABLE') }
  if (((before ^ value) & mask & ~writable) !== 0n) return { status: statusOf('TDX_METADATA_FIELD_VALUE_NOT_VALID') }
  td.tdCtls = Number((before & ~(mask & writable)) | (value & mask & writable))
  return done({ r8: hex(before) })
}

/** The TD exit of TDG.VP.VMCALL (a.4, d.4): the vCPU leaves, and VP.ENTER answers exit reason 77 on its LP. */
export function vmcallExit(td: Td, vcpu: Vcpu): Answer {
  leave(td, vcpu)
  return VMCALL_EXIT
}
const VMCALL_EXIT: Answer = {
  ...DONE,
  outputs: { exit: { rax: hex(EXIT_REASON.TDCALL), exitReason: EXIT_REASON.TDCALL, name: 'TDCALL' } },
}
