import assert from 'node:assert/strict'
import type { CommandOf } from '../../../../src/domain/commands.ts'
import { privateFrame, slotAt } from '../../../../src/domain/memslots.ts'
import * as pageMap from '../../../../src/hw/shared/page-map.ts'
import type { TdxHardware } from '../../../../src/hw/tdx/calls/call-definition.ts'
import { type Host, tdOf, vmOf } from '../../../../src/hw/tdx/data.ts'
import { backend } from '../../../../src/hw/tdx/index.ts'
import type { Td } from '../../../../src/hw/tdx/module/td.ts'
import { accessCommand, hex, PAGE, pageStatesCommand, TestHost } from '../../../support/domain.ts'

export type Value = Record<string, unknown>
export type Answer = { readonly status: { readonly name: string; readonly code: string } } & Value
type VmOptions = Partial<Omit<CommandOf<'vm.create'>, 'type'>>

/** Where tests have their memory, and the shared bit of a TD with 48-bit addresses (intel-tdx.md d.1). */
export const GPA = 0x40000000
export const GFN = GPA / PAGE
export const SHARED_BIT = 2 ** 47

/** Pending pages raise #VE in the guest. */
export const WITH_VE = { attributes: '0x0' }

export const newHost = (pages = 8192): TestHost => new TestHost({ backend, pages })

/** The module's own state under a host. */
export const hostOf = (t: TestHost): Host => (t.host.hardware as TdxHardware).host

export function tdIn(t: TestHost, vm: string): Td {
  const td = tdOf(hostOf(t).data, vm)
  assert.ok(td !== undefined, `${vm} has no TD`)
  return td
}

export type TdBench = { readonly t: TestHost; readonly vm: string; readonly memfile: string }

/** A TD that is still being built, with memory of `pages` pages at {@link GPA}. */
export function launching(options: VmOptions = {}, pages = 64, t = newHost()): TdBench {
  const vm = t.vm(options)
  return { t, vm, memfile: t.memory(vm, GPA, pages) }
}

/** The same, finalised. */
export function running(options: VmOptions = {}, pages = 64, t = newHost()): TdBench {
  const bench = launching(options, pages, t)
  t.ok({ type: 'launch.finish', vm: bench.vm, options: {} })
  return bench
}

export const call = (
  { t, vm }: Pick<TdBench, 't' | 'vm'>,
  by: 'guest' | 'host',
  name: string,
  args: Value = {},
  vcpu = 0,
): Answer => t.ok({ type: 'call', vm, vcpu, call: name, by, args }) as Answer

/** A call that must succeed. */
export function must(bench: Pick<TdBench, 't' | 'vm'>, by: 'guest' | 'host', name: string, args: Value = {}, vcpu = 0) {
  const answer = call(bench, by, name, args, vcpu)
  assert.equal(answer.status.code, '0x0', `${name} ${JSON.stringify(args)}: ${answer.status.name}`)
  return answer
}

export const guest = (bench: Pick<TdBench, 't' | 'vm'>, name: string, args: Value = {}, vcpu = 0): Answer =>
  call(bench, 'guest', name, args, vcpu)
export const seamcall = (bench: Pick<TdBench, 't' | 'vm'>, name: string, args: Value = {}): Answer =>
  call(bench, 'host', name, args)

/** TDG.MEM.PAGE.ACCEPT of `pages` pages at `gpa`. */
export function acceptPages(bench: Pick<TdBench, 't' | 'vm'>, gpa: number, pages = 1): void {
  for (let page = 0; page < pages; page++) must(bench, 'guest', 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(gpa + page * PAGE) })
}

/** Makes pages private and accepts them; the request must do all of it. */
export function makePrivate({ t, vm }: Pick<TdBench, 't' | 'vm'>, gpa: number, pages = 1): void {
  const value = t.ok(pageStatesCommand(vm, [{ gpa, pages, operation: 'private' }], 0, true))
  assert.deepEqual(codes(value), ['0x0'])
}

const NOT_PROCESSED = -1
export const codes = (value: Value): unknown[] =>
  ((value.entries ?? value.statuses) as ({ status?: { code: unknown }; code?: unknown } | undefined)[]).map(
    (entry) => entry?.status?.code ?? entry?.code ?? NOT_PROCESSED,
  )

/** The state of a page's 4K entry, as SEPT.RD tells it; what is no entry of its own is told with its level. */
export function stateOf(bench: Pick<TdBench, 't' | 'vm'>, gpa: number): string {
  const answer = seamcall(bench, 'TDH.MEM.SEPT.RD', { gpa: hex(gpa) })
  const { state, level } = answer.entry as { state: string; level: number }
  return level === 0 ? state : `${state} at ${level}`
}

/** The host frame behind a private page of the VM's memory. */
export function frameOf({ t, vm }: Pick<TdBench, 't' | 'vm'>, gpa: number): number {
  const slot = slotAt(t.vmState(vm), gpa / PAGE)
  const frame = slot === undefined ? -1 : privateFrame(slot, gpa / PAGE)
  assert.ok(frame >= 0, `${hex(gpa)} has no private page`)
  return frame
}

export const hpaOf = (bench: Pick<TdBench, 't' | 'vm'>, gpa: number): string => hex(BigInt(frameOf(bench, gpa)) << 12n)

/** An access, as short as it can be told: outcome, and the fault or exit. */
export function reach(
  { t, vm }: Pick<TdBench, 't' | 'vm'>,
  kind: 'read' | 'write' | 'execute',
  gpa: number,
  more: Partial<Pick<CommandOf<'access'>, 'private' | 'vcpu'>> = {},
): Value {
  return t.ok(accessCommand(vm, kind, hex(BigInt(gpa)), kind === 'write' ? 'Kg==' : 1, more))
}

/** A host access at physical memory. */
export const hostAt = (
  { t, vm }: Pick<TdBench, 't' | 'vm'>,
  kind: 'read' | 'write',
  hpa: string,
  data: string | number,
): Value => t.hostAccess(vm, kind, hpa, data, { by: 'hpa' })

export const exitsOf = (t: TestHost, vm: string): string[] => [...t.vmState(vm).exits.keys()]

export const resume = (t: TestHost, vm: string, ret = 0, exit = exitsOf(t, vm)[0] ?? ''): Value =>
  t.ok({ type: 'exit.resume', vm, exit, ret }).result as Value

/** Frames that PAMT says are not PT_NDA, but for its own. */
export function assigned(t: TestHost): number {
  const { pamt } = hostOf(t).data
  return pageMap.countNonZero(pamt.types, 0, pamt.ownStart)
}

/** Checks that nothing of any TD is left: pages, keys, records, frames of the host. */
export function assertClean(t: TestHost, free: number): void {
  const { data } = hostOf(t)
  assert.equal(assigned(t), 0, 'PAMT is all PT_NDA but for its own pages')
  assert.deepEqual([data.tds.size, data.vms.size, data.poisoned.size], [0, 0, 0])
  assert.equal(t.host.hardware.keys().inUse, 0, 'every HKID is back')
  assert.equal(t.free(), free, 'every frame is back')
  assert.deepEqual([...t.host.memory.contents.keys()], [], 'nothing is left in memory')
}

export const recordOf = (t: TestHost, vm: string) => vmOf(hostOf(t).data, vm)
