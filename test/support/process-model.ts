import assert from 'node:assert/strict'
import type { Answer, Call } from './process.ts'

/** What a guest's memory is to somebody who knows nothing of runs, radix trees or frames: a list of pages. */

const PAGE = 4096
/** The model's window: two slots over one memfile, side by side. */
export const PAGES = 32
const SLOT_PAGES = PAGES / 2
export const WINDOW = 0x10000000

type Page = {
  /** The memfile's page; null is a hole. */
  file: Buffer | null
  /** The guest has accepted it. */
  valid: boolean
  /** A Realm's page: what the guest was promised of it, and whether the RMM has it. */
  ripas: 'EMPTY' | 'RAM' | 'DESTROYED'
  mapped: boolean
  attribute: boolean
  /** The VMM's own memory, from its first touch until the slot goes. */
  shared: Buffer | null
}

export type Command =
  | { readonly do: 'convert'; readonly first: number; readonly count: number; readonly to: 'private' | 'shared' }
  | { readonly do: 'attributes'; readonly first: number; readonly count: number; readonly private: boolean }
  | { readonly do: 'fallocate' | 'punch'; readonly first: number; readonly count: number }
  | { readonly do: 'read'; readonly at: number; readonly length: number; readonly private?: boolean }
  | { readonly do: 'write'; readonly at: number; readonly bytes: Buffer; readonly private?: boolean }
  | { readonly do: 'host-read'; readonly at: number; readonly length: number }
  | { readonly do: 'host-write'; readonly at: number; readonly bytes: Buffer }
  | { readonly do: 'slot' | 'unslot'; readonly slot: 0 | 1 }

export type VmKind = {
  readonly technology: 'sw-protected' | 'sev-snp' | 'tdx' | 'cca'
  readonly privacy: 'populated' | 'attributes'
}

/** Members of the reply that the model knows, with what they must be. */
export type Expected = { readonly status: number; readonly body: Readonly<Record<string, unknown>> }

const hex = (value: number): string => `0x${value.toString(16)}`
const EFFECTLESS: Expected = { status: 404, body: {} }

