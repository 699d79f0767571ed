import type { LaunchLog, LaunchPlan, LaunchStep, PlanStep, Verdict } from '../../contract.ts'
import { addressOf, addressValue } from '../../shared/address-schema.ts'
import { hexOf } from '../../shared/hex.ts'
import type { FinishOptions, ImageQuery, UpdateOptions } from '../config.ts'
import { type Host, type LaunchStepRecord, realmOf, type VmRecord, vmOf } from '../data.ts'
import { digestBytes } from '../measurement/digest.ts'
import { type LaunchStep as Planned, planLaunch } from '../measurement/launch-plan.ts'
import { extendData, REC_RUNNABLE } from '../measurement/rim.ts'
import { VMMS } from '../measurement/vmms.ts'
import { areAll, GRANULE } from '../rmm/granules.ts'
import type { Realm } from '../rmm/realm.ts'
import { AUX_COUNT, mpidrOf } from '../rmm/rec.ts'
import { recCreate } from '../rmm/rec-commands.ts'
import { rttInitRipas } from '../rmm/ripas-commands.ts'
import { stateAt, walkLevel } from '../rmm/rtt.ts'
import { delegateRange, mapRamPage } from '../rmm/rtt-ranges.ts'
import { isData } from '../rmm/states.ts'
import { giveGranuleBack, takeGranule } from './granule-pool.ts'
import { ensureTables, splitAt } from './private-memory.ts'
import { OK, refuse, rmiRefused } from './refusal.ts'

type Options = Readonly<Record<string, unknown>>
type Opened = { readonly realm: Realm; readonly record: VmRecord }

const PAGE_BYTES = 4096
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)
const REGISTERS = 8
const LEAF = 3
const NO_TABLE = refuse('ENOMEM', 'no-table-page', 'There is no memory for a translation table.')
const DEFAULT_RAM = 512n * 1024n * 1024n

/** A Realm that is NEW, which is when memory and RECs count: POPULATE of another is EPERM (arm-cca.md 9). */
function open(host: Host, vm: string): Verdict<Opened> {
  const realm = realmOf(host.data, vm)
  if (realm?.state !== 'NEW') return refuse('EPERM', 'realm-not-new', 'A Realm is populated only while it is NEW.')
  return { ok: true, value: { realm, record: vmOf(host.data, vm) } }
}

/** POPULATE_REALM always has a source page, and looks at the Realm before it takes any memory (9). */
export function launchSource(host: Host, vm: string): Verdict<'bytes'> {
  const opened = open(host, vm)
  return opened.ok ? { ok: true, value: 'bytes' } : opened
}

/**
 * One page of POPULATE_REALM (arm-cca.md 9): KVM copies the source to a temporary page, delegates the page, and DATA_CREATE
 * copies it in, which extends the RIM whether its content is measured or not.
 */
export function launchPage(
  host: Host,
  vm: string,
  gfn: number,
  frame: number,
  source: Uint8Array | undefined,
  options: Options,
): Verdict {
  const opened = open(host, vm)
  if (!opened.ok) return opened
  const { realm, record } = opened.value
  if (gfn >= realm.rtt.unprotectedPage)
    return refuse('EINVAL', 'ipa-unprotected', 'The address is not in the protected half of the IPA space.', '/gpa')
  if (isData(stateAt(realm.rtt, gfn)))
    return refuse('ENXIO', 'page-assigned', `Page ${addressOf(gfn)} is assigned already: each page is created once.`)
  if (!areAll(host.data.granules, frame, 1, GRANULE.UNDELEGATED))
    return refuse('ENXIO', 'granule-not-delegable', 'The page cannot be delegated.')
  const reached = walkLevel(realm.rtt, gfn, LEAF)
  if (!ensureTables(host, vm, realm, gfn, gfn + 1))
    return walkLevel(realm.rtt, gfn, LEAF) === reached ? NO_TABLE : withEffects(NO_TABLE)
  const { measure = true } = options as UpdateOptions
  const bytes = source === undefined ? undefined : new Uint8Array(source)
  delegateRange(host, frame, 1)
  const ipa = BigInt(gfn) * BigInt(PAGE_BYTES)
  realm.rim = extendData(realm.hashAlgo, realm.rim, ipa, measure ? 1 : 0, bytes ?? ZERO_PAGE)
  host.machine.write(frame, bytes)
  mapRamPage(host.data.granules, realm, gfn, frame)
  note(record, realm, measure ? 'data' : 'data-unmeasured', gfn, 1)
  return OK
}

