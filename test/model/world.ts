import assert from 'node:assert/strict'
import type { Accepted, Applied } from '../../src/domain/applied.ts'
import type { HostCommand } from '../../src/domain/apply.ts'
import { Changes } from '../../src/domain/changes.ts'
import { encodeEntry } from '../../src/domain/codec.ts'
import type { CommandOf } from '../../src/domain/commands.ts'
import * as framePool from '../../src/domain/frame-pool.ts'
import { Host } from '../../src/domain/host.ts'
import type { JournalEntry, OwnershipRun, RunWindow } from '../../src/domain/journal.ts'
import { privateFrame, sharedFrame, slotAt } from '../../src/domain/memslots.ts'
import { forEachPageRun, type PageRun } from '../../src/domain/ownership.ts'
import { rowsOf } from '../../src/domain/rows.ts'
import type { VmState } from '../../src/domain/state.ts'
import * as pageMap from '../../src/hw/shared/page-map.ts'
import * as translation from '../../src/hw/shared/translation.ts'
import type { Expected } from './expected.ts'
import { expect } from './naive-commands.ts'
import { NaiveHost } from './naive-host.ts'
import type { Page, Vm } from './naive-state.ts'
import { commandOf, FIRST, PAGES, type Step } from './steps.ts'
import { INITIAL_RAM, type SeptRules, type Technology } from './technology.ts'

/** Host memory of each host, in pages: not enough for what the steps ask of it. */
const FRAMES = [64, 36] as const
const END = FIRST + PAGES + 64

/** What is stored of each VM's page ownership, as a naive store keeps it: a text a page. */
type StoredRows = Map<string, Map<number, string>>

/** Two hosts and their naive models, side by side. */
export class World {
  readonly hosts: readonly Host[]
  readonly models: readonly NaiveHost[]
  readonly journal: JournalEntry[] = []
  readonly changes = new Changes()
  readonly rows: StoredRows = new Map()
  seq = 1
  /** Hosts that a command was applied to since they were checked. */
  readonly #touched = new Set<number>()
  readonly #technology: Technology

  constructor(technology: Technology) {
    const allFrames = technology.sept?.frames ?? FRAMES
    this.#technology = technology
    this.hosts = allFrames.map((frames, index) =>
      Host.create(technology.backend(), { name: `host-${index}`, frames, seed: 'model', seq: 1 }, this.changes),
    )
    this.models = this.hosts.map(({ state }) => new NaiveHost(technology, framePool.freeFrames(state.pool) + 1))
    for (let index = 0; index < this.hosts.length; index++) this.#furnish(index)
  }

