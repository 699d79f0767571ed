import assert from 'node:assert/strict'
import v8 from 'node:v8'
import type { Accepted, Applied } from '../../src/domain/applied.ts'
import type { HostCommand } from '../../src/domain/apply.ts'
import { Changes } from '../../src/domain/changes.ts'
import { encodeEntry } from '../../src/domain/codec.ts'
import type { Bytes64, CommandOf } from '../../src/domain/commands.ts'
import * as framePool from '../../src/domain/frame-pool.ts'
import { Host } from '../../src/domain/host.ts'
import type { JournalEntry } from '../../src/domain/journal.ts'
import { forEachPageRun, type PageRun } from '../../src/domain/ownership.ts'
import type { Refusal } from '../../src/domain/refusal.ts'
import type { VmState } from '../../src/domain/state.ts'
import type { Backend } from '../../src/hw/contract.ts'
import { backend as swProtected } from '../../src/hw/sw-protected/index.ts'

export const PAGE = 4096
export const MIB2 = 512 * PAGE
export const hex = (value: number | bigint): string => `0x${value.toString(16)}`
/** `pages` pages, every byte of them `value`. */
export const filled = (value: number, bytes = PAGE): string => Buffer.alloc(bytes, value).toString('base64')

type Value = Record<string, unknown>
type SlotOptions = Partial<Omit<CommandOf<'memslot.set'>, 'type' | 'vm' | 'gpa' | 'size'>>
type AccessOptions = Partial<Omit<CommandOf<'access'>, 'type' | 'vm' | 'gpa' | 'kind' | 'data'>>
type HostAccessOptions = Partial<Pick<CommandOf<'host-access'>, 'as' | 'by' | 'length'>>
type Entry = { gpa: number; pages?: number; span?: number; operation: 'private' | 'shared' | 'psmash' | 'unsmash' }

/** A state as comparable text: what a refusal must leave as it was, and a replay must arrive at. */
export function fingerprint(host: Host): string {
  const contents = [...host.memory.contents].sort(([a], [b]) => a - b)
  return canonical([host.state, contents])
}

/**
 * Text of plain data in which typed arrays, maps and sets count too, and how the engine keeps them does not. VMs,
 * memfiles and slots, which hold one another, are told apart; of anything else it is the same whether it is shared.
 */
export function canonical(value: unknown, seen = new Map<object, number>()): string {
  if (typeof value === 'bigint') return `${value}n`
  if (typeof value !== 'object' || value === null) return JSON.stringify(value) ?? 'undefined'
  if (ArrayBuffer.isView(value)) {
    return `${value.constructor.name} ${Buffer.from(value.buffer, value.byteOffset, value.byteLength).toString('base64')}`
  }
  const texts = (list: Iterable<unknown>): string => Array.from(list, (item) => canonical(item, seen)).join()
  if (Array.isArray(value)) return `[${texts(value)}]`
  if (value instanceof Map) return `Map[${[...value].map(([key, item]) => `${key}=>${canonical(item, seen)}`).join()}]`
  if (value instanceof Set) return `Set[${texts(value)}]`
  if ('revision' in value) {
    const known = seen.get(value)
    if (known !== undefined) return `#${known}`
    seen.set(value, seen.size)
  }
  return `{${Object.entries(value).map(([key, member]) => `${key}:${canonical(member, seen)}`)}}`
}

/** Compares two states by their text, and shows where they part: they are long. */
export function assertSameState(actual: string, expected: string, what: string): void {
  if (actual === expected) return
  let at = 0
  while (actual[at] === expected[at]) at++
  const around = (text: string): string => text.slice(Math.max(0, at - 200), at + 100)
  assert.fail(`${what}: the states part after ${at} characters:\n…${around(actual)}…\n…${around(expected)}…`)
}

/** A host with the commands of its clients as methods. Every refusal is checked to have left no footprint. */
export class TestHost {
  readonly host: Host
  readonly changes = new Changes()
  /** Every accepted command, as it would be journaled. */
  readonly journal: JournalEntry[] = []
  seq: number

  constructor(options: { backend?: Backend; pages?: number; seed?: string; host?: Host } = {}) {
    const { backend = swProtected, pages = 8192, seed = 'test' } = options
    this.host = options.host ?? Host.create(backend, { name: 'test', frames: pages, seed, seq: 1 }, this.changes)
    this.seq = this.host.state.revision
  }

  apply(command: HostCommand): Applied {
    const applied = this.host.apply(command, this.seq + 1)
    if (applied.accepted) this.journal.push(encodeEntry(this.host.state.name, ++this.seq, command, applied))
    return applied
  }

