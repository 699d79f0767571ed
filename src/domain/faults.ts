import { populate } from './backing.ts'
import type { HostContext } from './context.ts'
import { filePage, privateFrame, slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import * as stage2 from './stage2.ts'
import type { Exit, MemslotState, VmState } from './state.ts'
import { touch } from './userspace.ts'

/** A guest access that missed, as KVM gets to see it. `private` is the access's own kind. */
export type GuestFault = {
  readonly vcpu: number
  readonly gfn: number
  readonly private: boolean
  readonly write: boolean
  /** Bytes into the page, for an MMIO exit. */
  readonly offset: number
}

/**
 * KVM's second-stage fault handler (kvm-guest-memory.md d.1): installs a mapping, or says why the VMM must act.
 * Returns undefined when the guest can go on.
 */
export function resolveFault(host: HostContext, vm: VmState, fault: GuestFault): Exit | undefined {
  const privacy = privacyOf(vm)
  const recorded = privacy.isPrivate(host, vm, fault.gfn)
  const isPrivate = host.backend.properties.accessKind === 'record' ? recorded : fault.private
  if (isPrivate !== recorded) return memoryFault(fault, isPrivate)
  const slot = slotAt(vm, fault.gfn)
  if (slot === undefined) return isPrivate ? memoryFault(fault, true) : mmio(fault)
  return isPrivate ? mapPrivate(host, vm, slot, fault) : mapShared(host, vm, slot, fault)
}

function mapPrivate(host: HostContext, vm: VmState, slot: MemslotState, fault: GuestFault): Exit | undefined {
  const memfile = slot.file
  if (memfile === null) return memoryFault(fault, true)
  const page = filePage(slot, fault.gfn)
  const folio = page - (page % memfile.span)
  const errno = populate(host, memfile, folio, folio + memfile.span)
  if (errno !== undefined) return memoryFault(fault, true, errno)
  const frame = privateFrame(slot, fault.gfn)
  const span = memfile.span
  const inFolio = page - folio
  const firstGfn = fault.gfn - inFolio
  const whole = span > 1 && firstGfn % span === 0 && insideSlot(slot, firstGfn, span)
  const verdict = whole
    ? host.hardware.assign(vm.id, firstGfn, frame - inFolio, span, span)
    : host.hardware.assign(vm.id, fault.gfn, frame, 1, 1)
  if (!verdict.ok) return memoryFault(fault, true, verdict.refusal.errno)
  stage2.install(vm, fault.gfn, whole ? mappingSpan(host, vm, fault.gfn, frame, span) : 1, true)
  host.changes.pagesOf(vm.id, whole ? firstGfn : fault.gfn, whole ? firstGfn + span : fault.gfn + 1)
  return undefined
}

/** The largest block that folio, hardware and attributes allow: a block in which attributes differ is never mapped whole (d.2, d.3). */
function mappingSpan(host: HostContext, vm: VmState, gfn: number, frame: number, folioSpan: number): number {
  let span = Math.min(folioSpan, host.hardware.mappingSpan(frame))
  while (span > 1) {
    const start = gfn - (gfn % span)
    if (privacyOf(vm).runEnd(host, vm, start, start + span) === start + span) return span
    span /= 512
  }
  return 1
}

const insideSlot = (slot: MemslotState, first: number, pages: number): boolean =>
  first >= slot.firstGfn && first + pages <= slot.firstGfn + slot.pages

function mapShared(host: HostContext, vm: VmState, slot: MemslotState, fault: GuestFault): Exit | undefined {
  if (fault.write && slot.readOnly) return mmio(fault)
  if (slot.hva === null) return memoryFault(fault, false)
  const frame = touch(host, vm, fault.gfn - slot.firstGfn + slot.hva)
  if (frame < 0) return memoryFault(fault, false, 'ENOMEM')
  stage2.install(vm, fault.gfn, 1, false)
  host.changes.pagesOf(vm.id, fault.gfn, fault.gfn + 1)
  return undefined
}

/** KVM_EXIT_MEMORY_FAULT: the size is always one page, whatever the VMM then converts (d.1). */
const memoryFault = (fault: GuestFault, isPrivate: boolean, errno = 'EFAULT'): Exit => ({
  vcpu: fault.vcpu,
  reason: 'KVM_EXIT_MEMORY_FAULT',
  firstGfn: fault.gfn,
  pages: 1,
  private: isPrivate,
  errno,
})

const mmio = (fault: GuestFault): Exit => ({
  vcpu: fault.vcpu,
  reason: 'KVM_EXIT_MMIO',
  firstGfn: fault.gfn,
  pages: 1,
  private: false,
  offset: fault.offset,
})
