import type { Host } from '../data.ts'
import { DOUBLE_FAULT, statusWith, VIRTUALIZATION_EXCEPTION } from '../status.ts'
import { type Answer, DONE, refuseOperand } from './answer.ts'
import { hex, PAGE_BITS, PAGE_SIZE, SPAN } from './geometry.ts'
import { zeroPages } from './mem-page.ts'
import { checkGpa, isPrivateGpa } from './operands.ts'
import { isPoisoned, machineCheck } from './poison.ts'
import { type Entry, frameAt, walk } from './sept.ts'
import { acceptRange } from './sept-ranges.ts'
import { isLeafState, STATE, stateName } from './states.ts'
import { pendingExits, type Td } from './td.ts'
import { leave } from './tracking.ts'
import type { Vcpu, VeInfo } from './vcpu.ts'
import { EXIT_REASON } from './vp.ts'

/** An EPT violation that leaves the guest; the registers VP.ENTER gives of it (intel-tdx.md a.4, c.5). */
export type EptViolation = {
  readonly gfn: number
  readonly qualification: number
  readonly extendedQualification: bigint
  readonly detail: string
}

/** What a TDCALL came to: an answer in the guest, or a TD exit after which the guest runs it again. */
export type GuestResult =
  | { readonly kind: 'answer'; readonly answer: Answer }
  | { readonly kind: 'exit'; readonly violation: EptViolation }

export const answered = (answer: Answer): GuestResult => ({ kind: 'answer', answer })

/** Types of the extended exit qualification: none, a TDG.MEM.PAGE.ACCEPT, a pending page. */
const EXTENDED = { NONE: 0n, ACCEPT: 1n, PENDING: 6n } as const
/** Extended exit qualification of an access to a pending page. */
export const PENDING_PAGE: bigint = EXTENDED.PENDING
const DATA_READ = 1
const DATA_WRITE = 2
const INFO_SHIFT = 32n

/**
 * TDG.MEM.PAGE.ACCEPT (c.5) with RCX. A 2M page is accepted at once, for no interrupt can come between. Statuses that
 * are no operand's carry a level.
 */
export function pageAccept(host: Host, td: Td, vcpu: Vcpu, rcx: bigint): GuestResult {
  const place = checkGpa(td, rcx, 0, 1)
  if (!place.ok) return answered(place.answer)
  const { gfn, level } = place.value
  const entry = walk(td.sept, gfn, level)
  if (entry.state === STATE.MAPPED)
    return answered({ status: statusWith('TDX_PAGE_ALREADY_ACCEPTED', entry.level), outputs: { level: entry.level } })
  const atLevel = entry.level === level
  if (atLevel && (entry.state === STATE.NL_MAPPED || entry.state === STATE.NL_BLOCKED))
    return answered({ status: statusWith('TDX_PAGE_SIZE_MISMATCH', level), outputs: { level } })
  if (!atLevel || entry.state !== STATE.PENDING) return acceptViolation(td, vcpu, gfn, level, entry)
  zeroPages(host, entry.frame, SPAN[level])
  acceptRange(host.data, td, gfn, SPAN[level])
  return answered(DONE)
}

function acceptViolation(td: Td, vcpu: Vcpu, gfn: number, level: number, entry: Entry): GuestResult {
  leave(td, vcpu)
  const leafBit = isLeafState(entry.state) ? 1 << 14 : 0
  const info = BigInt(level | (entry.level << 3) | (entry.state << 6) | leafBit)
  const extendedQualification = EXTENDED.ACCEPT | (info << INFO_SHIFT)
  return violation(gfn, DATA_WRITE, extendedQualification, `TDG.MEM.PAGE.ACCEPT at level ${level}`, entry)
}

const violation = (
  gfn: number,
  qualification: number,
  extendedQualification: bigint,
  what: string,
  entry: Entry,
): GuestResult => ({
  kind: 'exit',
  violation: {
    gfn,
    qualification,
    extendedQualification,
    detail: `${what} met ${stateName(entry.state)} at level ${entry.level}; extended qualification ${hex(extendedQualification)}.`,
  },
})

/**
 * A private page that a TDCALL itself reads or writes (d.2, d.6): its frame; or #VE, a TD exit, or the TD's end. `gpa` is
 * aligned by then; a shared one is OPERAND_INVALID.
 */
export function guestPage(
  host: Host,
  td: Td,
  vcpu: Vcpu,
  gpa: bigint,
  operand: 'RCX' | 'RDX',
  kind: 'read' | 'write',
): { readonly kind: 'page'; readonly frame: number } | GuestResult {
  if (!isPrivateGpa(td, gpa)) return answered(refuseOperand('TDX_OPERAND_INVALID', operand))
  const gfn = Number(gpa >> PAGE_BITS)
  const entry = walk(td.sept, gfn, 0)
  const qualification = kind === 'write' ? DATA_WRITE : DATA_READ
  if (entry.state === STATE.PENDING && !pendingExits(td)) return answered(raiseVe(vcpu, gpa, qualification))
  if (entry.state !== STATE.MAPPED) {
    leave(td, vcpu)
    const extended = entry.state === STATE.PENDING ? EXTENDED.PENDING : EXTENDED.NONE
    return violation(gfn, qualification, extended, `An operand in memory to ${kind}`, entry)
  }
  const frame = frameAt(td.sept, gfn)
  return isPoisoned(host.data, frame) ? answered(machineCheck(td, vcpu)) : { kind: 'page', frame }
}

/** #VE for an access to a pending page; #DF while the last one's information was not fetched (d.2). */
export function raiseVe(vcpu: Vcpu, gpa: bigint, qualification: number): Answer {
  if (vcpu.veInfo !== undefined) return { status: DOUBLE_FAULT }
  const veInfo: VeInfo = {
    exitReason: EXIT_REASON.EPT_VIOLATION,
    exitQualification: qualification,
    gla: gpa,
    gpa,
  }
  vcpu.veInfo = veInfo
  return { status: VIRTUALIZATION_EXCEPTION }
}

/** Copies bytes into a guest's page. */
export function writeBytes({ machine }: Host, frame: number, offset: number, bytes: Uint8Array): void {
  const page = new Uint8Array(PAGE_SIZE)
  page.set(machine.read(frame) ?? [])
  page.set(bytes, offset)
  machine.write(frame, page)
}

/** A copy of bytes of a page. */
export function readBytes({ machine }: Host, frame: number, offset: number, length: number): Uint8Array {
  return machine.read(frame)?.slice(offset, offset + length) ?? new Uint8Array(length)
}
