import type { AccessKind, CallResult, Fault, GuestCheck, GuestContext, HostCheck } from '../../contract.ts'
import { ERRNO } from '../../shared/errno.ts'
import * as PageMap from '../../shared/page-map.ts'
import { type Host, tdOf, vmOf } from '../data.ts'
import type { Answer } from '../module/answer.ts'
import { hex, SPAN } from '../module/geometry.ts'
import { raiseVe } from '../module/guest-memory.ts'
import { zeroPages } from '../module/mem-page.ts'
import { entryAt } from '../module/pamt.ts'
import { isPoisoned, machineCheck } from '../module/poison.ts'
import { frameAt, leafAt, levelOfLeaf, stateOfLeaf } from '../module/sept.ts'
import { acceptRange } from '../module/sept-ranges.ts'
import { STATE } from '../module/states.ts'
import { pendingExits, type Td, vcpuAt } from '../module/td.ts'
import type { Vcpu } from '../module/vcpu.ts'
import { checkRunning, EXIT_REASON } from '../module/vp.ts'
import { SUCCESS, statusWith } from '../status.ts'
import { privateFrames } from './private-memory.ts'

const OK: GuestCheck & HostCheck = { kind: 'ok' }
const CIPHERTEXT: HostCheck = { kind: 'ciphertext' }
const PAGE_FAULT = hex(14)
const EPT_VIOLATION = hex(EXIT_REASON.EPT_VIOLATION)
const QUALIFICATION: Readonly<Record<AccessKind, number>> = { read: 1, write: 2, execute: 4 }
/** Extended exit qualification of an access to a pending page (intel-tdx.md d.2). */
const PENDING_ACCESS = '0x6'

/** #PF with the reserved-bit flag, for an address with a bit above the shared one (d.1). */
export function addressFault(host: Host, vm: string, gfn: number, kind: AccessKind): Fault | undefined {
  const td = tdOf(host.data, vm)
  if (td === undefined || gfn < privateFrames(td)) return undefined
  const detail = 'The address has a bit above those that the guest may use: the fault stays in the guest.'
  return { name: '#PF', code: PAGE_FAULT, errorCode: kind === 'write' ? '0xb' : '0x9', detail }
}

/** An access that a table translates (d.2). What is private goes by the Secure EPT, the rest by KVM's own. */
export function checkGuest(
  host: Host,
  vm: string,
  gfn: number,
  isPrivate: boolean,
  kind: AccessKind,
  vcpu: number,
): GuestCheck {
  const td = tdOf(host.data, vm)
  const cpu = td && vcpuAt(td, vcpu)
  if (td === undefined || cpu === undefined) return { kind: 'vm-dead', fault: NO_VCPU }
  const running = checkRunning(td, cpu)
  if (!running.ok) return notEntered(running.answer)
  if (!isPrivate) return kind === 'execute' ? { kind: 'guest-fault', fault: SHARED_FETCH } : OK
  if (stateOfLeaf(leafAt(td.sept, gfn)) === STATE.PENDING) return pendingAccess(host, vm, td, cpu, gfn, kind)
  if (!isPoisoned(host.data, frameAt(td.sept, gfn))) return OK
  const { status } = machineCheck(td, cpu)
  const detail = 'The guest read a page that the host had written: the TD is fatal.'
  return { kind: 'vm-dead', fault: { name: status.name, code: status.code, errorCode: MCE_INTERRUPTION, detail } }
}

/** R9 of that exit: a machine check, vector 18. */
const MCE_INTERRUPTION = '0x80000312'

const SHARED_FETCH: Fault = {
  name: '#PF',
  code: PAGE_FAULT,
  detail: 'A TD cannot execute shared memory: the fault stays in the guest.',
}
const notEntered = ({ status }: Answer): GuestCheck => ({
  kind: 'vm-dead',
  fault: { name: status.name, code: status.code, detail: 'TDH.VP.ENTER does not enter the vCPU any more.' },
})
const NO_VCPU: Fault = { name: 'EIO', code: hex(ERRNO.EIO), detail: 'The vCPU is not there any more.' }

/** #VE, or with SEPT_VE_DISABLE a TD exit that KVM takes for the guest's end. */
function pendingAccess(host: Host, vm: string, td: Td, cpu: Vcpu, gfn: number, kind: AccessKind): GuestCheck {
  const gpa = BigInt(gfn) << 12n
  if (pendingExits(td)) {
    vmOf(host.data, vm).dead = true
    const detail = `The guest touched ${hex(gpa)} before it accepted it: KVM gives the VM up.`
    return {
      kind: 'vm-dead',
      fault: { name: 'EPT_VIOLATION', code: EPT_VIOLATION, errorCode: PENDING_ACCESS, detail },
    }
  }
  const { status } = raiseVe(cpu, gpa, QUALIFICATION[kind])
  const detail = `The page at ${hex(gpa)} is pending.`
  return { kind: 'guest-fault', fault: { name: status.name, code: status.code, detail } }
}

/**
 * A host access (d.6): no fault comes of it. A page that the module knows reads as zeros with a shared key, and a write
 * poisons it.
 */
export const checkHost = ({ data }: Host, frame: number): HostCheck =>
  frame < data.pamt.frames && entryAt(data.pamt, frame) !== 0 ? CIPHERTEXT : OK

/**
 * The guest accepts what it made private (c.5, d.4), as Linux does: 2M where it may, else 4K pages. Ends at the first
 * page with another status than success.
 */
export function accept(host: Host, guest: GuestContext, gfn: number, count: number, span: number): CallResult {
  const td = tdOf(host.data, guest.vm)
  if (td === undefined) throw new Error(`${guest.vm} has no TD any more, and accepts nothing`)
  const running = checkRunning(td, vcpuAt(td, guest.vcpu))
  if (!running.ok) return { kind: 'done', status: running.answer.status }
  const end = Math.min(gfn - (gfn % span) + count * span, privateFrames(td))
  for (let at = gfn; at < end; ) {
    const leaf = leafAt(td.sept, at)
    const level = levelOfLeaf(leaf)
    if (stateOfLeaf(leaf) === STATE.MAPPED)
      return { kind: 'done', status: statusWith('TDX_PAGE_ALREADY_ACCEPTED', level) }
    // A larger pending page takes an acceptance of its own size only; a smaller one exits (c.5 step 2).
    const whole = at % SPAN[level] === 0 && span >= SPAN[level] && end - at >= SPAN[level]
    if (stateOfLeaf(leaf) !== STATE.PENDING || !whole) return violation(at)
    const run = end - at === 1 ? end : PageMap.nextRun(td.sept.entries, at, end)
    const next = run - ((run - at) % SPAN[level])
    acceptRun(host, td, at, next)
    at = next
  }
  return DONE
}

const DONE: CallResult = { kind: 'done', status: SUCCESS }

function acceptRun(host: Host, td: Td, start: number, end: number): void {
  for (let at = start; at < end; ) {
    const next = end - at === 1 ? end : PageMap.nextRun(td.sept.frames, at, end)
    zeroPages(host, frameAt(td.sept, at), next - at)
    at = next
  }
  acceptRange(host.data, td, start, end - start)
}

const violation = (gfn: number): CallResult => ({
  kind: 'fault',
  gfn,
  private: true,
  // KVM takes private faults for writes whatever the qualification says (d.2).
  write: true,
  fault: { name: 'EPT_VIOLATION', code: EPT_VIOLATION, detail: 'TDG.MEM.PAGE.ACCEPT met no pending page.' },
  mended: false,
})
