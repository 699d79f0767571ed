import { type Expected, refuse, reply } from './expected.ts'
import { changeRange, finishStateSet, PARKED, RSI } from './naive-ripas.ts'
import {
  type Access,
  type Entry,
  type File,
  NOT_PROCESSED,
  PAGE,
  type Page,
  type Slot,
  type StateSet,
  type Vm,
  type Waiting,
} from './naive-state.ts'
import type { Technology } from './technology.ts'

const EINVAL = -22
const ENOMEM = -12

type Stop = { readonly reason: string; readonly gpa: number; readonly private: boolean; readonly errno?: string }
type GuestFault = { readonly guestFault: string }
type Request = Extract<Waiting, { kind: 'request' }>

/** intel-tdx.md d.4, c.5, d.2: what the guest of a TD is told. */
const TDX = {
  SUCCESS: '0x0',
  INVALID_OPERAND: '0x8000000000000000',
  ALREADY_ACCEPTED: '0xb0a00000000',
  NO_VALID_VE_INFO: '0xc000070400000000',
} as const
const EFAULT = -14

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

  /** The guest asks for what its pages are to be (CCA), in place of accepting them. */
  get #asks(): boolean {
    return this.technology.sept?.guest === 'asks'
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
    if (this.privatePage(vm, gfn) === undefined) return 'none'
    if (this.#asks && vm.sept.has(gfn) && vm.ripas.get(gfn) !== 'RAM') return 'rmm'
    return this.technology.sept === undefined || vm.sept.has(gfn) ? this.technology.privateOwner : 'host'
  }

  /** The state of a guest frame in the hardware's private table. */
  septState(vm: Vm, gfn: number): string {
    if (this.#asks) {
      const granule = vm.sept.has(gfn) ? 'DATA REALM' : 'UNDELEGATED NS'
      return `${vm.sept.has(gfn) ? 'ASSIGNED' : 'UNASSIGNED'} ${vm.ripas.get(gfn) ?? 'EMPTY'} ${granule}`
    }
    const accepted = vm.sept.get(gfn)
    return accepted === undefined ? 'FREE' : accepted ? 'MAPPED' : 'PENDING'
  }

  /** A page goes to the hardware wherever a slot shows it, to be accepted by the guest. */
  map(vm: Vm, slot: Slot, page: number): void {
    const at = page - slot.filePage
    if (this.technology.sept === undefined || at < 0 || at >= slot.pages) return
    if (!vm.sept.has(slot.gfn + at)) vm.sept.set(slot.gfn + at, false)
  }

  /** A page leaves the hardware's table, and its contents are gone. */
  unmap(vm: Vm, gfn: number): void {
    if (!vm.sept.delete(gfn)) return
    if (vm.ripas.has(gfn)) vm.ripas.set(gfn, 'DESTROYED')
    const page = this.privatePage(vm, gfn)
    if (page !== undefined) page.bytes = undefined
  }

  populate(file: File, page: number): boolean {
    if (file.pages.has(page)) return true
    const taken = this.take()
    if (taken === undefined) return false
    file.pages.set(page, taken)
    const vm = this.vms.get(file.vm ?? '')
    if (vm?.privacy === 'populated')
      for (const slot of vm.slots.values()) if (slot.file === file) this.map(vm, slot, page)
    return true
  }

  punch(file: File, page: number): void {
    const held = file.pages.get(page)
    if (held === undefined) return
    const vm = this.vms.get(file.vm ?? '')
    for (const slot of vm?.slots.values() ?? []) {
      const at = page - slot.filePage
      if (vm !== undefined && slot.file === file && at >= 0 && at < slot.pages) this.unmap(vm, slot.gfn + at)
    }
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
        else {
          vm.attributes.delete(at)
          this.unmap(vm, at)
        }
      }
      if (file === undefined) continue
      const page = at - slot.gfn + slot.filePage
      if (!toPrivate) this.punch(file, page)
      else if (vm.privacy === 'populated' && !this.populate(file, page)) return ENOMEM
    }
    return 0
  }

  /** Why a vCPU does not run. */
  #idle(vm: Vm, vcpu: number): Expected | undefined {
    if (vm.waiting[vcpu] !== null) return refuse('vcpu-waiting')
    return vm.dead ? refuse('vm-not-running') : undefined
  }

  veInfo(vm: Vm, vcpu: number): Expected {
    return this.#idle(vm, vcpu) ?? reply({ code: vm.ve.delete(vcpu) ? TDX.SUCCESS : TDX.NO_VALID_VE_INFO })
  }

  stateSet(vm: Vm, vcpu: number, set: StateSet): Expected {
    const idle = this.#idle(vm, vcpu)
    if (idle !== undefined) return idle
    if (vcpu !== 0) return reply({ code: PARKED })
    if (vm.conversion === 'manual') {
      this.#hold(vm, vcpu, { kind: 'state-set', set })
      return reply({ code: RSI.PENDING, exits: 0, waits: true })
    }
    const ret = this.convert(vm, set.base, set.top - set.base, set.ram)
    return reply({ ...finishStateSet(this, vm, set, ret), exits: 1 })
  }

  pageStates(vm: Vm, vcpu: number, entries: readonly Entry[], accept: boolean): Expected {
    const idle = this.#idle(vm, vcpu)
    if (idle !== undefined) return idle
    const codes = entries.map(() => NOT_PROCESSED)
    const request: Request = { kind: 'request', entries, accept, at: 0, completed: 0, codes, accepting: null }
    return reply(this.#serve(vm, vcpu, request))
  }

  #serve(vm: Vm, vcpu: number, request: Request) {
    let exits = 0
    for (let entry = request.entries[request.at]; entry !== undefined; entry = request.entries[request.at]) {
      if (vm.conversion === 'manual') {
        this.#hold(vm, vcpu, request)
        return this.#shown(request, exits, true)
      }
      exits++
      this.#answer(vm, request, this.convert(vm, entry.gfn, entry.pages * entry.span, entry.operation === 'private'))
    }
    if (!request.accept || this.#asks) return this.#shown(request, exits, false)
    const accepted = this.#accept(vm, vcpu, request)
    return this.#shown(request, exits + accepted.exits, accepted.waits)
  }

  #answer(vm: Vm, request: Request, ret: number): void {
    if (this.#asks) this.#ask(vm, request, ret)
    else this.#convertAnswer(request, ret)
    request.at = ret === 0 ? request.at + 1 : request.entries.length
  }

  #ask(vm: Vm, request: Request, ret: number): void {
    const { gfn, pages, span, operation } = request.entries[request.at] as Entry
    request.codes[request.at] = changeRange(this, vm, gfn, pages * span, operation === 'private', ret)
    if (ret === 0) request.completed++
  }

  #convertAnswer(request: Request, ret: number): void {
    const refused = this.technology.sept === undefined ? ret : TDX.INVALID_OPERAND
    const done = this.technology.sept === undefined ? 0 : TDX.SUCCESS
    request.codes[request.at] = ret === 0 ? done : refused
    if (ret === 0) request.completed++
  }

  #shown({ codes, completed }: Request, exits: number, waits: boolean) {
    return { completed, codes: [...codes], exits, waits }
  }

  /** The guest accepts page by page what became private, and ends an entry at the first page that is not to be had. */
  #accept(vm: Vm, vcpu: number, request: Request): { exits: number; waits: boolean } {
    let exits = 0
    const { entry: first, gfn: from } = request.accepting ?? { entry: 0, gfn: -1 }
    for (const [index, entry] of request.entries.entries()) {
      if (index < first || entry.operation !== 'private' || request.codes[index] !== TDX.SUCCESS) continue
      const end = entry.gfn + entry.pages * entry.span
      for (let gfn = index === first && from >= 0 ? from : entry.gfn; gfn < end; gfn++) {
        if (vm.sept.get(gfn) === true) {
          request.codes[index] = TDX.ALREADY_ACCEPTED
          break
        }
        let stop = this.#map(vm, gfn)
        if (stop !== undefined && this.#mends(vm, gfn, stop)) {
          exits++
          if (this.convert(vm, gfn, 1, true) === 0) stop = this.#map(vm, gfn)
        }
        if (stop === undefined) this.#accepted(vm, gfn)
        else if (vm.conversion === 'manual') {
          request.accepting = { entry: index, gfn }
          this.#hold(vm, vcpu, request)
          return { exits, waits: true }
        } else {
          request.codes[index] = EFAULT
          break
        }
      }
    }
    return { exits, waits: false }
  }

  #accepted(vm: Vm, gfn: number): void {
    vm.sept.set(gfn, true)
    const page = this.privatePage(vm, gfn)
    if (page !== undefined) page.bytes = undefined
  }

  /** KVM's private fault: the page is there for the guest, or the exit that it comes to. */
  #map(vm: Vm, gfn: number): Stop | undefined {
    const reached = this.#backed(vm, gfn, true, gfn * PAGE, false)
    if (!isPage(reached)) return reached
    if (!vm.sept.has(gfn)) vm.sept.set(gfn, false)
    return undefined
  }

  #hold(vm: Vm, vcpu: number, waiting: Waiting): void {
    const id = `exit-${this.seq}`
    vm.exits.set(id, { vcpu, waiting })
    vm.waiting[vcpu] = id
  }

  resume(vm: Vm, exit: string, ret: number): Expected {
    const held = vm.exits.get(exit)
    if (held === undefined) return refuse('no-such-exit')
    if (vm.dead) return refuse('vm-not-running')
    vm.exits.delete(exit)
    vm.waiting[held.vcpu] = null
    const { waiting } = held
    if (waiting.kind === 'state-set') return reply({ ...finishStateSet(this, vm, waiting.set, ret), exits: 0 })
    if (waiting.kind === 'access') {
      return reply(ret === 0 ? this.#run(vm, waiting.access) : { outcome: 'refused' })
    }
    if (waiting.accepting === null) this.#answer(vm, waiting, ret)
    else if (ret !== 0) return reply({ outcome: 'refused' })
    return reply(this.#serve(vm, held.vcpu, waiting))
  }

  access(vm: Vm, access: Access): Expected {
    return this.#idle(vm, access.vcpu) ?? reply(this.#run(vm, access))
  }

  #run(vm: Vm, access: Access): Readonly<Record<string, unknown>> {
    const read = new Uint8Array(access.bytes.length)
    let exits = 0
    for (let at = 0; at < access.bytes.length; at++) {
      const gpa = access.gpa + at
      const gfn = Math.floor(gpa / PAGE)
      let page = this.#reach(vm, access, gpa)
      if ('reason' in page && this.#mends(vm, gfn, page)) {
        exits++
        if (this.convert(vm, gfn, 1, page.private) === 0) page = this.#reach(vm, access, gpa)
      }
      if ('guestFault' in page) return { outcome: 'guest-fault', fault: page.guestFault, completed: at, exits }
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

  /** The page that a byte of an access reaches, or what it comes to. */
  #reach(vm: Vm, access: Access, gpa: number): Page | Stop | GuestFault {
    const gfn = Math.floor(gpa / PAGE)
    const isPrivate = this.technology.accessIsPrivate(access.asked, this.isPrivate(vm, gfn))
    if (this.#asks && isPrivate && !vm.ripas.has(gfn)) return { guestFault: 'SEA' }
    const page = this.#backed(vm, gfn, isPrivate, gpa, access.kind === 'write')
    if (!isPage(page) || !isPrivate || this.technology.sept === undefined) return page
    if (this.#asks) {
      vm.sept.set(gfn, true)
      if (vm.ripas.get(gfn) === 'RAM') return page
      return { reason: 'KVM_EXIT_INTERNAL_ERROR', gpa: gfn * PAGE, private: true }
    }
    if (vm.sept.get(gfn) === true) return page
    vm.sept.set(gfn, false)
    if (vm.exitsOnPending) {
      vm.dead = true
      return { reason: 'KVM_EXIT_INTERNAL_ERROR', gpa: gfn * PAGE, private: true, errno: 'EIO' }
    }
    if (vm.ve.has(access.vcpu)) return { guestFault: '#DF' }
    vm.ve.add(access.vcpu)
    return { guestFault: '#VE' }
  }

  /** What KVM finds behind a guest address, or the exit it comes to (kvm-guest-memory.md d.1). */
  #backed(vm: Vm, gfn: number, isPrivate: boolean, gpa: number, write: boolean): Page | Stop {
    const recorded = this.isPrivate(vm, gfn)
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
    if (slot === undefined || (slot.readOnly && write)) return mmio
    if (slot.hva === null) return fault('EFAULT')
    return this.touch(vm, gfn - slot.gfn + slot.hva) ?? fault('ENOMEM')
  }
}

const isPage = (value: Page | Stop | GuestFault): value is Page => 'pins' in value

export function writeByte(page: Page, offset: number, value: number): void {
  page.bytes ??= new Uint8Array(PAGE)
  page.bytes[offset] = value
}
