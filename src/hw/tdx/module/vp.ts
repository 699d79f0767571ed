import type { Host } from '../data.ts'
import { statusWith } from '../status.ts'
import { type Answer, type Checked, DONE, done, fail, pass, refuse, refuseOperand } from './answer.ts'
import { hex } from './geometry.ts'
import { takePage } from './mng.ts'
import { type Leaf, LIFECYCLE } from './op-states.ts'
import { checkFreePage, checkState, checkTdvpr, openTd } from './operands.ts'
import { PAGE_TYPE } from './pamt.ts'
import type { Td } from './td.ts'
import { enter, leave } from './tracking.ts'
import { createVcpu, VCPU_STATE, type Vcpu } from './vcpu.ts'

/** Pages of a TDVPS, the TDVPR counted; nested VMs take 3 more each (intel-tdx.md a.4). */
const TDVPS_PAGES = 6
const PAGES_PER_L2_VM = 3
const pagesOf = (td: Td): number => TDVPS_PAGES + PAGES_PER_L2_VM * td.params.l2Vms
const hasAllPages = (td: Td, vcpu: Vcpu): boolean => vcpu.tdcx.length + 1 === pagesOf(td)

type OpenVcpu = { readonly td: Td; readonly vcpu: Vcpu }

function openVcpu({ data }: Host, leaf: Leaf, tdvpr: bigint, operand: 'RCX' | 'RDX'): Checked<OpenVcpu> {
  const found = checkTdvpr(data, tdvpr, operand)
  if (!found.ok) return found
  const refused = checkState(found.value.td, leaf)
  return refused === undefined ? found : fail(refused)
}

/** TDH.VP.CREATE (a.4): `page` becomes the TDVPR of a new vCPU. */
export function vpCreate(host: Host, page: bigint, tdr: bigint): Answer {
  const td = openTd(host.data, 'TDH.VP.CREATE', tdr, 'RDX')
  if (!td.ok) return td.answer
  const frame = checkFreePage(host.data, page, 'RCX')
  if (!frame.ok) return frame.answer
  takePage(host, td.value, frame.value, PAGE_TYPE.TDVPR)
  td.value.vcpus.set(frame.value, createVcpu(frame.value))
  return DONE
}

/** TDH.VP.ADDCX (a.4): one more page of a vCPU that is not initialised; PAMT shows it as PT_TDCX. */
export function vpAddcx(host: Host, page: bigint, tdvpr: bigint): Answer {
  const opened = openVcpu(host, 'TDH.VP.ADDCX', tdvpr, 'RDX')
  if (!opened.ok) return opened.answer
  const { td, vcpu } = opened.value
  if (vcpu.state !== VCPU_STATE.UNINITIALIZED) return refuse('TDX_VCPU_STATE_INCORRECT')
  if (hasAllPages(td, vcpu)) return refuse('TDX_TDCX_NUM_INCORRECT')
  const frame = checkFreePage(host.data, page, 'RCX')
  if (!frame.ok) return frame.answer
  takePage(host, td, frame.value, PAGE_TYPE.TDCX)
  vcpu.tdcx.push(frame.value)
  return DONE
}

/** TDH.VP.INIT (a.4) on logical processor `lp`, which the vCPU is associated with from now on. */
export function vpInit(host: Host, tdvpr: bigint, initialRcx: bigint, lp: number): Answer {
  const opened = openVcpu(host, 'TDH.VP.INIT', tdvpr, 'RCX')
  if (!opened.ok) return opened.answer
  const { td, vcpu } = opened.value
  if (!hasAllPages(td, vcpu)) return refuse('TDX_TDCX_NUM_INCORRECT')
  if (vcpu.state !== VCPU_STATE.UNINITIALIZED) return refuse('TDX_VCPU_STATE_INCORRECT')
  if (td.indexed.length >= td.params.maxVcpus) return refuse('TDX_MAX_VCPUS_EXCEEDED')
  vcpu.index = td.indexed.length
  vcpu.state = VCPU_STATE.READY
  vcpu.lp = lp
  vcpu.initialRcx = initialRcx
  td.indexed.push(vcpu.tdvpr)
  return done({ vcpu: vcpu.index, registers: initialRegisters(vcpu) })
}

