import { hash } from 'node:crypto'
import { serialize } from 'node:v8'
import type { CcaHardware } from '../../../../src/hw/cca/calls/call-definition.ts'
import { ccaCalls } from '../../../../src/hw/cca/calls/calls.ts'
import { type CcaData, createData, type Host } from '../../../../src/hw/cca/data.ts'
import { exitOutputs } from '../../../../src/hw/cca/rmm/exits.ts'
import type { Realm } from '../../../../src/hw/cca/rmm/realm.ts'
import type { Rec } from '../../../../src/hw/cca/rmm/rec.ts'
import type { CallResult, GuestContext, HostEvent, Machine } from '../../../../src/hw/contract.ts'

/** Memory as a map, whose pages the host can lend from frame {@link LENT} on. */
export class FakeMachine implements Machine {
  readonly frames: number
  readonly pages = new Map<number, Uint8Array>()
  readonly lent = new Set<number>()

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
    if (count === 1) this.pages.delete(frame)
    else for (const held of this.pages.keys()) if (held >= frame && held < frame + count) this.pages.delete(held)
  }
  allocateFrame(): number {
    for (let frame = LENT; frame < LENT + LENDABLE; frame++) {
      if (this.lent.has(frame)) continue
      this.lent.add(frame)
      return frame
    }
    return -1
  }
  freeFrame(frame: number): void {
    if (!this.lent.delete(frame)) throw new Error(`frame ${frame} was not lent`)
  }
  allocateBlock(): number {
    throw new Error('the RMM takes no blocks')
  }
  crash(reason: string): void {
    throw new Error(reason)
  }
  note(event: HostEvent): void {
    throw new Error(event.name)
  }
}

/** 8 GiB. */
export const FRAMES = 0x200000
export const LENT = 0x1000
const LENDABLE = 64
export const VM = 'vm-1'

export type Args = Readonly<Record<string, unknown>>
export type Bench = {
  readonly machine: FakeMachine
  readonly host: Host
  readonly data: CcaData
  /** Runs a call on the side it is made for. */
  run(name: string, args?: Args, vcpu?: number): CallResult
  asOther(name: string, args?: Args): CallResult
}

/** What KVM is given of an exit, in place of KVM. */
export const CALLS = ccaCalls({
  handle: (_host, _realm, _rec, exit) => ({
    kind: 'done',
    status: { name: 'KVM', code: 0 },
    outputs: exitOutputs(exit),
  }),
})
const BY_NAME = new Map(CALLS.map((call) => [call.name, call]))

export function callNamed(name: string) {
  const call = BY_NAME.get(name)
  if (call === undefined) throw new Error(`no call ${name}`)
  return call
}

/** A token that shows what it was made of. */
export const fakeToken = (realm: Realm, challenge: Uint8Array): Uint8Array =>
  Uint8Array.from({ length: 2500 }, (_, index) => (challenge[index % 64] ?? 0) ^ (realm.rim[index % 64] ?? 0) ^ index)

/** A machine without any Realm; the VM's would have its RD at {@link RD}. */
export function createEmptyBench(): Bench {
  const machine = new FakeMachine(FRAMES)
  const data = createData({ frames: FRAMES, seed: 'test' })
  data.vms.set(VM, { rd: RD } as never)
  const host: Host = { data, machine, token: fakeToken }
  const hardware = { host } as unknown as CcaHardware
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
    run(name, args = {}, vcpu = 0) {
      const call = callNamed(name)
      return call.run(hardware, args, context(call.by, vcpu))
    },
    asOther(name, args = {}) {
      const call = callNamed(name)
      return call.run(hardware, args, context(other[call.by], 0))
    },
  }
}

/** Where tests have things, as frames. {@link DATA} begins an area aligned to 1 GiB that is DELEGATED as it is needed. */
export const RD = 0x10
export const ROOT = 0x20
export const REC = 0x40
/** A second REC, and one that stays DELEGATED. */
export const REC2 = 0x41
export const SPARE = 0x42
export const TABLES = 0x80
export const SOURCE = 0x200
export const DATA = 0x40000

export const pa = (frame: number): string => `0x${(frame * 4096).toString(16)}`
export const ipa = pa

/** What a call says, in the manner of the traces: status name, index, outputs. */
export type Said = Readonly<Record<string, unknown>> & { readonly status: string; readonly code: unknown }
export function said(result: CallResult): Said {
  if (result.kind !== 'done') throw new Error(`the call is not done but ${result.kind}`)
  return { ...result.outputs, status: result.status.name, code: result.status.code }
}
export const ask = (bench: Bench, name: string, args: Args = {}, vcpu = 0): Said => said(bench.run(name, args, vcpu))