  /** Applies a command that must be accepted, whole or in part. */
  accepted(command: HostCommand): Accepted {
    const applied = this.apply(command)
    if (!applied.accepted) assert.fail(`${command.type} was refused: ${JSON.stringify(applied.refusal)}`)
    return applied
  }

  /** Applies a command that must be accepted without reserve. */
  ok(command: HostCommand): Value {
    const applied = this.accepted(command)
    assert.equal(applied.partial, undefined, `${command.type} was accepted in part: ${applied.partial?.detail}`)
    return applied.value
  }

  /** Applies a command that must stop half way; returns what stopped it beside what it came to. */
  partial(command: HostCommand): { value: Value; partial: Refusal } {
    const { value, partial } = this.accepted(command)
    if (partial === undefined) assert.fail(`${command.type} was accepted whole`)
    return { value, partial }
  }

  /** Applies a command that must be refused, and checks that it changed nothing (reliability G4). */
  refused(command: HostCommand): Refusal {
    const before = this.footprint()
    const applied = this.apply(command)
    if (applied.accepted) assert.fail(`${command.type} was accepted: ${JSON.stringify(applied.value)}`)
    this.assertFootprint(before, command.type)
    return applied.refusal
  }

  /** The errno (or, where the kernel has none, the code) that a command is refused with. */
  errno(command: HostCommand): string {
    const { errno, code } = this.refused(command)
    return errno ?? code
  }

  footprint() {
    return { bytes: this.host.snapshot(), contents: canonical([...this.host.memory.contents]) }
  }

  assertFootprint(before: ReturnType<TestHost['footprint']>, what: string): void {
    const after = this.footprint()
    const { memory } = this.host
    assert.equal(after.contents, before.contents, `a refused ${what} changed contents`)
    assert.equal(memory.events.length, 0, `a refused ${what} left events behind`)
    assert.equal(memory.crashReason, undefined, `a refused ${what} left a crash behind`)
    if (Buffer.compare(before.bytes, after.bytes) === 0) return
    const text = ({ bytes }: { bytes: Uint8Array }): string => canonical(v8.deserialize(bytes))
    assertSameState(text(after), text(before), `a refused ${what} changed the state`)
  }

  vm(options: Partial<Omit<CommandOf<'vm.create'>, 'type'>> = {}): string {
    const defaults = { name: null, vcpus: 1, conversion: 'auto', privacy: 'populated', config: {} } as const
    return String(this.ok({ type: 'vm.create', ...defaults, ...options }).id)
  }

  deleteVm(vm: string): Value {
    return this.ok({ type: 'vm.delete', vm })
  }

  vmState(vm: string): VmState {
    const state = this.host.state.vms.get(vm)
    if (state === undefined) assert.fail(`there is no VM ${vm}`)
    return state
  }

  /** A memfile of `pages` pages, bound to `vm` unless that is undefined. */
  memfile(pages: number, vm?: string, span = 1): string {
    const id = String(this.ok({ type: 'memfile.create', name: null, size: pages * PAGE, span, placed: false }).id)
    if (vm !== undefined) this.bind(id, vm)
    return id
  }

  bind(memfile: string, vm: string): Value {
    return this.ok({ type: 'memfile.bind', memfile, vm, adopt: null })
  }

  slot(vm: string, slot: number, gpa: Bytes64, size: Bytes64, options: SlotOptions = {}): Value {
    return this.ok(slotCommand(vm, slot, gpa, size, options))
  }

  /** Memory of `pages` pages from `gpa` in one slot over a memfile of its own. */
  memory(vm: string, gpa: number, pages: number, options: SlotOptions & { span?: number } = {}): string {
    const { span = 1, ...rest } = options
    const memfile = this.memfile(pages, vm, span)
    this.slot(vm, rest.slot ?? 0, gpa, pages * PAGE, { memfile, ...rest })
    return memfile
  }

  fallocate(memfile: string, offset: Bytes64, length: Bytes64): Value {
    return this.ok({ type: 'memfile.fallocate', memfile, offset, length })
  }

  punch(memfile: string, offset: Bytes64, length: Bytes64): Value {
    return this.ok({ type: 'memfile.punch-hole', memfile, offset, length })
  }

  attributes(vm: string, gpa: Bytes64, length: Bytes64, isPrivate: boolean): Value {
    return this.ok({ type: 'attributes.set', vm, gpa, length, private: isPrivate })
  }