export class ModelVm {
  readonly id: string
  readonly memfile: string
  readonly kind: VmKind
  readonly #slots = [true, true]
  readonly #pages: Page[] = Array.from({ length: PAGES }, () => ({
    file: null,
    valid: false,
    ripas: 'RAM',
    mapped: false,
    attribute: false,
    shared: null,
  }))

  constructor(id: string, memfile: string, kind: VmKind) {
    this.id = id
    this.memfile = memfile
    this.kind = kind
  }

  hasSlot(slot: 0 | 1): boolean {
    return this.#slots[slot] === true
  }

  /** The request that carries a command. */
  call(command: Command): Call {
    const vm = `/v1/vms/${this.id}`
    switch (command.do) {
      case 'convert': {
        const entry = { gpa: hex(WINDOW + command.first * PAGE), pages: command.count, operation: command.to }
        return { method: 'POST', path: `${vm}/page-states`, body: { accept: true, entries: [entry] } }
      }
      case 'attributes': {
        const range = { gpa: hex(WINDOW + command.first * PAGE), length: command.count * PAGE }
        const body = { ...range, attributes: command.private ? ['private'] : [] }
        return { method: 'PUT', path: `${vm}/attributes`, body }
      }
      case 'fallocate':
      case 'punch': {
        const verb = command.do === 'punch' ? 'punch-hole' : 'fallocate'
        const body = { offset: command.first * PAGE, length: command.count * PAGE }
        return { method: 'POST', path: `/v1/memfiles/${this.memfile}/${verb}`, body }
      }
      case 'slot':
      case 'unslot':
        return this.#slotCall(command)
      default:
        return this.#accessCall(command)
    }
  }

  #slotCall(command: Extract<Command, { do: 'slot' | 'unslot' }>): Call {
    const path = `/v1/vms/${this.id}/memslots/${command.slot}`
    if (command.do === 'unslot') return { method: 'DELETE', path }
    const first = command.slot * SLOT_PAGES * PAGE
    const body = { gpa: hex(WINDOW + first), size: SLOT_PAGES * PAGE, memfile: this.memfile, memfileOffset: first }
    return { method: 'PUT', path, body }
  }

  #accessCall(command: Extract<Command, { at: number }>): Call {
    const data = 'bytes' in command ? { data: command.bytes.toString('base64') } : { length: command.length }
    const gpa = hex(WINDOW + command.at)
    const kind = 'bytes' in command ? 'write' : 'read'
    if (command.do === 'host-read' || command.do === 'host-write') {
      return { method: 'POST', path: `/v1/vms/${this.id}/host-accesses`, body: { as: 'user', gpa, kind, ...data } }
    }
    const own = command.private === undefined ? {} : { private: command.private }
    return { method: 'POST', path: `/v1/vms/${this.id}/vcpus/0/accesses`, body: { gpa, kind, ...own, ...data } }
  }

  /** Applies a command, and says what must have been answered. */
  apply(command: Command): Expected {
    switch (command.do) {
      case 'convert':
        return this.#convertAll(command)
      case 'attributes':
        if (this.kind.privacy !== 'attributes') return { status: 422, body: { errno: 'ENOTTY' } }
        for (const page of this.#range(command)) {
          page.attribute = command.private
          if (!command.private) this.#unmap(page)
        }
        return { status: 200, body: {} }
      case 'fallocate':
        return { status: 200, body: { populatedBytes: this.#populate(this.#range(command)) } }
      case 'punch':
        return { status: 200, body: { freedBytes: this.#punch(this.#range(command)) } }
      case 'slot':
        this.#slots[command.slot] = true
        this.#map(this.#range({ first: command.slot * SLOT_PAGES, count: SLOT_PAGES }))
        return { status: 201, body: { change: 'created' } }
      case 'unslot':
        if (!this.hasSlot(command.slot)) return EFFECTLESS
        this.#slots[command.slot] = false
        for (const page of this.#range({ first: command.slot * SLOT_PAGES, count: SLOT_PAGES })) {
          page.shared = null
          this.#unmap(page)
        }
        return { status: 200, body: { change: 'deleted' } }
      default:
        return this.#access(command)
    }
  }

  #range({ first, count }: { readonly first: number; readonly count: number }): Page[] {
    return this.#pages.slice(first, first + count)
  }

  #at(index: number): Page {
    const page = this.#pages[index]
    if (page === undefined) throw new Error(`page ${index} is outside the window`)
    return page
  }

  #hasSlotAt(index: number): boolean {
    return this.#slots[Math.floor(index / SLOT_PAGES)] === true
  }

  #isPrivate(index: number): boolean {
    if (this.kind.privacy === 'attributes') return this.#at(index).attribute
    return this.#hasSlotAt(index) && this.#at(index).file !== null
  }

  #populate(pages: readonly Page[]): number {
    const holes = pages.filter((page) => page.file === null)
    for (const page of holes) page.file = Buffer.alloc(PAGE)
    this.#map(pages)
    return holes.length * PAGE
  }

  #punch(pages: readonly Page[]): number {
    const held = pages.filter((page) => page.file !== null)
    for (const page of held) {
      this.#unmap(page)
      page.file = null
      page.valid = false
    }
    return held.length * PAGE
  }

  #convertAll({ first, count, to }: Extract<Command, { do: 'convert' }>): Expected {
    const indexes = Array.from({ length: count }, (_, i) => first + i)
    for (const index of indexes) if (!this.#convert(index, to)) return { status: 200, body: { completed: 0 } }
    const pages = indexes.map((index) => this.#at(index))
    if (this.kind.technology === 'cca') this.#promise(pages, to)
    else if (to === 'private') this.#acceptAll(pages)
    return { status: 200, body: { completed: 1 } }
  }

  /** A Realm's guest has asked for RAM or EMPTY: KVM takes back what is EMPTY. */
  #promise(pages: readonly Page[], to: 'private' | 'shared'): void {
    for (const page of pages) {
      page.ripas = to === 'private' ? 'RAM' : 'EMPTY'
      if (to === 'shared') this.#unmap(page)
    }
  }

  /** In the older model what a slot shows of the memfile is given to the hardware at once. */
  #map(pages: readonly Page[]): void {
    if (this.kind.privacy === 'attributes') return
    for (const page of pages) if (page.file !== null && this.#hasSlotAt(this.#pages.indexOf(page))) page.mapped = true
  }

  /** What the guest has accepted it has also touched. A TD's acceptance ends at a page that it has accepted before. */
  #acceptAll(pages: readonly Page[]): void {
    if (this.kind.technology === 'sw-protected') return
    for (const page of pages) {
      if (this.kind.technology === 'tdx' && page.valid) return
      page.valid = true
      page.file ??= Buffer.alloc(PAGE)
    }
  }

  /** A TD's page that KVM unmaps is to be accepted anew, a Realm's is DESTROYED; both have lost their contents. */
  #unmap(page: Page): void {
    if (this.kind.technology === 'cca') {
      if (!page.mapped) return
      page.mapped = false
      if (page.ripas === 'RAM') page.ripas = 'DESTROYED'
    } else if (this.kind.technology !== 'tdx') return
    page.valid = false
    page.file?.fill(0)
  }

  /** What the VMM does when it is asked for a conversion. False when it cannot. */
  #convert(index: number, to: 'private' | 'shared'): boolean {
    if (!this.#hasSlotAt(index)) return to === 'shared'
    const page = this.#at(index)
    if (this.kind.privacy === 'attributes') page.attribute = to === 'private'
    if (to === 'shared') this.#unmap(page)
    if (to === 'shared') this.#punch([page])
    else if (this.kind.privacy === 'populated') this.#populate([page])
    return true
  }

  #access(command: Extract<Command, { at: number }>): Expected {
    const length = 'bytes' in command ? command.bytes.length : command.length
    const seen = Buffer.alloc(length)
    for (let done = 0; done < length; ) {
      const index = Math.floor((command.at + done) / PAGE)
      const offset = (command.at + done) % PAGE
      const part = Math.min(PAGE - offset, length - done)
      const byHost = command.do === 'host-read' || command.do === 'host-write'
      const store = byHost ? this.#reachAsHost(index) : this.#reachAsGuest(index, command.private)
      if (typeof store === 'string') return { status: 200, body: { outcome: store, completed: done } }
      if ('bytes' in command) command.bytes.copy(store, offset, done, done + part)
      else store.copy(seen, done, offset, offset + part)
      done += part
    }
    const data = 'bytes' in command ? {} : { data: seen.toString('base64') }
    return { status: 200, body: { outcome: 'ok', ...data } }
  }

  #reachAsHost(index: number): Buffer | 'fault' {
    if (!this.#hasSlotAt(index)) return 'fault'
    return this.#touchShared(index)
  }

  #touchShared(index: number): Buffer {
    const page = this.#at(index)
    page.shared ??= Buffer.alloc(PAGE)
    return page.shared
  }

  #reachAsGuest(index: number, asked: boolean | undefined): Buffer | 'exit' | 'guest-fault' {
    // Only some hardware lets the access itself say of which kind it is.
    const told = this.kind.technology === 'sw-protected' ? undefined : asked
    const isRealm = this.kind.technology === 'cca'
    if (isRealm && (told ?? this.#isPrivate(index)) && this.#at(index).ripas === 'EMPTY') return 'guest-fault'
    if (!this.#hasSlotAt(index)) return 'exit'
    if (told !== undefined && told !== this.#isPrivate(index)) this.#convert(index, told ? 'private' : 'shared')
    if (!this.#isPrivate(index)) return this.#touchShared(index)
    const page = this.#at(index)
    page.file ??= Buffer.alloc(PAGE)
    page.mapped = true
    if (isRealm) return page.ripas === 'RAM' ? page.file : 'exit'
    return this.kind.technology !== 'sw-protected' && !page.valid ? 'guest-fault' : page.file
  }

  /** One line a page, as {@link readPages} sees it. */
  pages(): string[] {
    return this.#pages.map((page, index) => {
      const slot = this.#hasSlotAt(index)
      const visibility = this.#isPrivate(index) ? 'private' : 'shared'
      return pageLine(visibility, slot && page.file !== null, slot && page.shared !== null)
    })
  }

  /** Commands that read all there is to read of the window: each page as the guest and as the VMM sees it. */
  reads(): Command[] {
    return this.#pages.flatMap((_, index): Command[] => [
      { do: 'read', at: index * PAGE, length: PAGE },
      { do: 'host-read', at: index * PAGE, length: PAGE },
    ])
  }
}

