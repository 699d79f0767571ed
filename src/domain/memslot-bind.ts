import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import { type HostContext, refuseFromHardware } from './context.ts'
import { insertSlot, meetsSlot, removeSlot } from './memslots.ts'
import { accept, kernelRefusal, type Result } from './refusal.ts'
import * as stage2 from './stage2.ts'
import type { MemfileState, MemslotState, VmState } from './state.ts'
import { unmapUser } from './userspace.ts'

/** KVM_USER_MEM_SLOTS on x86: slot ids are below it (kvm-guest-memory.md c.4). */
export const MAX_SLOTS = 32764
/** Guest-physical addresses end here (c.4, measured: 2^52). */
const GPA_LIMIT = 2n ** 52n
const USER_LIMIT = 2n ** 47n
const MAX_PAGES = 2n ** 31n - 1n
const GIB_PAGES = 262144

/** KVM_SET_USER_MEMORY_REGION2. Byte values are unsigned 64-bit. */
export type SlotRequest = {
  readonly slot: number
  readonly gpa: bigint
  readonly size: bigint
  readonly memfile: string | null
  readonly memfileOffset: bigint
  /** Where the shared part lies: an address, `auto` for memory of its own, `none` for nothing mapped there. */
  readonly hva: bigint | 'auto' | 'none'
  readonly readOnly: boolean
  readonly dirtyLog: boolean
}

export type SlotChange = { readonly kind: 'created' | 'changed' | 'unchanged' | 'deleted'; readonly slot: MemslotState }

const einval = (code: string, detail: string, pointer: string) => kernelRefusal('EINVAL', code, detail, pointer)

/** Creates, moves, changes or (size 0) deletes a slot. Checks run in the kernel's order; the first that matches wins (c.4). */
export function setSlot(host: HostContext, vm: VmState, request: SlotRequest): Result<SlotChange> {
  const shape = checkShape(request)
  if (!shape.ok) return shape
  const old = vm.slots.find((slot) => slot.slot === request.slot)
  if (request.size === 0n) {
    if (old === undefined) return einval('no-such-slot', 'Size 0 deletes a slot, and there is none.', '/size')
    deleteSlot(host, vm, old)
    return accept({ kind: 'deleted', slot: old })
  }
  return old === undefined ? createSlot(host, vm, request) : changeSlot(host, vm, old, request)
}

function checkShape(request: SlotRequest): Result<undefined> {
  if (request.memfile !== null && (request.dirtyLog || request.readOnly)) {
    const pointer = request.dirtyLog ? '/dirtyLog' : '/readOnly'
    return einval('flags-conflict', 'A slot with a memfile has neither a dirty log nor is it read-only.', pointer)
  }
  if (request.size % 4096n !== 0n) return einval('size-unaligned', 'The size is not a multiple of 4096.', '/size')
  if (request.gpa % 4096n !== 0n) return einval('gpa-unaligned', 'The gpa is not a multiple of 4096.', '/gpa')
  if (typeof request.hva === 'bigint') {
    if (request.hva % 4096n !== 0n) return einval('hva-unaligned', 'The hva is not a multiple of 4096.', '/shared/hva')
    if (request.hva + request.size > USER_LIMIT) {
      return einval('hva-not-user', 'The range is not user address space (below 2^47).', '/shared/hva')
    }
  }
  if (request.memfile !== null) {
    if (request.memfileOffset % 4096n !== 0n) {
      return einval('memfile-offset-unaligned', 'The offset is not a multiple of 4096.', '/memfileOffset')
    }
    if (request.memfileOffset + request.size >= 2n ** 64n) {
      return einval('memfile-offset-wraps', 'offset + size wraps 2^64.', '/memfileOffset')
    }
  }
  if (request.slot >= MAX_SLOTS) return einval('slot-out-of-range', `Slot ids are below ${MAX_SLOTS}.`, '/slot')
  if (request.gpa + request.size >= 2n ** 64n) return einval('gpa-wraps', 'gpa + size wraps 2^64.', '/gpa')
  if (request.size / 4096n > MAX_PAGES) return einval('slot-too-large', 'A slot has at most 2^31 - 1 pages.', '/size')
  return accept(undefined)
}

