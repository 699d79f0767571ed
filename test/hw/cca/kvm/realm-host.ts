import assert from 'node:assert/strict'
import type { CommandOf } from '../../../../src/domain/commands.ts'
import { presentRequest, type RequestOutcome } from '../../../../src/domain/guest-requests.ts'
import { privateFrame, slotAt } from '../../../../src/domain/memslots.ts'
import type { CcaHardware } from '../../../../src/hw/cca/calls/call-definition.ts'
import { type Host, realmOf, vmOf } from '../../../../src/hw/cca/data.ts'
import { backend } from '../../../../src/hw/cca/index.ts'
import { GRANULE, granuleState } from '../../../../src/hw/cca/rmm/granules.ts'
import type { Realm } from '../../../../src/hw/cca/rmm/realm.ts'
import * as pageMap from '../../../../src/hw/shared/page-map.ts'
import { accessCommand, hex, PAGE, pageStatesCommand, TestHost } from '../../../support/domain.ts'

export type Value = Record<string, unknown>
export type Answer = { readonly status: { readonly name: string; readonly code: number } } & Value
type VmOptions = Partial<Omit<CommandOf<'vm.create'>, 'type'>>
export type Privacy = 'populated' | 'attributes'
export const PRIVACIES: readonly Privacy[] = ['populated', 'attributes']

/** Where tests have their memory, and the bit of a 41-bit IPA that makes it unprotected (arm-cca.md 4). */
export const GPA = 0x80000000
export const GFN = GPA / PAGE
export const PAR = 2 ** 40
/** A REC and its auxiliary granules (arm-cca.md 10). */
export const REC_PAGES = 17

export const newHost = (pages = 8192): TestHost => new TestHost({ backend, pages })

/** The RMM's own state under a host. */
export const hostOf = (t: TestHost): Host => (t.host.hardware as CcaHardware).host

export type RealmBench = { readonly t: TestHost; readonly vm: string; readonly memfile: string }
type Bench = Pick<RealmBench, 't' | 'vm'>

export function realmIn({ t, vm }: Bench): Realm {
  const realm = realmOf(hostOf(t).data, vm)
  assert.ok(realm !== undefined, `${vm} has no Realm`)
  return realm
}
export const recordOf = ({ t, vm }: Bench) => vmOf(hostOf(t).data, vm)

/** A Realm that is NEW, with memory of `pages` pages at {@link GPA}. */
export function launching(options: VmOptions = {}, pages = 64, t = newHost()): RealmBench {
  const vm = t.vm(options)
  return { t, vm, memfile: t.memory(vm, GPA, pages) }
}

/** The same, active; all of its memory is RAM. */
export function running(options: VmOptions = {}, pages = 64, t = newHost()): RealmBench {
  const bench = launching(options, pages, t)
  const ripas = [{ gpa: hex(GPA), length: pages * PAGE }]
  t.ok({ type: 'launch.finish', vm: bench.vm, options: { ripas } })
  return bench
}

/** And with pages that the guest has written: `value` in each byte. */
export function filledPages(bench: RealmBench, pages: number, value = 0x5e): void {
  const { t, vm, memfile } = bench
  if (t.vmState(vm).preparedByFallocate) t.fallocate(memfile, 0, pages * PAGE)
  else t.attributes(vm, GPA, pages * PAGE, true)
  t.write(vm, GPA, value, pages * PAGE, { private: true })
}

export const call = ({ t, vm }: Bench, by: 'guest' | 'host', name: string, args: Value = {}, vcpu = 0): Answer =>
  t.ok({ type: 'call', vm, vcpu, call: name, by, args }) as Answer
export const rmi = (bench: Bench, name: string, args: Value = {}): Answer => call(bench, 'host', `RMI_${name}`, args)
export const rsi = (bench: Bench, name: string, args: Value = {}, vcpu = 0): Answer =>
  call(bench, 'guest', `RSI_${name}`, args, vcpu)

/** A command that the RMM must take. */
export function must(bench: Bench, name: string, args: Value = {}): Answer {
  const answer = rmi(bench, name, args)
  assert.equal(answer.status.code, 0, `${name} ${JSON.stringify(args)}: ${answer.status.name}`)
  return answer
}

/** RSI_IPA_STATE_SET as a raw call by the guest. */
export const stateSet = (
  bench: Bench,
  gpa: number,
  pages: number,
  ripas: 'EMPTY' | 'RAM',
  flags: 0 | 1 = 1,
  vcpu = 0,
): Answer => rsi(bench, 'IPA_STATE_SET', { base: hex(gpa), top: hex(gpa + pages * PAGE), ripas, flags }, vcpu)