const pageLine = (visibility: string, hasPrivate: boolean, hasShared: boolean): string =>
  `${visibility}${hasPrivate ? ' in memfile' : ''}${hasShared ? ' in shared memory' : ''}`

type Run = { gpa: string; length: number; visibility: string; backing: { private: boolean; shared: boolean } }

/** The window's pages, one line each, from the runs that the service lists. */
export async function readPages(get: (url: string) => Promise<unknown>, vm: string): Promise<string[]> {
  const url = `/v1/vms/${vm}/page-states?gpa=${hex(WINDOW)}&length=${PAGES * PAGE}&limit=1000`
  const { items } = (await get(url)) as { items: Run[] }
  return items.flatMap(({ length, visibility, backing }) =>
    Array.from({ length: length / PAGE }, () => pageLine(visibility, backing.private, backing.shared)),
  )
}

/** Compares the members of a reply that the model knows. */
export function assertExpected(what: string, { status, text, body }: Answer, expected: Expected): void {
  assert.equal(status, expected.status, `${what}: ${text}`)
  for (const [name, value] of Object.entries(expected.body)) assert.deepEqual(body[name], value, `${what}: ${text}`)
}

/** Numbers that only look random: the same for the same seed, for ever. */
export class Random {
  #state: number

  constructor(seed: number) {
    this.#state = seed >>> 0
  }