  /** VMs with memory, so that the first steps find something already. */
  #furnish(index: number): void {
    const { sept } = this.#technology
    const auto = (index === 0) === (sept === undefined)
    const create = { type: 'vm.create', name: null, vcpus: 2 } as const
    for (const options of [
      { privacy: 'populated', conversion: 'auto' },
      { privacy: 'attributes', conversion: auto ? 'auto' : 'manual' },
    ] as const) {
      const vm = `vm-${this.seq + 1}`
      const mortal = index === 1 && options.privacy === 'populated'
      this.apply(index, { ...create, ...options, config: sept?.config(mortal ? 3 : 0) ?? {} })
      this.apply(index, { type: 'memfile.create', name: null, size: 64 * 4096, span: 1, placed: false })
      const memfile = `memfile-${this.seq}`
      this.apply(index, { type: 'memfile.bind', memfile, vm, adopt: null })
      const slot = { slot: 0, memfileOffset: 0, hva: 'auto', readOnly: false, dirtyLog: false } as const
      this.apply(index, { type: 'memslot.set', vm, memfile, gpa: 480 * 4096, size: 64 * 4096, ...slot })
    }
  }

  /** One step: on the host that its first throw chooses; a memfile may move to a VM of the other one. */
  step(step: Step): void {
    const [first = 0, ...dice] = step.dice
    const index = first % 4 === 3 ? 1 : 0
    const host = this.hosts[index] as Host
    const command = commandOf(host, { ...step, dice })
    if (command.type === 'memfile.bind' && first >= 128) this.#move(index, command)
    else if (command.type === 'vm.create') this.#create(index, command, first)
    else this.apply(index, command)
  }

  /** A VM's launch takes pages beyond those of its creation: with memory for the one and not the other none is made. */
  #create(index: number, command: CommandOf<'vm.create'>, die: number): void {
    const { sept } = this.#technology
    if (sept === undefined) {
      this.apply(index, command)
      return
    }
    const { kept, passing } = sept.launchPages(command.vcpus)
    const beyond = (this.models[index]?.free ?? 0) - sept.controlPages(command.vcpus)
    if (beyond < 0 || beyond >= kept + passing) this.apply(index, { ...command, config: sept.config(die >> 2) })
  }

  /** Beside the model: the launch, which makes the tables on each side of the border of 2 MiB. */
  #launch(index: number, vm: string, sept: SeptRules): void {
    const host = this.hosts[index] as Host
    const model = this.models[index] as NaiveHost
    const naive = model.vms.get(vm) as Vm
    const run = (command: HostCommand): void => {
      const applied = host.apply(command, ++this.seq)
      assert.ok(applied.accepted, JSON.stringify([command, applied]))
      this.journal.push(encodeEntry(host.state.name, this.seq, command, applied))
    }
    if (sept.launchesPages) this.#launchPages(vm, naive, run)
    for (const command of this.#technology.launch(vm)) run(command)
    const taken = model.free - framePool.freeFrames(host.state.pool)
    assert.equal(taken, sept.launchPages(naive.waiting.length).kept)
    model.free -= taken
    naive.held += taken
    if (sept.guest === 'asks')
      for (let gfn = INITIAL_RAM.first; gfn < INITIAL_RAM.end; gfn++) naive.ripas.set(gfn, 'RAM')
  }

  /** A page on each side is launched and taken away again. */
  #launchPages(vm: string, naive: Vm, run: (command: HostCommand) => void): void {
    const [gpa, length] = [511 * 4096, 2 * 4096]
    run({ type: 'memfile.create', name: null, size: length, span: 1, placed: false })
    const memfile = `memfile-${this.seq}`
    run({ type: 'memfile.bind', memfile, vm, adopt: null })
    const slot = { slot: 30, memfileOffset: 0, hva: 'none', readOnly: false, dirtyLog: false } as const
    run({ type: 'memslot.set', vm, memfile, gpa, size: length, ...slot })
    const attributes = { type: 'attributes.set', vm, gpa, length } as const
    if (naive.privacy === 'attributes') run({ ...attributes, private: true })
    run({ type: 'launch.update', vm, gpa, length, data: null, options: {} })
    if (naive.privacy === 'attributes') run({ ...attributes, private: false })
    run({ type: 'memslot.delete', vm, slot: 30 })
    run({ type: 'memfile.delete', memfile })
  }

  #move(from: number, command: Extract<HostCommand, { type: 'memfile.bind' }>): void {
    const to = 1 - from
    const memfile = this.hosts[from]?.state.memfiles.get(command.memfile)
    const vm = [...(this.hosts[to]?.state.vms.keys() ?? [])].at(-1)
    if (memfile === undefined || memfile.state !== 'unbound' || vm === undefined) return
    const adopt = { name: memfile.name, size: memfile.pages * 4096, span: memfile.span }
    this.apply(to, { ...command, vm, adopt })
    this.apply(from, { type: 'memfile.leave', memfile: command.memfile })
  }

  apply(index: number, command: HostCommand): Applied {
    this.#touched.add(index)
    const host = this.hosts[index] as Host
    const model = this.models[index] as NaiveHost
    const seq = this.seq + 1
    const expected = expect(model, command, seq)
    const applied = host.apply(command, seq)
    compare(command, applied, expected)
    if (applied.accepted) {
      this.seq = seq
      this.journal.push(encodeEntry(host.state.name, seq, command, applied))
      const { sept } = this.#technology
      if (command.type === 'vm.create' && sept !== undefined) this.#launch(index, `vm-${seq}`, sept)
    }
    return applied
  }

  /** Compares everything that can be seen of every page, and checks what must always hold. */
  check(): void {
    this.#storeRows()
    for (const index of this.#touched) {
      const host = this.hosts[index] as Host
      const model = this.models[index] as NaiveHost
      assert.deepEqual([...host.state.vms.keys()].sort(), [...model.vms.keys()].sort())
      for (const [id, vm] of host.state.vms) this.#checkVm(host, model, vm, model.vms.get(id) as Vm)
      checkMemfiles(host, model)
      checkFrames(host, model, this.#technology)
    }
    this.#touched.clear()
  }

  #checkVm(host: Host, model: NaiveHost, vm: VmState, naive: Vm): void {
    const runs: PageRun[] = []
    forEachPageRun(host, vm, FIRST, END, (run) => runs.push(run))
    checkRuns(runs)
    const stored = this.rows.get(vm.id) ?? new Map<number, string>()
    for (const run of runs) {
      for (let gfn = run.start; gfn < run.start + run.count; gfn++) {
        const where = `${vm.id} gfn ${gfn}`
        const own = model.privatePage(naive, gfn)
        const shared = model.sharedPage(naive, gfn)
        assert.equal(run.visibility === 'private', model.isPrivate(naive, gfn), `${where}: visibility`)
        assert.equal(run.owner, model.owner(naive, gfn), `${where}: owner`)
        assert.equal(run.backing.private, own !== undefined, `${where}: private backing`)
        assert.equal(run.backing.shared, shared !== undefined, `${where}: shared backing`)
        const slot = slotAt(vm, gfn)
        const { sept } = this.#technology
        if (sept !== undefined && own !== undefined)
          assert.equal(sept.stateOf(run.hardware), model.septState(naive, gfn), `${where}: the hardware's table`)
        if (slot !== undefined) {
          sameBytes(host, privateFrame(slot, gfn), own, `${where}: private contents`)
          sameBytes(host, sharedFrame(vm, slot, gfn), shared, `${where}: shared contents`)
        }
        const row = run.owner === 'none' && run.visibility === 'shared' ? undefined : rowText(run)
        assert.equal(stored.get(gfn), row, `${where}: stored row`)
      }
    }
    assert.deepEqual(
      vm.vcpus.map(({ waiting }) => waiting),
      naive.waiting,
    )
    assert.deepEqual([...vm.exits.keys()].sort(), [...naive.exits.keys()].sort())
    assert.equal(vm.userspacePages, naive.user.size)
  }

  /** What a store makes of the rows of all commands since the last time. */
  #storeRows(): void {
    const rows = rowsOf(new Map(this.hosts.map((host) => [host.state.name, host])), this.changes)
    this.changes.clear()
    for (const [vm, row] of rows.vms) if (row === null) this.rows.delete(vm)
    for (const window of rows.windows) this.#storeWindow(window)
  }

  #storeWindow({ vm, start, end, runs }: RunWindow): void {
    const pages = this.rows.get(vm) ?? new Map<number, string>()
    this.rows.set(vm, pages)
    for (let gfn = Math.max(start, FIRST); gfn < Math.min(end, END); gfn++) pages.delete(gfn)
    let last: OwnershipRun | undefined
    for (const run of runs) {
      assert.ok(run.count > 0 && run.start >= start && run.start + run.count <= end, 'a row lies in its window')
      if (last !== undefined) {
        const gap = run.start - (last.start + last.count)
        assert.ok(gap > 0 || (gap === 0 && rowText(last) !== rowText(run)), 'rows are sorted, disjoint and maximal')
      }
      last = run
      for (let gfn = Math.max(run.start, FIRST); gfn < Math.min(run.start + run.count, END); gfn++) {
        pages.set(gfn, rowText(run))
      }
    }
  }
}