type Entries = Parameters<typeof pageStatesCommand>[1]

/** A neutral page-state change, as clients see what it came to. */
export const pageStates = ({ t, vm }: Bench, entries: Entries, vcpu = 0): Value =>
  presentRequest(t.ok(pageStatesCommand(vm, entries, vcpu)) as RequestOutcome)
export const request = (bench: Bench, gpa: number, pages: number, operation: 'private' | 'shared'): Value =>
  pageStates(bench, [{ gpa, pages, operation }])
export const statuses = (value: Value): string[] =>
  (value.entries as { status: { name: string } }[]).map(({ status }) => status.name)

/** HIPAS and RIPAS of a page, short: "A/R". A page without an entry of level 3 is told with its level. */
export function stateOf(bench: Bench, gpa: number): string {
  const { level, state, ripas } = must(bench, 'RTT_READ_ENTRY', { ipa: hex(gpa), level: 3 })
  const short = `${String(state)[0]}/${String(ripas)[0]}`
  return level === 3 ? short : `${short} at ${level}`
}
export const states = (bench: Bench, gpa: number, pages: number): string[] =>
  Array.from({ length: pages }, (_, page) => stateOf(bench, gpa + page * PAGE))

/** The host frame behind a private page of the VM's memory. */
export function frameOf({ t, vm }: Bench, gpa: number): number {
  const slot = slotAt(t.vmState(vm), gpa / PAGE)
  const frame = slot === undefined ? -1 : privateFrame(slot, gpa / PAGE)
  assert.ok(frame >= 0, `${hex(gpa)} has no private page`)
  return frame
}
export const hpaOf = (bench: Bench, gpa: number): string => hex(frameOf(bench, gpa) * PAGE)
export const granuleAt = (t: TestHost, frame: number): number => granuleState(hostOf(t).data.granules, frame)

/** Frames from the top of the pool that no VM has: for raw calls. */
export function spare(t: TestHost, count: number): number[] {
  const taken = Array.from({ length: count }, () => t.host.memory.allocateFrame())
  assert.ok(!taken.includes(-1))
  return taken
}

export const reach = (
  { t, vm }: Bench,
  kind: 'read' | 'write' | 'execute',
  gpa: number,
  more: Partial<Pick<CommandOf<'access'>, 'private' | 'vcpu'>> = {},
): Value => t.ok(accessCommand(vm, kind, hex(gpa), kind === 'write' ? 'Kg==' : 1, more))

/** An access in short: its outcome, and what the fault or exit is called. */
export function outcome(value: Value): string {
  const { reason } = (value.exit ?? {}) as Value
  const { name } = (value.fault ?? {}) as Value
  return [value.outcome, reason ?? name].filter((word) => word !== undefined).join(' ')
}

export const exitsOf = (t: TestHost, vm: string): string[] => [...t.vmState(vm).exits.keys()]
export const resume = (t: TestHost, vm: string, ret = 0, exit = exitsOf(t, vm)[0] ?? ''): Value =>
  t.ok({ type: 'exit.resume', vm, exit, ret }).result as Value

/** What the VMM does for an exit in the model of the VM. */
export function comply({ t, vm, memfile }: RealmBench, gpa: number, pages: number, isPrivate: boolean): void {
  if (!t.vmState(vm).preparedByFallocate) t.attributes(vm, gpa, pages * PAGE, isPrivate)
  const range = [memfile, gpa - GPA, pages * PAGE] as const
  if (!isPrivate) t.punch(...range)
  else if (t.vmState(vm).preparedByFallocate) t.fallocate(...range)
}

/** Granules that are not the host's, but for the RMM's own. */
export function delegated(t: TestHost): number {
  const { granules } = hostOf(t).data
  return pageMap.countNonZero(granules.words, 0, granules.ownStart)
}

/** Nothing of any Realm is left: granules but for `own` that raw calls have delegated, VMIDs, records, frames, bytes. */
export function assertClean(t: TestHost, free: number, own: readonly number[] = []): void {
  const { data } = hostOf(t)
  for (const frame of own) assert.equal(granuleAt(t, frame), GRANULE.DELEGATED, `granule ${frame}`)
  assert.equal(delegated(t), own.length, 'every other granule is UNDELEGATED')
  assert.deepEqual([data.realms.size, data.recs.size, data.vms.size, data.vmids.size], [0, 0, 0, 0])
  assert.ok(data.granules.owners.every((rd) => rd === -1))
  assert.equal(t.free(), free, 'every frame is back')
  assert.deepEqual([...t.host.memory.contents.keys()], [], 'nothing is left in memory')
}