  /** An integer from 0 up to, but not including, `limit`. */
  below(limit: number): number {
    this.#state = (this.#state + 0x6d2b79f5) >>> 0
    let mixed = Math.imul(this.#state ^ (this.#state >>> 15), this.#state | 1)
    mixed ^= mixed + Math.imul(mixed ^ (mixed >>> 7), mixed | 61)
    return ((mixed ^ (mixed >>> 14)) >>> 0) % limit
  }

  chance(percent: number): boolean {
    return this.below(100) < percent
  }

  pick<T>(items: readonly T[]): T {
    const item = items[this.below(items.length)]
    if (item === undefined) throw new Error('nothing to pick from')
    return item
  }
}

/** A command that makes sense for the VM as it stands, most of the time. */
export function randomCommand(random: Random, vm: ModelVm): Command {
  const first = random.below(PAGES)
  const count = 1 + random.below(Math.min(8, PAGES - first))
  const at = random.below(PAGES * PAGE - 3 * PAGE)
  const length = 1 + random.below(random.chance(20) ? 3 * PAGE : 64)
  const bytes = (): Buffer => Buffer.alloc(length, 1 + random.below(255))
  const own = random.chance(20) ? { private: random.chance(50) } : {}
  const roll = random.below(100)
  if (roll < 22) return { do: 'convert', first, count, to: random.pick(['private', 'shared']) }
  if (roll < 30) return { do: random.pick(['fallocate', 'punch']), first, count }
  if (roll < 35) return { do: 'attributes', first, count, private: random.chance(50) }
  if (roll < 60) return { do: 'write', at, bytes: bytes(), ...own }
  // A shared read of a private page that is mapped sees ciphertext: this model knows nothing of keys.
  if (roll < 80) return { do: 'read', at, length, ...(own.private === true ? own : {}) }
  if (roll < 88) return { do: 'host-write', at, bytes: bytes() }
  if (roll < 94) return { do: 'host-read', at, length }
  const slot = random.pick([0, 1] as const)
  if (vm.hasSlot(slot)) return { do: 'unslot', slot }
  return { do: random.chance(90) ? 'slot' : 'unslot', slot }
}
