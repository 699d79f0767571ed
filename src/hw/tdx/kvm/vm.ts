import type { Machine, Verdict, VmOptions } from '../../contract.ts'
import { addressValue } from '../../shared/address-schema.ts'
import * as PageMap from '../../shared/page-map.ts'
import { type Config, DEFAULT_ATTRIBUTES, DEFAULT_TSC_FREQUENCY, DEFAULT_XFAM } from '../config.ts'
import { type Host, tdOf, vmOf } from '../data.ts'
import type { Answer } from '../module/answer.ts'
import { PAGE_BITS } from '../module/geometry.ts'
import { freeKeyId } from '../module/kot.ts'
import { mngAddcx, mngCreate, mngInit, mngKeyConfig } from '../module/mng.ts'
import { LIFECYCLE, OP_STATE } from '../module/op-states.ts'
import { MIN_TDCX } from '../module/operands.ts'
import { isFree } from '../module/pamt.ts'
import type { Td } from '../module/td.ts'
import {
  ATTRIBUTE,
  CONFIG_FLAG,
  encodeTdParams,
  eptpControlsFor,
  parseTdParams,
  type TdParams,
} from '../module/td-params.ts'
import { vpAddcx, vpCreate, vpInit } from '../module/vp.ts'
import { OK, refuse, seamcallRefused } from './refusal.ts'
import { tearDown } from './teardown.ts'

/** Pages of a vCPU: its TDVPR and 5 TDCX pages (intel-tdx.md a.4). */
const VCPU_PAGES = 6
/** What KVM lets through (g): not DEBUG, nor what needs migration. */
const SUPPORTED_ATTRIBUTES = ATTRIBUTE.SEPT_VE_DISABLE | ATTRIBUTE.PERFMON
const OWNED = 1

const wordOf = (frame: number): bigint => BigInt(frame) << PAGE_BITS

/**
 * KVM_TDX_INIT_VM, then KVM_TDX_INIT_VCPU of every vCPU (intel-tdx.md a.4, g): what KVM and the module would refuse is
 * known before the first SEAMCALL, so that a refusal leaves no trace. vCPU n is on logical processor n.
 */
export function createVm(host: Host, { vm, vcpus, config: given }: VmOptions): Verdict {
  const config = given as Config
  const params = paramsOf(config, vcpus)
  const refused = judge(params, vcpus)
  if (refused !== undefined) return refused
  const hkid = freeKeyId(host.data.kot)
  if (hkid < 0) return refuse('ENOSPC', 'no-hkid', 'All private key ids are in use.')
  const count = 1 + MIN_TDCX + vcpus * VCPU_PAGES
  const frames = allocate(host.machine, count)
  if (frames === undefined)
    return refuse('ENOMEM', 'no-control-pages', `There is no memory for the TD's ${count} control pages.`)
  if (!frames.every((frame) => isFree(host.data.pamt, frame, 1))) {
    for (const frame of frames) host.machine.freeFrame(frame)
    return refuse('EIO', 'page-not-free', 'A page the kernel holds for free is not PT_NDA: the module refuses it.')
  }
  build(host, frames, hkid, params, vcpus, config.tdHob === undefined ? 0n : addressValue(config.tdHob))
  const pages = PageMap.create()
  for (const frame of frames) PageMap.set(pages, frame, OWNED)
  host.data.vms.set(vm, {
    tdr: frames[0] ?? -1,
    exitHypercall: config.exitHypercall ?? true,
    pages,
    steps: [],
    dead: false,
  })
  return OK
}

function paramsOf(config: Config, vcpus: number): TdParams {
  const wide = config.gpaw === 52
  const digest = (hex = ''): Uint8Array => Uint8Array.from(hex === '' ? Buffer.alloc(48) : Buffer.from(hex, 'hex'))
  return {
    attributes: addressValue(config.attributes ?? DEFAULT_ATTRIBUTES),
    xfam: addressValue(config.xfam ?? DEFAULT_XFAM),
    maxVcpus: config.maxVcpus ?? vcpus,
    l2Vms: 0,
    eptpControls: eptpControlsFor(wide),
    configFlags: (wide ? CONFIG_FLAG.GPAW : 0) | (config.flexiblePendingVe ? CONFIG_FLAG.FLEXIBLE_PENDING_VE : 0),
    tscFrequency: config.tscFrequency ?? DEFAULT_TSC_FREQUENCY,
    mrconfigid: digest(config.mrconfigid),
    mrowner: digest(config.mrowner),
    mrownerconfig: digest(config.mrownerconfig),
  }
}

