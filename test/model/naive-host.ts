import {
  type Access,
  type Entry,
  type File,
  NOT_PROCESSED,
  PAGE,
  type Page,
  type Slot,
  type Vm,
  type Waiting,
} from './naive-state.ts'
import type { Technology } from './technology.ts'

/** What a command comes to: the errno or code of a refusal, or what can be compared of the reply. */
export type Expected = { readonly refused: string } | { readonly reply: Readonly<Record<string, unknown>> }

export const refuse = (refused: string): Expected => ({ refused })
export const reply = (value: Readonly<Record<string, unknown>> = {}): Expected => ({ reply: value })

const EINVAL = -22
const ENOMEM = -12

type Stop = { readonly reason: string; readonly gpa: number; readonly private: boolean; readonly errno?: string }

/** The naive model of a host: every rule of the kernel's, one page at a time. */
export class NaiveHost {
  readonly technology: Technology
  readonly vms = new Map<string, Vm>()
  readonly files = new Map<string, File>()
  free: number
  /** Names the exits of the command under way. */
  seq = 0

  constructor(technology: Technology, frames: number) {
    this.technology = technology
    this.free = frames - 1
  }

  /** A page of zeros, or undefined when memory is gone. */
  take(): Page | undefined {
    if (this.free === 0) return undefined
    this.free--
    return { bytes: undefined, pins: 0, held: true }
  }

  give(page: Page): void {
    page.held = false
    if (page.pins === 0) this.free++
  }

  unpin(page: Page): void {
    page.pins--
    if (page.pins === 0 && !page.held) this.free++
  }

  slotAt(vm: Vm, gfn: number): Slot | undefined {
    for (const slot of vm.slots.values()) if (gfn >= slot.gfn && gfn < slot.gfn + slot.pages) return slot
    return undefined
  }

  /** The open file behind a slot. */
  fileOf(slot: Slot | undefined): File | undefined {
    return slot === undefined || slot.closed || slot.file === null ? undefined : slot.file
  }

  privatePage(vm: Vm, gfn: number): Page | undefined {
    const slot = this.slotAt(vm, gfn)
    return slot && this.fileOf(slot)?.pages.get(gfn - slot.gfn + slot.filePage)
  }

  sharedPage(vm: Vm, gfn: number): Page | undefined {
    const slot = this.slotAt(vm, gfn)
    return slot === undefined || slot.hva === null ? undefined : vm.user.get(gfn - slot.gfn + slot.hva)
  }

  isPrivate(vm: Vm, gfn: number): boolean {
    return vm.privacy === 'attributes' ? vm.attributes.has(gfn) : this.privatePage(vm, gfn) !== undefined
  }

  owner(vm: Vm, gfn: number): string {
    if (this.slotAt(vm, gfn) === undefined) return 'none'
    if (!this.isPrivate(vm, gfn)) return 'host'
    return this.privatePage(vm, gfn) === undefined ? 'none' : this.technology.privateOwner
  }

  populate(file: File, page: number): boolean {
    if (file.pages.has(page)) return true
    const taken = this.take()
    if (taken === undefined) return false
    file.pages.set(page, taken)
    return true
  }

  punch(file: File, page: number): void {
    const held = file.pages.get(page)
    if (held === undefined) return
    file.pages.delete(page)
    this.give(held)
  }

  touch(vm: Vm, hva: number): Page | undefined {
    const page = vm.user.get(hva) ?? this.take()
    if (page !== undefined) vm.user.set(hva, page)
    return page
  }

  /** The VMM's part of a conversion: 0, or a negative errno with what came before it done. */
  convert(vm: Vm, gfn: number, pages: number, toPrivate: boolean): number {
    for (let at = gfn; at < gfn + pages; at++) {
      const slot = this.slotAt(vm, at)
      const file = this.fileOf(slot)
      if (toPrivate && file === undefined) return EINVAL
      if (slot === undefined) continue
      if (vm.privacy === 'attributes') {
        if (toPrivate) vm.attributes.add(at)
        else vm.attributes.delete(at)
      }
      if (file === undefined) continue
      const page = at - slot.gfn + slot.filePage
      if (!toPrivate) this.punch(file, page)
      else if (vm.privacy === 'populated' && !this.populate(file, page)) return ENOMEM
    }
    return 0
  }

  pageStates(vm: Vm, vcpu: number, entries: readonly Entry[]): Expected {
    if (vm.waiting[vcpu] !== null) return refuse('vcpu-waiting')
    const request: Waiting = { kind: 'request', entries, at: 0, codes: entries.map(() => NOT_PROCESSED) }
    return reply(this.#serve(vm, vcpu, request))
  }

  #serve(vm: Vm, vcpu: number, request: Extract<Waiting, { kind: 'request' }>) {
    let exits = 0
    for (let entry = request.entries[request.at]; entry !== undefined; entry = request.entries[request.at]) {
      if (vm.conversion === 'manual') {
        this.#hold(vm, vcpu, request)
        return this.#shown(request, exits, true)
      }
      exits++
      this.#answer(request, this.convert(vm, entry.gfn, entry.pages * entry.span, entry.operation === 'private'))
    }
    return this.#shown(request, exits, false)
  }

