import type { Status } from '../../contract.ts'
import { operandStatus, SUCCESS, statusOf } from '../status.ts'
import { CHUNK_BYTES, PAGE_BYTES } from './blocks.ts'
import { createStream, type MrtdStream, runningDigest, streamChunk, streamPages } from './mrtd-stream.ts'

/**
 * A TD just far enough to answer the calls that its MRTD depends on: a fresh one whose Secure EPT pages are all present
 * and whose vCPU is initialised (intel-tdx.md c.3, e.1).
 */
export type OpTd = {
  readonly stream: MrtdStream
  /** First address that is not private: the shared bit (d.1). */
  readonly privateEnd: bigint
  /** The bytes of each page that is mapped, by frame. */
  readonly pages: Map<number, Uint8Array>
  finalized: boolean
}

export const createOpTd = (gpaw: 48 | 52): OpTd => ({
  stream: createStream(),
  privateEnd: 1n << BigInt(gpaw - 1),
  pages: new Map(),
  finalized: false,
})

export const mrtdNow = (td: OpTd): string => runningDigest(td.stream)

const OPERAND_INVALID = operandStatus('TDX_OPERAND_INVALID', 'RCX')
const OP_STATE = statusOf('TDX_OP_STATE_INCORRECT')
const NOT_PRESENT = operandStatus('TDX_EPT_ENTRY_NOT_PRESENT', 'RCX')
const NOT_BLOCKED = operandStatus('TDX_GPA_RANGE_NOT_BLOCKED', 'RCX')
const ENTRY_STATE = operandStatus('TDX_EPT_ENTRY_STATE_INCORRECT', 'RCX')

const PAGE = BigInt(PAGE_BYTES)
const frameOf = (gpa: bigint): number => Number(gpa / PAGE)
const isPrivate = (td: OpTd, gpa: bigint, alignment: bigint): boolean => gpa % alignment === 0n && gpa < td.privateEnd

/** TDH.MEM.PAGE.ADD. `rcx` is the register as it is: bits 2:0 would be a level, and only level 0 exists here. */
export function pageAdd(td: OpTd, rcx: bigint, page: Uint8Array): Status {
  if (td.finalized) return OP_STATE
  if (!isPrivate(td, rcx, PAGE)) return OPERAND_INVALID
  const gfn = frameOf(rcx)
  if (td.pages.has(gfn)) return ENTRY_STATE
  td.pages.set(gfn, page)
  streamPages(td.stream, 'add', gfn, 1)
  return SUCCESS
}

/** TDH.MR.EXTEND of the 256 bytes at `rcx`. */
export function mrExtend(td: OpTd, rcx: bigint): Status {
  if (td.finalized) return OP_STATE
  if (!isPrivate(td, rcx, BigInt(CHUNK_BYTES))) return OPERAND_INVALID
  const gfn = frameOf(rcx)
  const page = td.pages.get(gfn)
  if (page === undefined) return NOT_PRESENT
  streamChunk(td.stream, gfn, Number(rcx % PAGE), page)
  return SUCCESS
}

/** TDH.MEM.PAGE.REMOVE: the digest keeps what the page has added to it. Bits 2:0 are the level, whose tables are not leafs. */
export function pageRemove(td: OpTd, rcx: bigint): Status {
  const level = rcx % 8n
  const gpa = rcx - level
  if (level > 2n || !isPrivate(td, gpa, PAGE << (9n * level))) return OPERAND_INVALID
  if (level > 0n || !td.pages.has(frameOf(gpa))) return ENTRY_STATE
  if (td.finalized) return NOT_BLOCKED
  td.pages.delete(frameOf(gpa))
  return SUCCESS
}

/** TDH.MR.FINALIZE. */
export function mrFinalize(td: OpTd): Status {
  if (td.finalized) return OP_STATE
  td.finalized = true
  return SUCCESS
}
