import { Buffer } from 'node:buffer'
import type { Host } from '../data.ts'
import { REPORT_DATA_BYTES, TDREPORT_BYTES } from '../evidence/tdreport.ts'
import { extendRtmr, RTMR_BYTES, RTMR_COUNT } from '../measurement/rtmr.ts'
import { done, refuseOperand } from './answer.ts'
import { answered, type GuestResult, guestPage, readBytes, writeBytes } from './guest-memory.ts'
import { type Td, tdInfo } from './td.ts'
import type { Vcpu } from './vcpu.ts'

const EXTEND_ALIGNMENT = 64n
const offsetOf = (gpa: bigint): number => Number(gpa & 0xfffn)

/** TDG.MR.RTMR.EXTEND (intel-tdx.md e.2): `gpa` (RCX) of 48 bytes, `index` (RDX), looked at once they are read. */
export function rtmrExtend(host: Host, td: Td, vcpu: Vcpu, gpa: bigint, index: number): GuestResult {
  if (gpa % EXTEND_ALIGNMENT !== 0n) return answered(refuseOperand('TDX_OPERAND_INVALID', 'RCX'))
  const page = guestPage(host, td, vcpu, gpa, 'RCX', 'read')
  if (page.kind !== 'page') return page
  const rtmr = td.rtmrs[index]
  if (rtmr === undefined || index >= RTMR_COUNT) return answered(refuseOperand('TDX_OPERAND_INVALID', 'RDX'))
  const extended = Uint8Array.from(extendRtmr(rtmr, readBytes(host, page.frame, offsetOf(gpa), RTMR_BYTES)))
  td.rtmrs[index] = extended
  return answered(done({ rtmr: Buffer.from(extended).toString('hex') }))
}

/**
 * TDG.MR.REPORT (e.3): writes the TDREPORT to `gpa` (RCX, 1024-aligned) over the 64 bytes at `reportData` (RDX,
 * 64-aligned). Only subtype 0 (R8) is there.
 */
export function mrReport(
  host: Host,
  td: Td,
  vcpu: Vcpu,
  gpa: bigint,
  reportData: bigint,
  subtype: bigint,
): GuestResult {
  if (gpa % BigInt(TDREPORT_BYTES) !== 0n) return answered(refuseOperand('TDX_OPERAND_INVALID', 'RCX'))
  if (reportData % BigInt(REPORT_DATA_BYTES) !== 0n) return answered(refuseOperand('TDX_OPERAND_INVALID', 'RDX'))
  if (subtype !== 0n) return answered(refuseOperand('TDX_OPERAND_INVALID', 'R8'))
  const target = guestPage(host, td, vcpu, gpa, 'RCX', 'write')
  if (target.kind !== 'page') return target
  const source = guestPage(host, td, vcpu, reportData, 'RDX', 'read')
  if (source.kind !== 'page') return source
  const data = readBytes(host, source.frame, offsetOf(reportData), REPORT_DATA_BYTES)
  const report = host.evidence.tdReport(tdInfo(td), data)
  writeBytes(host, target.frame, offsetOf(gpa), report)
  return answered(done({ tdreport: report.toString('base64') }))
}
