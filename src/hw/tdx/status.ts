import type { Status } from '../contract.ts'

/**
 * Bits 63:32 of a status word (intel-tdx.md 0.1). Here bit 31 is error, bit 30 not recoverable by retrying, bit 29 fatal;
 * with none of them a status is success or informational.
 */
export const STATUS_CLASS = {
  TDX_SUCCESS: 0,
  TDX_NON_RECOVERABLE_VCPU: 0x40000001,
  TDX_NON_RECOVERABLE_TD: 0x60000002,
  TDX_INTERRUPTED_RESUMABLE: 0x80000003,
  TDX_INTERRUPTED_RESTARTABLE: 0x80000004,
  TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE: 0x60000005,
  TDX_OPERAND_INVALID: 0xc0000100,
  TDX_OPERAND_ADDR_RANGE_ERROR: 0xc0000101,
  TDX_OPERAND_BUSY: 0x80000200,
  TDX_PREVIOUS_TLB_EPOCH_BUSY: 0x80000201,
  TDX_SYS_BUSY: 0x80000202,
  TDX_RND_NO_ENTROPY: 0x80000203,
  TDX_OPERAND_BUSY_HOST_PRIORITY: 0x80000204,
  TDX_PAGE_METADATA_INCORRECT: 0xc0000300,
  TDX_PAGE_ALREADY_FREE: 0x00000301,
  TDX_PAGE_NOT_OWNED_BY_TD: 0xc0000302,
  TDX_PAGE_NOT_FREE: 0xc0000303,
  TDX_TD_ASSOCIATED_PAGES_EXIST: 0xc0000400,
  TDX_SYS_NOT_READY: 0xc0000505,
  TDX_TD_FATAL: 0xe0000604,
  TDX_TD_NON_DEBUG: 0xc0000605,
  TDX_TDCS_NOT_ALLOCATED: 0xc0000606,
  TDX_LIFECYCLE_STATE_INCORRECT: 0xc0000607,
  TDX_OP_STATE_INCORRECT: 0xc0000608,
  TDX_NO_VCPUS: 0xc0000609,
  TDX_TDCX_NUM_INCORRECT: 0xc0000610,
  TDX_VCPU_STATE_INCORRECT: 0xc0000700,
  TDX_VCPU_ASSOCIATED: 0x80000701,
  TDX_VCPU_NOT_ASSOCIATED: 0x80000702,
  TDX_NO_VALID_VE_INFO: 0xc0000704,
  TDX_MAX_VCPUS_EXCEEDED: 0xc0000705,
  TDX_TSC_ROLLBACK: 0xc0000706,
  TDX_KEY_GENERATION_FAILED: 0x80000800,
  TDX_TD_KEYS_NOT_CONFIGURED: 0x80000810,
  TDX_KEY_STATE_INCORRECT: 0xc0000811,
  TDX_KEY_CONFIGURED: 0x00000815,
  TDX_WBCACHE_NOT_COMPLETE: 0x80000817,
  TDX_HKID_NOT_FREE: 0xc0000820,
  TDX_NO_HKID_READY_TO_WBCACHE: 0x00000821,
  TDX_WBCACHE_RESUME_ERROR: 0xc0000823,
  TDX_FLUSHVP_NOT_DONE: 0x80000824,
  TDX_EPT_WALK_FAILED: 0xc0000b00,
  TDX_EPT_ENTRY_FREE: 0xc0000b01,
  TDX_EPT_ENTRY_NOT_FREE: 0xc0000b02,
  TDX_EPT_ENTRY_NOT_PRESENT: 0xc0000b03,
  TDX_EPT_ENTRY_NOT_LEAF: 0xc0000b04,
  TDX_EPT_ENTRY_LEAF: 0xc0000b05,
  TDX_GPA_RANGE_NOT_BLOCKED: 0xc0000b06,
  TDX_GPA_RANGE_ALREADY_BLOCKED: 0x00000b07,
  TDX_TLB_TRACKING_NOT_DONE: 0xc0000b08,
  TDX_EPT_INVALID_PROMOTE_CONDITIONS: 0xc0000b09,
  TDX_PAGE_ALREADY_ACCEPTED: 0x00000b0a,
  TDX_PAGE_SIZE_MISMATCH: 0xc0000b0b,
  TDX_GPA_RANGE_BLOCKED: 0xc0000b0c,
  TDX_EPT_ENTRY_STATE_INCORRECT: 0xc0000b0d,
  TDX_EPT_PAGE_NOT_FREE: 0xc0000b0e,
  TDX_L2_SEPT_WALK_FAILED: 0xc0000b0f,
  TDX_L2_SEPT_ENTRY_NOT_FREE: 0xc0000b10,
  TDX_PAGE_ATTR_INVALID: 0xc0000b11,
  TDX_L2_SEPT_PAGE_NOT_PROVIDED: 0xc0000b12,
  TDX_METADATA_FIELD_ID_INCORRECT: 0xc0000c00,
  TDX_METADATA_FIELD_NOT_WRITABLE: 0xc0000c01,
  TDX_METADATA_FIELD_VALUE_NOT_VALID: 0xc0000c03,
} as const
export type StatusName = keyof typeof STATUS_CLASS

/** Operand ids, bits 31:0 of most statuses (intel-tdx.md 0.1). */
export const OPERAND = {
  RAX: 0,
  RCX: 1,
  RDX: 2,
  R8: 8,
  R9: 9,
  R10: 10,
  R11: 11,
  ATTRIBUTES: 64,
  XFAM: 65,
  CONFIG_FLAGS: 66,
  EPTP_CONTROLS: 67,
  MAX_VCPUS: 68,
  CPUID_CONFIG: 69,
  TSC_FREQUENCY: 70,
  NUM_L2_VMS: 71,
  TDR: 128,
  TDCX: 129,
  TDVPR: 130,
  TDCS: 144,
  SEPT_TREE: 146,
  SEPT_ENTRY: 147,
  RTMR: 168,
  TD_EPOCH: 169,
  OP_STATE: 172,
  SYS: 184,
  TDMR: 185,
  KOT: 186,
  KET: 187,
  WBCACHE: 188,
} as const
export type OperandName = keyof typeof OPERAND

/** A code is the whole word in hex without leading zeros, so TDX_SUCCESS is `0x0`. */
const build = (name: StatusName, detail: number): Status =>
  Object.freeze({ name, code: `0x${((BigInt(STATUS_CLASS[name]) << 32n) | BigInt(detail)).toString(16)}` })

const built = new Map<StatusName, Status[]>()

/** The status with `detail` (an operand id, a level, an exit reason) in its low half; one object each. */
export function statusWith(name: StatusName, detail: number): Status {
  let known = built.get(name)
  if (known === undefined) {
    known = []
    built.set(name, known)
  }
  const found = known[detail]
  if (found !== undefined) return found
  const status = build(name, detail)
  known[detail] = status
  return status
}

export const statusOf = (name: StatusName): Status => statusWith(name, 0)
export const operandStatus = (name: StatusName, operand: OperandName): Status => statusWith(name, OPERAND[operand])

export const SUCCESS = statusOf('TDX_SUCCESS')

/** Exceptions instead of an answer: their vectors. */
export const UNDEFINED_OPCODE: Status = { name: '#UD', code: '0x6' }
export const DOUBLE_FAULT: Status = { name: '#DF', code: '0x8' }
export const VIRTUALIZATION_EXCEPTION: Status = { name: '#VE', code: '0x14' }