/** Runs a call that must succeed. */
export function must(bench: Bench, name: string, args: Args = {}, vcpu = 0): Said {
  const answer = ask(bench, name, args, vcpu)
  if (answer.code !== 0)
    throw new Error(`${name} ${JSON.stringify(args)} answers ${answer.status} ${answer.index ?? ''}`)
  return answer
}

/** The whole state as one comparable text: what a refusal must leave as it was. */
export const fingerprint = ({ data, machine }: Bench): string =>
  hash('sha256', serialize([data, machine.pages, machine.lent]))

/** A refusal in short: `INPUT`, `REC`, `REALM,0`, `RTT,2`. */
export function short(answer: Said): string {
  const name = answer.status.replace(/^R[MS]I_(?:ERROR_)?/, '')
  return answer.index === undefined ? name : `${name},${answer.index}`
}

/** Runs a call that must be refused so, and change nothing. */
export function refuses(bench: Bench, expected: string, name: string, args: Args = {}, vcpu = 0): Said {
  const before = fingerprint(bench)
  const answer = ask(bench, name, args, vcpu)
  if (short(answer) !== expected)
    throw new Error(`${name} ${JSON.stringify(args)} answers ${short(answer)}, not ${expected}`)
  if (fingerprint(bench) !== before) throw new Error(`${name} ${JSON.stringify(args)} refuses and changes something`)
  return answer
}

export function delegate(bench: Bench, frame: number, count = 1): void {
  for (let at = frame; at < frame + count; at++) must(bench, 'RMI_GRANULE_DELEGATE', { addr: pa(at) })
}

export type RealmOptions = {
  readonly s2sz?: number
  readonly level?: number
  readonly tables?: number
  readonly fields?: Args
}

/** A NEW Realm at {@link RD} with spare granules; s2sz 40 with its root at level 0 unless asked otherwise. */
export function createRealm(options: RealmOptions = {}): Bench {
  const { s2sz = 40, level = 0, tables = 1, fields = {} } = options
  const bench = createEmptyBench()
  delegate(bench, RD)
  delegate(bench, ROOT, tables)
  delegate(bench, REC, 3)
  delegate(bench, TABLES, 32)
  must(bench, 'RMI_REALM_CREATE', {
    rd: pa(RD),
    s2sz,
    rtt_base: pa(ROOT),
    rtt_level_start: level,
    rtt_num_start: tables,
    hash_algo: 1,
    num_bps: 1,
    num_wps: 1,
    ...fields,
  })
  return bench
}

/** A Realm with one runnable REC, not yet active. */
export function createWithRec(options: RealmOptions = {}): Bench {
  const bench = createRealm(options)
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), flags: 1, mpidr: 0, pc: '0x1000' })
  return bench
}

export function createActive(options: RealmOptions = {}): Bench {
  const bench = createWithRec(options)
  must(bench, 'RMI_REALM_ACTIVATE')
  return bench
}

export function realmOf(bench: Bench, rd = RD): Realm {
  const realm = bench.data.realms.get(rd)
  if (realm === undefined) throw new Error(`no Realm at ${rd}`)
  return realm
}

export function recOf(bench: Bench, frame = REC): Rec {
  const rec = bench.data.recs.get(frame)
  if (rec === undefined) throw new Error(`no REC at ${frame}`)
  return rec
}

/** Adds the tables that entries of `level` for `page` need, from granules at `from`, which are DELEGATED. Says the next. */
export function addTables(bench: Bench, page: number, level = 3, from = TABLES): number {
  const { startLevel } = realmOf(bench).rtt
  let granule = from
  for (let at = startLevel + 1; at <= level; at++) {
    const base = page - (page % 512 ** (4 - at))
    const made = short(ask(bench, 'RMI_RTT_CREATE', { rtt: pa(granule), ipa: ipa(base), level: at }))
    if (made === 'SUCCESS') granule++
    else if (made !== `RTT,${at - 1}`) throw new Error(`RTT_CREATE answers ${made}`)
  }
  return granule
}

/** READ_ENTRY in short: `UNASSIGNED/RAM`, with the level where it isn't 3. */
export function entry(bench: Bench, page: number, level = 3): string {
  const { state, ripas, level: reached } = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(page), level })
  return reached === level ? `${state}/${ripas}` : `${state}/${ripas} at ${reached}`
}

/** RSI_IPA_STATE_SET by the REC, the host's SET_RIPAS over all of it, and the entry that tells the guest. */
export function setRipas(bench: Bench, page: number, count: number, ripas: 'EMPTY' | 'RAM', flags = 1): Said {
  const range = { base: ipa(page), top: ipa(page + count) }
  must(bench, 'RSI_IPA_STATE_SET', { rec: pa(REC), ...range, ripas, flags })
  ask(bench, 'RMI_RTT_SET_RIPAS', { rec: pa(REC), ...range })
  return must(bench, 'RMI_REC_ENTER after RIPAS_CHANGE', { rec: pa(REC) })
}