/** What the guest finds in its registers when it first runs. */
function initialRegisters({ initialRcx, index }: Vcpu): Readonly<Record<string, string>> {
  return { rcx: hex(initialRcx), r8: hex(initialRcx), rsi: hex(index) }
}

/**
 * TDH.VP.ENTER (a.4) on logical processor `lp`. The vCPU is then inside, counted in the present TLB epoch, until it exits:
 * by a TDCALL that exits, or by {@link interrupt}. What the real instruction answers at that exit, the exit answers.
 */
export function vpEnter(host: Host, tdvpr: bigint, lp: number): Answer {
  const opened = openVcpu(host, 'TDH.VP.ENTER', tdvpr, 'RCX')
  if (!opened.ok) return opened.answer
  const { td, vcpu } = opened.value
  if (vcpu.state !== VCPU_STATE.READY) return refuse('TDX_VCPU_STATE_INCORRECT')
  if (vcpu.lp !== -1 && vcpu.lp !== lp) return refuse('TDX_VCPU_ASSOCIATED')
  vcpu.lp = lp
  enter(td, vcpu)
  return done({ running: true, vcpu: vcpu.index, lp, epoch: td.epoch })
}

/** TDH.VP.FLUSH (a.5) on logical processor `lp`. Inside, the vCPU holds its TDVPR's lock. */
export function vpFlush({ data }: Host, tdvpr: bigint, lp: number): Answer {
  const found = checkTdvpr(data, tdvpr, 'RCX')
  if (!found.ok) return found.answer
  const { td, vcpu } = found.value
  if (vcpu.state === VCPU_STATE.ACTIVE) return refuseOperand('TDX_OPERAND_BUSY', 'RCX')
  if (td.lifecycle !== LIFECYCLE.KEYS_CONFIGURED) return refuse('TDX_TD_KEYS_NOT_CONFIGURED')
  if (vcpu.lp !== lp) return refuse('TDX_VCPU_NOT_ASSOCIATED')
  vcpu.lp = -1
  return DONE
}

export const EXIT_REASON = { EXTERNAL_INTERRUPT: 1, TRIPLE_FAULT: 2, EPT_VIOLATION: 48, TDCALL: 77 } as const

/** An IPI to the LP on which a vCPU is inside: it leaves, VP.ENTER answering exit reason 1 there. Says whether it was inside. */
export function interrupt({ data }: Host, tdvpr: bigint): Answer {
  const found = checkTdvpr(data, tdvpr, 'RCX')
  if (!found.ok) return found.answer
  const { td, vcpu } = found.value
  if (!leave(td, vcpu)) return done({ exit: null })
  return done({ exit: { rax: '0x1', exitReason: EXIT_REASON.EXTERNAL_INTERRUPT, name: 'EXTERNAL_INTERRUPT' } })
}

/** The vCPU that a guest's TDCALL comes from may run: its TD may, and it is not disabled (a.4). */
export function checkRunning(td: Td, vcpu: Vcpu | undefined): Checked<OpenVcpu> {
  const refused = checkState(td, 'TDH.VP.ENTER')
  if (refused !== undefined) return fail(refused)
  if (vcpu === undefined || (vcpu.state !== VCPU_STATE.READY && vcpu.state !== VCPU_STATE.ACTIVE))
    return fail(refuse('TDX_VCPU_STATE_INCORRECT'))
  return pass({ td, vcpu })
}

/** A triple fault in the guest (a.4): the vCPU leaves and is DISABLED for ever. */
export function tripleFault(td: Td, vcpu: Vcpu): Answer {
  leave(td, vcpu)
  vcpu.state = VCPU_STATE.DISABLED
  return NON_RECOVERABLE_VCPU
}
const NON_RECOVERABLE_VCPU: Answer = {
  status: statusWith('TDX_NON_RECOVERABLE_VCPU', EXIT_REASON.TRIPLE_FAULT),
  outputs: { exit: { exitReason: EXIT_REASON.TRIPLE_FAULT, name: 'TRIPLE_FAULT' } },
}
