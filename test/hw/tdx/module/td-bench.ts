import { hash } from 'node:crypto'
import { serialize } from 'node:v8'
import type { CallResult, GuestContext, HostEvent, Machine } from '../../../../src/hw/contract.ts'
import type { TdxHardware } from '../../../../src/hw/tdx/calls/call-definition.ts'
import { tdxCalls } from '../../../../src/hw/tdx/calls/calls.ts'
import { createData, type Host, openHost, type TdxData, type VmRecord } from '../../../../src/hw/tdx/data.ts'
import type { Td } from '../../../../src/hw/tdx/module/td.ts'
import type { Vcpu } from '../../../../src/hw/tdx/module/vcpu.ts'

/** Memory as a map. The module allocates no page by itself. */
export class FakeMachine implements Machine {
  readonly frames: number
  readonly pages = new Map<number, Uint8Array>()
  readonly events: HostEvent[] = []

  constructor(frames: number) {
    this.frames = frames
  }
  read(frame: number): Uint8Array | undefined {
    return this.pages.get(frame)
  }
  write(frame: number, bytes: Uint8Array | undefined): void {
    if (bytes === undefined) this.pages.delete(frame)
    else if (bytes.length === 4096) this.pages.set(frame, bytes)
    else throw new Error(`a page of ${bytes.length} bytes`)
  }
  clear(frame: number, count: number): void {
    for (const held of this.pages.keys()) if (held >= frame && held < frame + count) this.pages.delete(held)
  }
  allocateFrame(): number {
    throw new Error('the module allocates nothing')
  }
  allocateBlock(): number {
    return -1
  }
  freeFrame(): void {
    throw new Error('the module frees nothing')
  }
  crash(reason: string): void {
    throw new Error(reason)
  }
  note(event: HostEvent): void {
    this.events.push(event)
  }
}

/** 4 GiB. PAMT lies at the top. */
export const FRAMES = 0x100000
export const VM = 'vm-1'
export const TDR = 0x10
export const TDCX = 0x20
export const TDVPR = 0x40
/** Pages of Secure EPT tables that {@link addTables} uses, from here on. */
export const TABLES = 0x100
/** First frame of a 1G-aligned area, free to tests, and a gfn that is so too. */
export const FRAME = 0x40000
export const GFN = 0x80000
/** A frame that holds bytes for PAGE.ADD. */
export const SOURCE = 0x200

export type Bench = {
  readonly machine: FakeMachine
  readonly host: Host
  readonly data: TdxData
  /** Runs a call as the host or as the guest. */
  run(name: string, args?: Readonly<Record<string, unknown>>, vcpu?: number): CallResult
  asOther(name: string, args?: Readonly<Record<string, unknown>>): CallResult
}

export const CALLS = tdxCalls({
  handle: (_host, _td, _vcpu, registers, _guest, exit) => ({
    kind: 'done',
    status: { name: 'SUCCESS', code: '0x0' },
    outputs: { ...exit.outputs, r11: `0x${registers.r11.toString(16)}` },
  }),
})

export const callNamed = (name: string) => {
  const call = CALLS.find((candidate) => candidate.name === name)
  if (call === undefined) throw new Error(`no call ${name}`)
  return call
}

/** A machine without any TD; the VM's TD would be at {@link TDR}. */
export function createEmptyBench(): Bench {
  const machine = new FakeMachine(FRAMES)
  const data = createData({ frames: FRAMES, seed: 'test' })
  data.vms.set(VM, { tdr: TDR } as VmRecord)
  const host = openHost(data, machine)
  const hardware = { host } as unknown as TdxHardware
  const context = (by: 'guest' | 'host', vcpu: number): GuestContext => ({
    vm: VM,
    vcpu,
    by,
    translate: () => undefined,
  })
  const other = { guest: 'host', host: 'guest' } as const
  return {
    machine,
    host,
    data,
    run: (name, args = {}, vcpu = 0) => {
      const call = callNamed(name)
      return call.run(hardware, args, context(call.by, vcpu))
    },
    asOther: (name, args = {}) => {
      const call = callNamed(name)
      return call.run(hardware, args, context(other[call.by], 0))
    },
  }
}

export const hpa = (frame: number): string => `0x${(BigInt(frame) << 12n).toString(16)}`
export const gpa = hpa

/** The code of a call that must be done. */
export function codeOf(result: CallResult): string {
  if (result.kind !== 'done') throw new Error(`the call is not done but ${result.kind}`)
  return String(result.status.code)
}
export const outputsOf = (result: CallResult): Readonly<Record<string, unknown>> => {
  if (result.kind !== 'done') throw new Error(`the call is not done but ${result.kind}`)
  return result.outputs ?? {}
}

/** Runs a call that must succeed. */
export function must(
  bench: Bench,
  name: string,
  args: Readonly<Record<string, unknown>> = {},
  vcpu = 0,
): Readonly<Record<string, unknown>> {
  const result = bench.run(name, args, vcpu)
  const code = codeOf(result)
  if (code !== '0x0') throw new Error(`${name} ${JSON.stringify(args)} answers ${code}`)
  return outputsOf(result)
}