function changeSlot(host: HostContext, vm: VmState, old: MemslotState, request: SlotRequest): Result<SlotChange> {
  if (request.memfile !== null) {
    return einval('slot-exists', 'A slot that exists cannot be set with a memfile, not even to what it is.', '/memfile')
  }
  if (old.memfile !== null)
    return einval('memfile-toggled', 'A slot keeps its memfile until it is deleted.', '/memfile')
  if (request.readOnly !== old.readOnly) {
    return einval('read-only-toggled', 'A slot stays read-only or writable until it is deleted.', '/readOnly')
  }
  if (Number(request.size / 4096n) !== old.pages) return einval('size-changed', 'A slot keeps its size.', '/size')
  if (hvaOf(request, old) !== old.hva) return einval('hva-changed', 'A slot keeps its shared memory.', '/shared/hva')
  const firstGfn = Number(request.gpa / 4096n)
  if (firstGfn === old.firstGfn && request.dirtyLog === old.dirtyLog) return accept({ kind: 'unchanged', slot: old })
  if (meetsSlot(vm, firstGfn, old.pages, old)) return overlapRefusal()
  if (request.gpa + request.size > GPA_LIMIT) return beyondLimit()
  const slot = { ...old, firstGfn, dirtyLog: request.dirtyLog, revision: host.seq }
  removeSlot(vm, old)
  stage2.zap(host, vm, old.firstGfn, old.firstGfn + old.pages)
  insertSlot(vm, slot)
  markSlot(host, vm, old)
  markSlot(host, vm, slot)
  return accept({ kind: 'changed', slot })
}

/** What the request's shared part would be for a slot that exists: left out, it stays. */
function hvaOf(request: SlotRequest, old: MemslotState): number | null {
  if (request.hva === 'auto') return old.hva
  return request.hva === 'none' ? null : Number(request.hva / 4096n)
}

function createSlot(host: HostContext, vm: VmState, request: SlotRequest): Result<SlotChange> {
  const firstGfn = Number(request.gpa / 4096n)
  const pages = Number(request.size / 4096n)
  if (meetsSlot(vm, firstGfn, pages)) return overlapRefusal()
  const memfile = memfileFor(host, vm, request, pages)
  if (!memfile.ok) return memfile
  if (request.gpa + request.size > GPA_LIMIT) return beyondLimit()
  const hva = chooseHva(vm, request, firstGfn)
  if (hva !== null && hva + pages > Number(USER_LIMIT / 4096n)) {
    return kernelRefusal('ENOMEM', 'out-of-memory', 'The address space of the VMM is used up.', '/shared')
  }
  const slot: MemslotState = {
    slot: request.slot,
    firstGfn,
    pages,
    memfile: memfile.value?.id ?? null,
    file: memfile.value ?? null,
    memfileFirstPage: Number(request.memfileOffset / 4096n),
    hva,
    ownsHva: request.hva === 'auto',
    readOnly: request.readOnly,
    dirtyLog: request.dirtyLog,
    revision: host.seq,
  }
  insertSlot(vm, slot)
  if (memfile.value !== undefined) {
    bindRange(memfile.value, slot)
    const given = vm.preparedByFallocate ? assignPopulated(host, vm, memfile.value, slot) : undefined
    if (given !== undefined) {
      unbindRange(memfile.value, slot)
      removeSlot(vm, slot)
      return given
    }
  }
  if (hva !== null && slot.ownsHva) vm.nextHva = hva + pages
  markSlot(host, vm, slot)
  return accept({ kind: 'created', slot })
}

const overlapRefusal = () =>
  kernelRefusal('EEXIST', 'slot-overlaps', 'The guest-physical range meets another slot.', '/gpa')

const beyondLimit = () => einval('gpa-beyond-limit', 'The slot ends beyond the 2^52 bytes a guest can address.', '/gpa')