function note(
  record: VmRecord,
  realm: Realm,
  operation: LaunchStepRecord['operation'],
  gfn: number,
  pages: number,
): void {
  const last = record.steps.at(-1)
  if (last !== undefined && operation !== 'rec' && last.operation === operation && last.gfn + last.pages === gfn) {
    last.pages += pages
    last.rimAfter = realm.rim
  } else record.steps.push({ operation, gfn, pages, rimAfter: realm.rim })
}

/** The steps of a launch that populate nothing: RTT_INIT_RIPAS over a range, REC_CREATE of a vCPU. */
export function launchMeasure(host: Host, vm: string, gfn: number, pages: number, options: Options): Verdict {
  const opened = open(host, vm)
  if (!opened.ok) return opened
  const { operation, ...rec } = options
  if (operation === 'init-ripas') return initRipas(host, vm, opened.value, gfn, gfn + pages)
  return createRec(host, opened.value, rec as unknown as RecOptions)
}

/** INIT_RIPAS_REALM: entry by entry, with tables where an entry is larger than the rest of the range (5, 8). */
function initRipas(host: Host, vm: string, { realm, record }: Opened, start: number, end: number): Verdict {
  if (end > realm.rtt.unprotectedPage)
    return refuse('EINVAL', 'ipa-unprotected', 'The range is not in the protected half of the IPA space.')
  if (!splitAt(host, vm, realm, start, end)) return NO_TABLE
  for (let at = start; at < end; ) {
    const answer = rttInitRipas(host, { rd: bytesOf(realm.rd), base: bytesOf(at), top: bytesOf(end) })
    if (answer.status.code !== 0) return rmiRefused('RMI_RTT_INIT_RIPAS', answer)
    const next = Number(BigInt(String(answer.outputs?.out_top)) / BigInt(PAGE_BYTES))
    note(record, realm, 'init-ripas', at, next - at)
    at = next
  }
  return OK
}

const bytesOf = (frame: number): bigint => BigInt(frame) * BigInt(PAGE_BYTES)

/** Registers as a plan hands them on: hex strings, for a command is plain JSON. */
type RecOptions = { readonly flags: string; readonly pc: string; readonly gprs: readonly string[] }

/** KVM_ARM_VCPU_FINALIZE: a REC with its auxiliary granules, for the next vCPU. */
function createRec(host: Host, { realm, record }: Opened, { flags, pc, gprs }: RecOptions): Verdict {
  const granules: number[] = []
  while (granules.length <= AUX_COUNT) {
    const granule = takeGranule(host, record.pages)
    if (granule < 0) {
      for (const taken of granules) giveGranuleBack(host, record.pages, taken)
      return refuse('ENOMEM', 'no-rec-page', 'There is no memory for a REC.')
    }
    granules.push(granule)
  }
  const [rec = 0, ...aux] = granules
  const answer = recCreate(host, bytesOf(realm.rd), bytesOf(rec), {
    flags: BigInt(flags),
    mpidr: mpidrOf(realm.recs.length),
    pc: BigInt(pc),
    gprs: gprs.map(BigInt),
    numAux: AUX_COUNT,
    aux: aux.map(bytesOf),
  })
  if (answer.status.code !== 0) return rmiRefused('RMI_REC_CREATE', answer)
  note(record, realm, 'rec', 0, 0)
  return OK
}

const PARKED: RecOptions = { flags: '0x0', pc: '0x0', gprs: Array.from({ length: REGISTERS }, () => '0x0') }

/** The RIPAS asked for, the RECs that are not there yet, ACTIVATE_REALM: what KVM v12 does at the first KVM_RUN (9). */
export function launchFinish(host: Host, vm: string, options: Options): Verdict {
  const opened = open(host, vm)
  if (!opened.ok) return opened
  const { realm, record } = opened.value
  const { entry = 0, x0 = 0, ripas = [] } = options as FinishOptions
  for (const [index, range] of ripas.entries()) {
    const [start, end] = [addressValue(range.gpa), addressValue(range.gpa) + addressValue(range.length)]
    if (start % 4096n !== 0n || end % 4096n !== 0n || end <= start || end > bytesOf(realm.rtt.unprotectedPage))
      return refuse('EINVAL', 'ripas-range', 'A range of RAM is whole pages in the protected half.', `/ripas/${index}`)
  }
  for (const { gpa, length } of ripas) {
    const start = Number(addressValue(gpa) / 4096n)
    const done = initRipas(host, vm, opened.value, start, start + Number(addressValue(length) / 4096n))
    if (!done.ok) return withEffects(done)
  }
  while (realm.recs.length < record.vcpus) {
    const boot = realm.recs.length === 0
    const registers = PARKED.gprs.map((zero, index) => (index === 0 ? `0x${addressValue(x0).toString(16)}` : zero))
    const booting = { flags: `0x${REC_RUNNABLE}`, pc: `0x${addressValue(entry).toString(16)}`, gprs: registers }
    const made = createRec(host, opened.value, boot ? booting : PARKED)
    if (!made.ok) return withEffects(made)
  }
  realm.state = 'ACTIVE'
  return OK
}