function judge(params: TdParams, vcpus: number): Verdict | undefined {
  if ((params.attributes & ~SUPPORTED_ATTRIBUTES) !== 0n)
    return refuse(
      'EINVAL',
      'attributes-unsupported',
      'KVM supports SEPT_VE_DISABLE and PERFMON only.',
      '/config/attributes',
    )
  const parsed = parseTdParams(encodeTdParams(params), 0)
  if (!parsed.ok) return seamcallRefused('EINVAL', 'TDH.MNG.INIT', parsed.answer, fieldOf(parsed.answer))
  if (vcpus > params.maxVcpus)
    return refuse('EINVAL', 'too-many-vcpus', `The TD has at most ${params.maxVcpus} vCPUs.`, '/config/maxVcpus')
  return undefined
}

const FIELDS: Readonly<Record<string, string>> = {
  ATTRIBUTES: '/config/attributes',
  XFAM: '/config/xfam',
  MAX_VCPUS: '/config/maxVcpus',
  TSC_FREQUENCY: '/config/tscFrequency',
}
const fieldOf = ({ outputs }: Answer): string | undefined => FIELDS[String(outputs?.operand)]

function allocate(machine: Machine, count: number): number[] | undefined {
  const frames: number[] = []
  while (frames.length < count) {
    const frame = machine.allocateFrame()
    if (frame < 0) {
      for (const taken of frames) machine.freeFrame(taken)
      return undefined
    }
    frames.push(frame)
  }
  return frames
}

function build(
  host: Host,
  frames: readonly number[],
  hkid: number,
  params: TdParams,
  vcpus: number,
  initialRcx: bigint,
): void {
  const words = frames.map(wordOf)
  const next = (): bigint => words.shift() ?? -1n
  const tdr = next()
  must(mngCreate(host, tdr, hkid))
  for (let onPackage = 0; onPackage < host.data.kot.packages; onPackage++) must(mngKeyConfig(host, tdr, onPackage))
  for (let page = 0; page < MIN_TDCX; page++) must(mngAddcx(host, next(), tdr))
  must(mngInit(host, tdr, encodeTdParams(params)))
  for (let lp = 0; lp < vcpus; lp++) {
    const tdvpr = next()
    must(vpCreate(host, tdvpr, tdr))
    for (let page = 1; page < VCPU_PAGES; page++) must(vpAddcx(host, next(), tdvpr))
    must(vpInit(host, tdvpr, initialRcx, lp))
  }
}

function must({ status }: Answer): void {
  if (status.name !== 'TDX_SUCCESS') throw new Error(`the module refused with ${status.name} what was checked before`)
}

/** Whether SEAMCALLs on the TD's memory are answered at all (intel-tdx.md 0.3 step 2). */
export const isAlive = (td: Td): boolean => !td.fatal && td.lifecycle === LIFECYCLE.KEYS_CONFIGURED

/** A dead guest never runs again: KVM gave it up, a machine check killed the TD, or somebody has begun to tear it down. */
export function vmState({ data }: Host, vm: string): 'launching' | 'running' | 'dead' {
  const td = tdOf(data, vm)
  if (td === undefined || !isAlive(td) || vmOf(data, vm).dead) return 'dead'
  return td.opState === OP_STATE.RUNNABLE ? 'running' : 'launching'
}

/** Tears the TD down in the only order that works, and gives the kernel its pages back (a.5). */
export function destroyVm(host: Host, vm: string): void {
  const { pages } = vmOf(host.data, vm)
  const td = tdOf(host.data, vm)
  if (td !== undefined) tearDown(host, td)
  PageMap.forEachRun(pages, 0, host.data.frames, (start, end, owned) => {
    if (owned === OWNED) for (let frame = start; frame < end; frame++) host.machine.freeFrame(frame)
  })
  host.data.vms.delete(vm)
}

/** The kernel's page `frame` is the module's until the VM is gone. */
export const keep = (host: Host, vm: string, frame: number, count: number): void =>
  PageMap.setRange(vmOf(host.data, vm).pages, frame, frame + count, OWNED)
