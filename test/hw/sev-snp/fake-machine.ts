import type { CallResult, GuestContext, HostEvent, Machine, Mapping, VmOptions } from '../../../src/hw/contract.ts'
import type { SnpHardware } from '../../../src/hw/sev-snp/call-definition.ts'
import type { SnpData } from '../../../src/hw/sev-snp/data.ts'
import { backend } from '../../../src/hw/sev-snp/index.ts'
import { entryOf } from '../../../src/hw/sev-snp/rmp.ts'
import { LARGE } from '../../../src/hw/sev-snp/states.ts'

/** Memory as a map, frames handed out from `next`, and everything the host was told. */
export class FakeMachine implements Machine {
  readonly frames: number
  readonly pages = new Map<number, Uint8Array>()
  readonly events: HostEvent[] = []
  readonly freed: number[] = []
  next: number
  crashed: string | undefined

  constructor(frames: number, next: number) {
    this.frames = frames
    this.next = next
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
    for (let at = frame; at < frame + count; at++) this.pages.delete(at)
  }
  allocateFrame(): number {
    return this.freed.pop() ?? (this.next < this.frames ? this.next++ : -1)
  }
  allocateBlock(): number {
    return -1
  }
  freeFrame(frame: number): void {
    this.freed.push(frame)
  }
  crash(reason: string): void {
    this.crashed ??= reason
  }
  note(event: HostEvent): void {
    this.events.push(event)
  }
}

/** 64 MiB: frames 0 to 0x3dff are free to tests, from 0x3000 on the machine allocates. */
export const FRAMES = 0x4000
export const ALLOCATE_FROM = 0x3000
export const VM = 'vm-1'
/** First frame and gfn of a 2M-aligned area for tests. */
export const FRAME = 0x400
export const GFN = 0x80000

export type Bench = {
  readonly machine: FakeMachine
  readonly hardware: SnpHardware
  readonly data: SnpData
  /** Nested mappings by gfn, made by hand. */
  readonly mappings: Map<number, Mapping>
  readonly guest: GuestContext
  host(name: string, args: Readonly<Record<string, unknown>>): CallResult
  asGuest(name: string, args: Readonly<Record<string, unknown>>): CallResult
}

export const vmOptions = (vm: string, more: Partial<VmOptions> = {}): VmOptions => ({
  vm,
  vcpus: 1,
  config: {},
  preparedByFallocate: true,
  ...more,
})

/** A machine with one launching VM. */
export function createBench(more: Partial<VmOptions> = {}): Bench {
  const bench = createEmptyBench()
  const created = bench.hardware.createVm(vmOptions(VM, more))
  if (!created.ok) throw new Error(created.refusal.detail)
  return bench
}

export function createEmptyBench(seed = 'test'): Bench {
  const machine = new FakeMachine(FRAMES, ALLOCATE_FROM)
  const data = backend.createData({ frames: FRAMES, seed }) as SnpData
  const hardware = backend.open(data, machine) as SnpHardware
  const mappings = new Map<number, Mapping>()
  const context = (by: 'guest' | 'host'): GuestContext => ({
    vm: VM,
    vcpu: 0,
    by,
    translate: (gfn) => mappings.get(gfn),
  })
  const call = (by: 'guest' | 'host') => (name: string, args: Readonly<Record<string, unknown>>) => {
    const found = backend.calls.find((candidate) => candidate.name === name)
    if (found === undefined) throw new Error(`no call ${name}`)
    return found.run(hardware, args, context(by))
  }
  return { machine, hardware, data, mappings, guest: context('guest'), host: call('host'), asGuest: call('guest') }
}

/** Maps `count` pages privately, at the size of the RMP entry, as KVM does. */
export function mapPrivate(bench: Bench, gfn: number, frame: number, count = 1): void {
  for (let index = 0; index < count; index++) {
    const span = entryOf(bench.data.rmp, frame + index) & LARGE ? 512 : 1
    bench.mappings.set(gfn + index, { frame: frame + index, span, private: true })
  }
}

export const hpa = (frame: number): string => `0x${(frame * 4096).toString(16)}`

/** The code of a call that must be done. */
export function codeOf(result: CallResult): number {
  if (result.kind !== 'done') throw new Error(`the call is not done but ${result.kind}`)
  return Number(result.status.code)
}

/** The whole state as one comparable text: what a refusal must leave as it was. */
export const fingerprint = ({ data, machine }: Bench): string =>
  JSON.stringify([data, [...machine.pages]], (_key, value: unknown) => {
    if (value instanceof Map) return [...value]
    if (typeof value === 'bigint') return value.toString()
    return ArrayBuffer.isView(value)
      ? Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('hex')
      : value
  })