function memfileFor(
  host: HostContext,
  vm: VmState,
  request: SlotRequest,
  pages: number,
): Result<MemfileState | undefined> {
  if (request.memfile === null) return accept(undefined)
  const memfile = host.state.memfiles.get(request.memfile)
  if (memfile === undefined) {
    return kernelRefusal('EBADF', 'no-such-memfile', `There is no open memfile "${request.memfile}".`, '/memfile')
  }
  if (memfile.vm !== vm) {
    return einval('memfile-not-this-vm', `Memfile "${memfile.id}" is not bound to this VM.`, '/memfile')
  }
  if (request.memfileOffset + request.size > BigInt(memfile.pages) * 4096n) {
    return einval('beyond-memfile', 'offset + size exceeds the memfile.', '/memfileOffset')
  }
  const first = Number(request.memfileOffset / 4096n)
  const taken = memfile.bindings.some(
    (other) => other.firstPage < first + pages && first < other.firstPage + other.pages,
  )
  if (taken)
    return einval('memfile-range-bound', 'A page of this file range is bound by a slot already.', '/memfileOffset')
  return accept(memfile)
}

/** Memory of the slot's own lies congruent to its gpa modulo 1 GiB, so that block sizes are never lost to it (d.2). */
function chooseHva(vm: VmState, request: SlotRequest, firstGfn: number): number | null {
  if (request.hva === 'none') return null
  if (request.hva !== 'auto') return Number(request.hva / 4096n)
  return Math.ceil(vm.nextHva / GIB_PAGES) * GIB_PAGES + (firstGfn % GIB_PAGES)
}

function bindRange(memfile: MemfileState, slot: MemslotState): void {
  const { firstGfn, pages } = slot
  memfile.bindings.push({ slot: slot.slot, firstGfn, firstPage: slot.memfileFirstPage, pages })
  memfile.bindings.sort((a, b) => a.firstPage - b.firstPage)
}

function unbindRange(memfile: MemfileState, slot: MemslotState): void {
  const at = memfile.bindings.findIndex((binding) => binding.slot === slot.slot)
  if (at >= 0) memfile.bindings.splice(at, 1)
}

/** Pages populated before the slot was there become the guest's now that they have an address. */
function assignPopulated(
  host: HostContext,
  vm: VmState,
  memfile: MemfileState,
  slot: MemslotState,
): Result<never> | undefined {
  const end = slot.memfileFirstPage + slot.pages
  let page = pageMap.nextNonZero(memfile.backing, slot.memfileFirstPage, end)
  while (page < end) {
    const runEnd = pageMap.nextRun(memfile.backing, page, end)
    const frame = translation.target(page, pageMap.get(memfile.backing, page))
    const gfn = slot.firstGfn + page - slot.memfileFirstPage
    const verdict = host.hardware.assign(vm.id, gfn, frame, runEnd - page, memfile.span)
    if (!verdict.ok) {
      releasePopulated(host, vm, memfile, slot, page)
      return refuseFromHardware(verdict.refusal)
    }
    page = pageMap.nextNonZero(memfile.backing, runEnd, end)
  }
  return undefined
}

/** Takes back what {@link assignPopulated} gave of file pages up to `end`. */
function releasePopulated(
  host: HostContext,
  vm: VmState,
  memfile: MemfileState,
  slot: MemslotState,
  end: number,
): void {
  pageMap.forEachRun(memfile.backing, slot.memfileFirstPage, end, (first, last, value) => {
    if (!translation.isPresent(value)) return
    const gfn = slot.firstGfn + first - slot.memfileFirstPage
    host.hardware.release(vm.id, gfn, translation.target(first, value), last - first)
  })
}

/** Deletes a slot: its binding is freed page by page, the memfile keeps its contents (c.4). */
export function deleteSlot(host: HostContext, vm: VmState, slot: MemslotState): void {
  stage2.zap(host, vm, slot.firstGfn, slot.firstGfn + slot.pages)
  if (slot.file !== null) unbindRange(slot.file, slot)
  removeSlot(vm, slot)
  if (slot.ownsHva && slot.hva !== null) unmapUser(host, vm, slot.hva, slot.hva + slot.pages)
  markSlot(host, vm, slot)
}

function markSlot(host: HostContext, vm: VmState, slot: MemslotState): void {
  host.changes.memslots.add(`${vm.id}/${slot.slot}`)
  host.changes.pagesOf(vm.id, slot.firstGfn, slot.firstGfn + slot.pages)
}