const withEffects = (verdict: Verdict): Verdict =>
  verdict.ok ? verdict : { ok: false, refusal: { ...verdict.refusal, effects: true } }

const number = (text: string | undefined): bigint | undefined => (text === undefined ? undefined : BigInt(text))

/** What the named VMM does with one image, a firmware or a kernel (arm-cca.md 9). */
export function launchPlan(host: Host, vm: string, image: Uint8Array, query: Options): Verdict<LaunchPlan> {
  const opened = open(host, vm)
  if (!opened.ok) return opened
  const { realm, record } = opened.value
  const { vmm = 'qemu', ...given } = query as ImageQuery
  const machine = VMMS[vmm]
  const ramSize = number(given.ramSize) ?? DEFAULT_RAM
  const base = number(given.base) ?? (machine.firmwareEntry === undefined ? bytesOf(machine.ramGfn) : 0n)
  if (ramSize % 4096n !== 0n || ramSize === 0n) return refuse('EINVAL', 'ram-size', 'RAM is whole pages.', '/ramSize')
  if (base % 4096n !== 0n) return refuse('EINVAL', 'base-unaligned', 'The image begins on a page.', '/base')
  const x0 = number(given.x0) ?? 0n
  const gprs = Array.from({ length: REGISTERS }, (_, index) => (index === 0 ? x0 : 0n))
  const plan = planLaunch(machine.order, {
    ram: { gfn: machine.ramGfn, pages: Number(ramSize / 4096n) },
    images: [
      {
        gfn: Number(base / 4096n),
        pages: Math.max(1, Math.ceil(image.length / PAGE_BYTES)),
        bytes: image,
        measured: true,
        pointer: '/image',
      },
    ],
    log: undefined,
    boot: { pc: number(given.entry) ?? base, gprs },
    vcpus: record.vcpus,
    protectedPages: realm.rtt.unprotectedPage,
  })
  if (!plan.ok) return plan
  const steps = plan.steps.filter((step) => step.op !== 'activate')
  return { ok: true, value: { steps: steps.map(planStep), finish: {} } }
}

function planStep(step: Exclude<Planned, { op: 'activate' }>): PlanStep {
  if (step.op === 'populate')
    return { gfn: step.gfn, pages: step.pages, bytes: step.bytes, options: { measure: step.measured } }
  if (step.op === 'init-ripas') {
    const options = { operation: step.op }
    return { gfn: step.gfn, pages: step.pages, bytes: undefined, options, measureOnly: true }
  }
  const hex = (value: bigint): string => `0x${value.toString(16)}`
  const options = { operation: step.op, flags: hex(step.flags), pc: hex(step.pc), gprs: step.gprs.map(hex) }
  return { gfn: 0, pages: 0, bytes: undefined, options, measureOnly: true }
}

/** The log, with the RIM after each step, and the copies that population costs: source → temporary page → granule. */
export function launchLog(host: Host, vm: string): LaunchLog {
  const realm = realmOf(host.data, vm)
  if (realm === undefined) return { state: 'DESTROYED', digest: null, steps: [] }
  const shown = (rim: Uint8Array): string => hexOf(rim.subarray(0, digestBytes(realm.hashAlgo)))
  const { steps } = vmOf(host.data, vm)
  return {
    state: realm.state,
    digest: shown(realm.rim),
    steps: steps.map((step) => presentStep(step, shown(step.rimAfter))),
  }
}

const COPIES = 2

function presentStep({ operation, gfn, pages }: LaunchStepRecord, digestAfter: string): LaunchStep {
  if (operation === 'rec') return { operation, digestAfter }
  const copies = operation === 'init-ripas' ? {} : { copies: COPIES * pages }
  return { operation, gpa: addressOf(gfn), pages, ...copies, digestAfter }
}