export const STAGES = ['created', 'keyed', 'allocated', 'initialized', 'with vCPU', 'runnable'] as const
export type Stage = (typeof STAGES)[number]

export type TdOptions = {
  readonly params?: Readonly<Record<string, unknown>>
  readonly tdr?: number
  /** Where its other pages begin. */
  readonly base?: number
  readonly vcpus?: number
}

/** Brings a new TD to a stage, by calls alone. */
export function buildTd(bench: Bench, stage: Stage, options: TdOptions = {}): Td {
  const { params = {}, tdr = TDR, vcpus = 1 } = options
  const base = options.base ?? 0
  const at = STAGES.indexOf(stage)
  must(bench, 'TDH.MNG.CREATE', { page: hpa(tdr) })
  if (at >= 1) for (const index of [0, 1]) must(bench, 'TDH.MNG.KEY.CONFIG', { tdr: hpa(tdr), package: index })
  if (at >= 2)
    for (let index = 0; index < 6; index++)
      must(bench, 'TDH.MNG.ADDCX', { tdr: hpa(tdr), page: hpa(base + TDCX + index) })
  if (at >= 3) must(bench, 'TDH.MNG.INIT', { tdr: hpa(tdr), params: { maxVcpus: 4, ...params } })
  if (at >= 4) for (let index = 0; index < vcpus; index++) addVcpu(bench, tdr, base + TDVPR + 8 * index, index)
  if (at >= 5) must(bench, 'TDH.MR.FINALIZE', { tdr: hpa(tdr) })
  return tdOf(bench, tdr)
}

export const tdOf = (bench: Bench, tdr = TDR): Td => {
  const td = bench.data.tds.get(tdr)
  if (td === undefined) throw new Error(`no TD at ${tdr}`)
  return td
}

export function addVcpu(bench: Bench, tdr: number, tdvpr: number, lp: number): void {
  must(bench, 'TDH.VP.CREATE', { tdr: hpa(tdr), page: hpa(tdvpr) })
  for (let index = 1; index < 6; index++) must(bench, 'TDH.VP.ADDCX', { page: hpa(tdvpr + index), tdvpr: hpa(tdvpr) })
  must(bench, 'TDH.VP.INIT', { tdvpr: hpa(tdvpr), initialRcx: '0x810000', lp })
}

export const vcpuOf = (bench: Bench, index = 0): Vcpu => {
  const td = tdOf(bench)
  const vcpu = td.vcpus.get(td.indexed[index] ?? -1)
  if (vcpu === undefined) throw new Error(`no vCPU ${index}`)
  return vcpu
}

/** Adds the tables that entries of `level` for `gfn` need, from pages at `from`. */
export function addTables(bench: Bench, gfn: number, level = 0, from = TABLES): void {
  let page = from
  for (let at: number = tdOf(bench).sept.top; at > level; at--) {
    const aligned = gfn - (gfn % 512 ** at)
    must(bench, 'TDH.MEM.SEPT.ADD', {
      gpa: gpa(aligned),
      level: at,
      page: hpa(page++),
      version: 1,
      allowExisting: true,
    })
  }
}

/** A bench with a TD of this stage that has tables down to 4K entries at {@link GFN}. */
export function createBench(stage: Stage = 'runnable', options: TdOptions = {}): Bench {
  const bench = createEmptyBench()
  buildTd(bench, stage, options)
  if (STAGES.indexOf(stage) >= 3) addTables(bench, GFN)
  return bench
}

/** The whole state as one comparable text: what a refusal must leave as it was. */
export const fingerprint = ({ data, machine }: Bench): string => hash('sha256', serialize([data, machine.pages]))

/** Runs a call that must answer this code and change nothing. */
export function refuses(
  bench: Bench,
  code: string,
  name: string,
  args: Readonly<Record<string, unknown>> = {},
  vcpu = 0,
): Readonly<Record<string, unknown>> {
  const before = fingerprint(bench)
  const result = bench.run(name, args, vcpu)
  if (codeOf(result) !== code) throw new Error(`${name} ${JSON.stringify(args)} answers ${codeOf(result)}, not ${code}`)
  if (fingerprint(bench) !== before) throw new Error(`${name} ${JSON.stringify(args)} refuses and changes something`)
  return outputsOf(result)
}

/** State of the entry of a level, as SEPT.RD tells it. */
export const stateAt = (bench: Bench, gfn: number, level = 0): string =>
  (outputsOf(bench.run('TDH.MEM.SEPT.RD', { gpa: gpa(gfn), level })).entry as { state: string }).state

/** Type of a page as PAGE.RDMD tells it, with its size where it isn't 4K. */
export function typeAt(bench: Bench, frame: number): string {
  const { type, level } = must(bench, 'TDH.PHYMEM.PAGE.RDMD', { page: hpa(frame) }).page as {
    type: string
    level: number
  }
  return level === 0 ? type : `${type} ${level}`
}
