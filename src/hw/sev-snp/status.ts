import type { HwRefusal, Status, Verdict } from '../contract.ts'
import type { Errno } from '../shared/errno.ts'

/** Firmware status codes (amd-sev-snp.md b.6). */
export const FW = {
  SUCCESS: 0,
  INVALID_PLATFORM_STATE: 1,
  INVALID_GUEST_STATE: 2,
  INVALID_CONFIG: 3,
  INVALID_LENGTH: 4,
  ALREADY_OWNED: 5,
  INVALID_CERTIFICATE: 6,
  POLICY_FAILURE: 7,
  INACTIVE: 8,
  INVALID_ADDRESS: 9,
  BAD_SIGNATURE: 0xa,
  BAD_MEASUREMENT: 0xb,
  ASID_OWNED: 0xc,
  INVALID_ASID: 0xd,
  WBINVD_REQUIRED: 0xe,
  DFFLUSH_REQUIRED: 0xf,
  INVALID_GUEST: 0x10,
  INVALID_COMMAND: 0x11,
  ACTIVE: 0x12,
  HWERROR_PLATFORM: 0x13,
  HWERROR_UNSAFE: 0x14,
  UNSUPPORTED: 0x15,
  INVALID_PARAM: 0x16,
  RESOURCE_LIMIT: 0x17,
  SECURE_DATA_INVALID: 0x18,
  INVALID_PAGE_SIZE: 0x19,
  INVALID_PAGE_STATE: 0x1a,
  INVALID_MDATA_ENTRY: 0x1b,
  INVALID_PAGE_OWNER: 0x1c,
  AEAD_OFLOW: 0x1d,
} as const
export type FirmwareCode = (typeof FW)[keyof typeof FW]

/** Return codes of RMPUPDATE, PSMASH, RMPREAD (b.4) and of PVALIDATE, RMPADJUST, RMPQUERY (b.5). */
export const INSN = {
  SUCCESS: 0,
  FAIL_INPUT: 1,
  FAIL_PERMISSION: 2,
  FAIL_INUSE: 3,
  FAIL_OVERLAP: 4,
  FAIL_SIZEMISMATCH: 6,
  FAIL_BADADDR: 7,
} as const
export type InstructionCode = (typeof INSN)[keyof typeof INSN]

const byCode = (codes: Readonly<Record<string, number>>): readonly (Status | undefined)[] => {
  const statuses: (Status | undefined)[] = []
  for (const [name, code] of Object.entries(codes)) statuses[code] = { name, code }
  return statuses
}
const FIRMWARE_STATUS = byCode(FW)
const INSTRUCTION_STATUS = byCode(INSN)

const statusIn = (table: readonly (Status | undefined)[], code: number): Status =>
  table[code] ?? { name: 'UNKNOWN', code }
export const firmwareStatus = (code: number): Status => statusIn(FIRMWARE_STATUS, code)
export const instructionStatus = (code: number): Status => statusIn(INSTRUCTION_STATUS, code)

/** Exceptions an instruction raises instead of answering. */
export const GENERAL_PROTECTION: Status = { name: '#GP', code: 13 }
export const UNDEFINED_OPCODE: Status = { name: '#UD', code: 6 }
export const PAGE_NOT_VALIDATED: Status = { name: '#VC', code: 0x404 }

/** SW_EXITINFO2 after a page-state change (amd-sev-snp.md c.2). */
export const PSC = {
  DONE: { name: 'SUCCESS', code: 0 },
  INVALID_HDR: { name: 'INVALID_HDR', code: 0x100000001 },
  INVALID_ENTRY: { name: 'INVALID_ENTRY', code: 0x100000002 },
  GENERIC: { name: 'GENERIC', code: 0x10000000000 },
} as const satisfies Record<string, Status>
/** The error field of the GHCB MSR protocol's answer (c.1). */
export const MSR_PSC_ERROR: Status = { name: 'PSC_ERROR', code: 1 }

export const OK: Verdict = { ok: true, value: undefined }

export const refuse = (
  errno: Errno,
  code: string,
  detail: string,
  pointer?: string,
): { ok: false; refusal: HwRefusal } => ({
  ok: false,
  refusal: { errno, code, detail, ...(pointer === undefined ? {} : { pointer }) },
})

/** An ioctl that fails because the firmware refused: EIO with its status (amd-sev-snp.md d.1, d.4). */
export function firmwareRefusal(code: number, detail: string): { ok: false; refusal: HwRefusal } {
  const { name } = firmwareStatus(code)
  return {
    ok: false,
    refusal: { errno: 'EIO', code: 'firmware-refused', detail, hardware: { status: name, code } },
  }
}