const rowText = (run: PageRun | OwnershipRun): string => {
  const hardware = typeof run.hardware === 'string' ? run.hardware : JSON.stringify(run.hardware)
  return `${run.owner} ${run.visibility} ${hardware}`
}

function compare(command: HostCommand, applied: Applied, expected: Expected): void {
  const what = JSON.stringify(command)
  if (!applied.accepted) {
    const { errno, code, detail } = applied.refusal
    assert.ok('refused' in expected, `refused with ${errno ?? code} (${detail}), where the model accepts: ${what}`)
    assert.equal(errno ?? code, expected.refused, what)
    return
  }
  if (!('reply' in expected)) assert.fail(`accepted, where the model refuses with ${expected.refused}: ${what}`)
  const seen = comparable(applied, expected.reply)
  assert.deepEqual(seen, expected.reply, what)
}

/** Of the reply, what the model has an opinion on. */
function comparable(applied: Accepted, like: Readonly<Record<string, unknown>>): Record<string, unknown> {
  const value = flatten((applied.value.result as Record<string, unknown> | undefined) ?? applied.value)
  if (applied.partial !== undefined) value.partial = applied.partial.errno
  return Object.fromEntries(Object.keys(like).map((key) => [key, value[key]]))
}

type Statuses = readonly ({ readonly code: number | string } | undefined)[]