  pageStates(vm: string, entries: readonly Entry[], vcpu = 0): Value {
    return this.ok(pageStatesCommand(vm, entries, vcpu))
  }

  /** Converts a range by the guest's request, which must succeed. */
  convert(vm: string, gpa: number, pages: number, isPrivate: boolean): void {
    const value = this.pageStates(vm, [{ gpa, pages, operation: isPrivate ? 'private' : 'shared' }])
    assert.equal(value.completed, 1)
  }

  access(
    vm: string,
    kind: 'read' | 'write' | 'execute',
    gpa: Bytes64,
    data: string | number,
    more: AccessOptions = {},
  ) {
    return this.ok(accessCommand(vm, kind, gpa, data, more))
  }

  /** Reads `length` bytes as the guest, which must succeed. */
  read(vm: string, gpa: Bytes64, length = 1, more: AccessOptions = {}): Buffer {
    return bytesOf(this.access(vm, 'read', gpa, length, more))
  }

  write(vm: string, gpa: Bytes64, value: number, length = 1, more: AccessOptions = {}): void {
    assert.equal(this.access(vm, 'write', gpa, filled(value, length), more).outcome, 'ok')
  }

  hostAccess(
    vm: string,
    kind: 'read' | 'write',
    address: Bytes64,
    data: string | number,
    more: HostAccessOptions = {},
  ): Value {
    return this.ok(hostAccessCommand(vm, kind, address, data, more))
  }

  hostRead(vm: string, gpa: Bytes64, length = 1): Buffer {
    return bytesOf(this.hostAccess(vm, 'read', gpa, length))
  }

  hostWrite(vm: string, gpa: Bytes64, value: number, length = 1): void {
    assert.equal(this.hostAccess(vm, 'write', gpa, filled(value, length)).outcome, 'ok')
  }

  pin(vm: string, gpa: number, pages: number, by = 'vfio'): string {
    return String(this.ok({ type: 'pin.create', vm, gpa, length: pages * PAGE, by }).id)
  }

  free(): number {
    return framePool.freeFrames(this.host.state.pool)
  }

  runs(vm: string, start: number, end: number): PageRun[] {
    const runs: PageRun[] = []
    forEachPageRun(this.host, this.vmState(vm), start, end, (run) => runs.push(run))
    return runs
  }

  /** Each page's kind, as "P" or "s": short enough to write down in a test. */
  kinds(vm: string, firstGfn: number, pages: number): string {
    return this.runs(vm, firstGfn, firstGfn + pages)
      .map((run) => (run.visibility === 'private' ? 'P' : 's').repeat(run.count))
      .join('')
  }
}

export function bytesOf(value: Value): Buffer {
  assert.equal(value.outcome, 'ok', JSON.stringify(value))
  return Buffer.from(String(value.data), 'base64')
}

export const slotCommand = (
  vm: string,
  slot: number,
  gpa: Bytes64,
  size: Bytes64,
  options: SlotOptions = {},
): CommandOf<'memslot.set'> => ({
  type: 'memslot.set',
  vm,
  slot,
  gpa,
  size,
  memfile: null,
  memfileOffset: 0,
  hva: 'auto',
  readOnly: false,
  dirtyLog: false,
  ...options,
})

export const pageStatesCommand = (
  vm: string,
  entries: readonly Entry[],
  vcpu = 0,
  accept = false,
): CommandOf<'page-states'> => ({
  type: 'page-states',
  vm,
  vcpu,
  accept,
  entries: entries.map(({ gpa, pages = 1, span = 1, operation }) => ({ gfn: gpa / PAGE, pages, span, operation })),
})

export const accessCommand = (
  vm: string,
  kind: 'read' | 'write' | 'execute',
  gpa: Bytes64,
  data: string | number,
  more: AccessOptions = {},
): CommandOf<'access'> => ({
  type: 'access',
  vm,
  vcpu: 0,
  gpa,
  private: null,
  kind,
  length: typeof data === 'number' ? data : Buffer.byteLength(data, 'base64'),
  data: typeof data === 'number' ? null : data,
  vmpl: 0,
  ...more,
})

export const hostAccessCommand = (
  vm: string,
  kind: 'read' | 'write',
  address: Bytes64,
  data: string | number,
  more: HostAccessOptions = {},
): CommandOf<'host-access'> => ({
  type: 'host-access',
  vm,
  as: 'user',
  by: 'gpa',
  address,
  kind,
  length: typeof data === 'number' ? data : Buffer.byteLength(data, 'base64'),
  data: typeof data === 'number' ? null : data,
  ...more,
})
