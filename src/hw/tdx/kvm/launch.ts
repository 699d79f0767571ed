import type { LaunchLog, LaunchPlan, LaunchStep, PlanStep, Verdict } from '../../contract.ts'
import { addressOf, addressValue } from '../../shared/address-schema.ts'
import { hexOf } from '../../shared/hex.ts'
import type { FinishOptions, ImageQuery, UpdateOptions } from '../config.ts'
import { type Host, type LaunchStepRecord, tdOf, type VmRecord, vmOf } from '../data.ts'
import { planLaunch, type TdStep } from '../measurement/launch-plan.ts'
import { addPage, digest, extendPage } from '../measurement/mrtd.ts'
import { VMMS } from '../measurement/vmms.ts'
import { PAGE_BITS } from '../module/geometry.ts'
import { mrFinalize } from '../module/mem-content.ts'
import { OP_STATE, opStateName } from '../module/op-states.ts'
import { isFree } from '../module/pamt.ts'
import { frameAt, leafAt, stateOfLeaf } from '../module/sept.ts'
import { mapRange } from '../module/sept-ranges.ts'
import { STATE } from '../module/states.ts'
import type { Td } from '../module/td.ts'
import { addTables, entryRefused, isHidden, PAGE_NOT_FREE, privateFrames } from './private-memory.ts'
import { OK, refuse, seamcallRefused } from './refusal.ts'

type Options = Readonly<Record<string, unknown>>

/** A TD that memory may still be added to (intel-tdx.md g, INIT_MEM_REGION): initialised and not finalised. */
function building(host: Host, vm: string): Verdict<{ readonly td: Td; readonly record: VmRecord }> {
  const td = tdOf(host.data, vm)
  if (td === undefined || td.opState !== OP_STATE.INITIALIZED)
    return refuse('EINVAL', 'td-finalized', 'Memory is added and measured only until the TD is finalised.')
  return { ok: true, value: { td, record: vmOf(host.data, vm) } }
}

/** INIT_MEM_REGION always has a source page, and looks at the TD before it takes any memory (g). */
export function launchSource(host: Host, vm: string): Verdict<'bytes' | 'none'> {
  const opened = building(host, vm)
  return opened.ok ? { ok: true, value: 'bytes' } : opened
}

/** One page of KVM_TDX_INIT_MEM_REGION (f.3, g): SEPT.ADD as needed, PAGE.ADD, and with `measure` its 16 MR.EXTEND. */
export function launchPage(
  host: Host,
  vm: string,
  gfn: number,
  frame: number,
  source: Uint8Array | undefined,
  options: Options,
): Verdict {
  const opened = building(host, vm)
  if (!opened.ok) return opened
  const { td, record } = opened.value
  if (gfn >= privateFrames(td)) return refuse('EINVAL', 'gpa-shared', 'The address is not a private one.', '/gpa')
  if (isHidden(td, gfn)) return entryRefused(gfn)
  if (leafAt(td.sept, gfn) !== 0)
    return refuse('EEXIST', 'page-populated', `Page ${addressOf(gfn)} is populated already: each page is added once.`)
  if (!isFree(host.data.pamt, frame, 1)) return PAGE_NOT_FREE
  const tables = addTables(host, vm, td, gfn)
  if (!tables.ok) return tables
  const { measure = true } = options as UpdateOptions
  host.machine.write(frame, source === undefined ? undefined : new Uint8Array(source))
  mapRange(host.data, td, gfn, frame, 1, STATE.MAPPED, 0)
  const step = stepFor(record, td, measure ? 'add-extend' : 'add', gfn)
  addPage(td.mrtd, gfn)
  if (measure) extendPage(td.mrtd, gfn, source)
  step.pages++
  return OK
}

/** MR.EXTEND of every chunk of pages that were added before. */
export function launchMeasure(host: Host, vm: string, gfn: number, pages: number): Verdict {
  const opened = building(host, vm)
  if (!opened.ok) return opened
  const { td, record } = opened.value
  for (let at = gfn; at < gfn + pages; at++) {
    if (stateOfLeaf(leafAt(td.sept, at)) !== STATE.MAPPED)
      return refuse('EIO', 'page-not-added', `MR.EXTEND: page ${addressOf(at)} is not mapped.`)
    const step = stepFor(record, td, 'extend', at)
    extendPage(td.mrtd, at, host.machine.read(frameAt(td.sept, at)))
    step.pages++
  }
  return OK
}

/** The step that `gfn` goes on with, or a new one. */
function stepFor(record: VmRecord, td: Td, operation: LaunchStepRecord['operation'], gfn: number): LaunchStepRecord {
  const last = record.steps.at(-1)
  if (last !== undefined && last.operation === operation && last.gfn + last.pages === gfn) return last
  if (last !== undefined) last.digestAfter = Uint8Array.from(digest(td.mrtd))
  const step: LaunchStepRecord = { operation, gfn, pages: 0, digestAfter: undefined }
  record.steps.push(step)
  return step
}

/** KVM_TDX_FINALIZE_VM (g): MR.FINALIZE. The vCPUs get the TD_HOB's address first, as the VMM gave it at INIT_VCPU. */
export function launchFinish(host: Host, vm: string, options: Options): Verdict {
  const opened = building(host, vm)
  if (!opened.ok) return opened
  const { td } = opened.value
  const { tdHob } = options as FinishOptions
  const answer = mrFinalize(host, BigInt(td.tdr) << PAGE_BITS)
  if (answer.status.name !== 'TDX_SUCCESS') return seamcallRefused('EIO', 'TDH.MR.FINALIZE', answer)
  if (tdHob !== undefined) for (const vcpu of td.vcpus.values()) vcpu.initialRcx = addressValue(tdHob)
  return OK
}

/** What the named VMM does with a TDVF image (f.2). */
export function launchPlan(image: Uint8Array, query: Options): Verdict<LaunchPlan> {
  const { vmm = 'qemu', order, extend, tdHob } = query as ImageQuery
  const behaviour = { ...VMMS[vmm], ...(order && { order }), ...(extend && { extend }) }
  const plan = planLaunch(image, behaviour, tdHob === undefined ? undefined : Buffer.from(tdHob, 'hex'))
  if (!plan.ok) return plan
  const finish = plan.tdHobGfn === null ? {} : { tdHob: addressOf(plan.tdHobGfn) }
  return { ok: true, value: { steps: plan.steps.map(planStep), finish } }
}

function planStep({ operation, gfn, pages, bytes }: TdStep): PlanStep {
  const step = { gfn, pages, bytes, options: { measure: operation === 'add-extend' } }
  return operation === 'extend' ? { ...step, measureOnly: true } : step
}

/** The log, with MRTD after each step as it would be if the TD were finalised there. */
export function launchLog(host: Host, vm: string): LaunchLog {
  const td = tdOf(host.data, vm)
  if (td === undefined) return { state: 'TORN_DOWN', digest: null, steps: [] }
  const now = hexOf(td.finalDigest ?? digest(td.mrtd))
  const { steps } = vmOf(host.data, vm)
  return { state: opStateName(td.opState), digest: now, steps: steps.map((step) => presentStep(step, now)) }
}

const presentStep = ({ operation, gfn, pages, digestAfter }: LaunchStepRecord, now: string): LaunchStep => ({
  operation,
  gpa: addressOf(gfn),
  pages,
  digestAfter: digestAfter === undefined ? now : hexOf(digestAfter),
})