/** A reply with exits counted, statuses as numbers, and of an exit only what says where and why. */
function flatten(value: Record<string, unknown>): Record<string, unknown> {
  const flat: Record<string, unknown> = { ...value, waits: false }
  const entries = value.entries as { status: { code: number | string } }[] | undefined
  if (value.call !== undefined) flat.code = (value.status as { code: string }).code
  const statuses = (value.statuses as Statuses | undefined) ?? entries?.map(({ status }) => status)
  if (statuses !== undefined) flat.codes = statuses.map((status) => status?.code ?? -1)
  if (Array.isArray(value.exits)) flat.exits = value.exits.length
  if (value.waiting !== undefined) flat.waits = true
  if (value.fault !== undefined && value.exit === undefined) flat.fault = (value.fault as { name: string }).name
  const exit = value.exit as Record<string, unknown> | undefined
  if (exit !== undefined && typeof exit === 'object') {
    const { id, reason, gpa, private: isPrivate, errno } = exit
    flat.waits = id !== null
    flat.exit = { reason, gpa: Number(gpa), private: isPrivate, ...(errno === undefined ? {} : { errno }) }
  }
  return flat
}

function checkRuns(runs: readonly PageRun[]): void {
  let last: PageRun | undefined
  for (const run of runs) {
    assert.ok(run.count > 0)
    assert.equal(run.start, last === undefined ? FIRST : last.start + last.count, 'runs follow one another')
    const text = ({ owner, visibility, backing, hardware }: PageRun) =>
      JSON.stringify([owner, visibility, backing, hardware])
    if (last !== undefined) assert.notEqual(text(last), text(run), 'runs are maximal')
    last = run
  }
  assert.equal(last === undefined ? FIRST : last.start + last.count, END)
}

function sameBytes(host: Host, frame: number, page: Page | undefined, what: string): void {
  assert.equal(frame >= 0, page !== undefined, what)
  const bytes = frame < 0 ? undefined : host.memory.contents.get(frame)
  if (bytes === undefined && page?.bytes === undefined) return
  const zeros = new Uint8Array(4096)
  if (Buffer.compare(bytes ?? zeros, page?.bytes ?? zeros) !== 0) assert.fail(`${what} differ`)
}

function checkMemfiles(host: Host, model: NaiveHost): void {
  assert.deepEqual([...host.state.memfiles.keys()].sort(), [...model.files.keys()].sort())
  for (const memfile of host.state.memfiles.values()) {
    const naive = model.files.get(memfile.id)
    assert.equal(memfile.state, naive?.state)
    assert.equal(memfile.vm?.id ?? null, naive?.vm)
    assert.equal(memfile.allocated, naive?.pages.size)
    const pages: number[] = []
    pageMap.forEachRun(memfile.backing, 0, memfile.pages, (start, end, value) => {
      if (translation.isPresent(value)) for (let page = start; page < end; page++) pages.push(page)
    })
    assert.deepEqual(
      pages,
      [...(naive?.pages.keys() ?? [])].sort((a, b) => a - b),
    )
  }
}

/** Every frame is the host's first, free, or held by one thing alone; and the model counts as many free ones. */
function checkFrames(host: Host, model: NaiveHost, { sept }: Technology): void {
  const { pool, frames, memfiles, vms, orphans, pinned } = host.state
  const held = new Set<number>([0, ...(sept?.ownFrames(host) ?? [])])
  const mapped = [...model.vms.values()].reduce((sum, vm) => sum + vm.sept.size, 0)
  assert.equal(sept?.privatePages(host) ?? mapped, mapped, 'private pages')
  const hold = (index: number, value: number): void => {
    const frame = translation.target(index, value)
    assert.ok(!held.has(frame), `frame ${frame} has two owners`)
    held.add(frame)
  }
  for (const frame of orphans) {
    assert.ok(!held.has(frame) && pinned.has(frame), `orphan ${frame} is pinned and no one else's`)
    held.add(frame)
  }
  const each = (map: pageMap.PageMap, end: number): void =>
    pageMap.forEachRun(map, 0, end, (from, to, value) => {
      if (translation.isPresent(value)) for (let index = from; index < to; index++) hold(index, value)
    })
  for (const memfile of memfiles.values()) each(memfile.backing, memfile.pages)
  for (const vm of vms.values()) each(vm.userspace, 2 ** 40)
  for (let frame = 0; frame < frames; frame++) {
    assert.notEqual(framePool.isFree(pool, frame), held.has(frame), `frame ${frame} is free or held`)
  }
  assert.equal(framePool.freeFrames(pool), frames - held.size)
  assert.equal(model.free, frames - held.size)
  for (const frame of host.memory.contents.keys()) assert.ok(held.has(frame), `free frame ${frame} holds bytes`)
}