  #answer(request: Extract<Waiting, { kind: 'request' }>, ret: number): void {
    request.codes[request.at] = ret
    request.at = ret === 0 ? request.at + 1 : request.entries.length
  }

  #shown({ codes }: Extract<Waiting, { kind: 'request' }>, exits: number, waits: boolean) {
    return { completed: codes.filter((code) => code === 0).length, codes: [...codes], exits, waits }
  }

  #hold(vm: Vm, vcpu: number, waiting: Waiting): void {
    const id = `exit-${this.seq}`
    vm.exits.set(id, { vcpu, waiting })
    vm.waiting[vcpu] = id
  }

  resume(vm: Vm, exit: string, ret: number): Expected {
    const held = vm.exits.get(exit)
    if (held === undefined) return refuse('no-such-exit')
    vm.exits.delete(exit)
    vm.waiting[held.vcpu] = null
    const { waiting } = held
    if (waiting.kind === 'access') {
      return reply(ret === 0 ? this.#run(vm, waiting.access) : { outcome: 'refused' })
    }
    this.#answer(waiting, ret)
    return reply(this.#serve(vm, held.vcpu, waiting))
  }

  access(vm: Vm, access: Access): Expected {
    return vm.waiting[access.vcpu] === null ? reply(this.#run(vm, access)) : refuse('vcpu-waiting')
  }

  #run(vm: Vm, access: Access): Readonly<Record<string, unknown>> {
    const read = new Uint8Array(access.bytes.length)
    let exits = 0
    for (let at = 0; at < access.bytes.length; at++) {
      const gpa = access.gpa + at
      const gfn = Math.floor(gpa / PAGE)
      let page = this.#reach(vm, access, gpa)
      if (!isPage(page) && this.#mends(vm, gfn, page)) {
        exits++
        if (this.convert(vm, gfn, 1, page.private) === 0) page = this.#reach(vm, access, gpa)
      }
      if (!isPage(page)) {
        const waits = vm.conversion === 'manual' && page.reason === 'KVM_EXIT_MEMORY_FAULT'
        if (waits) this.#hold(vm, access.vcpu, { kind: 'access', access })
        return { outcome: 'exit', exit: page, completed: at, exits, waits }
      }
      const offset = gpa % PAGE
      if (access.kind === 'read') read[at] = page.bytes?.[offset] ?? 0
      else writeByte(page, offset, access.bytes[at] ?? 0)
    }
    const data = access.kind === 'read' ? { data: Buffer.from(read).toString('base64') } : {}
    return { outcome: 'ok', ...data, exits }
  }

  /** Whether gmemd, as the VMM, converts for this exit. */
  #mends(vm: Vm, gfn: number, stop: Stop): boolean {
    if (vm.conversion === 'manual' || stop.reason !== 'KVM_EXIT_MEMORY_FAULT') return false
    return this.isPrivate(vm, gfn) !== stop.private
  }

  /** The page that a byte of an access reaches, or the exit it comes to (kvm-guest-memory.md d.1). */
  #reach(vm: Vm, access: Access, gpa: number): Page | Stop {
    const gfn = Math.floor(gpa / PAGE)
    const recorded = this.isPrivate(vm, gfn)
    const isPrivate = this.technology.accessIsPrivate(access.asked, recorded)
    const fault = (errno: string): Stop => ({
      reason: 'KVM_EXIT_MEMORY_FAULT',
      gpa: gfn * PAGE,
      private: isPrivate,
      errno,
    })
    const mmio: Stop = { reason: 'KVM_EXIT_MMIO', gpa, private: false }
    if (isPrivate !== recorded) return fault('EFAULT')
    const slot = this.slotAt(vm, gfn)
    if (isPrivate) {
      const file = this.fileOf(slot)
      if (slot === undefined || file === undefined) return fault('EFAULT')
      this.populate(file, gfn - slot.gfn + slot.filePage)
      return this.privatePage(vm, gfn) ?? fault('ENOMEM')
    }
    if (slot === undefined || (slot.readOnly && access.kind === 'write')) return mmio
    if (slot.hva === null) return fault('EFAULT')
    return this.touch(vm, gfn - slot.gfn + slot.hva) ?? fault('ENOMEM')
  }
}

const isPage = (value: Page | Stop): value is Page => 'pins' in value

export function writeByte(page: Page, offset: number, value: number): void {
  page.bytes ??= new Uint8Array(PAGE)
  page.bytes[offset] = value
}
