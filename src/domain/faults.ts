import { populate } from './backing.ts'
import type { HostContext } from './context.ts'
import { filePage, privateFrame, slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import * as stage2 from './stage2.ts'
import type { Exit, MemfileState, MemslotState, VmState } from './state.ts'
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
  const refusal = populate(host, memfile, folio, folio + memfile.span)
  if (refusal !== undefined) return memoryFault(fault, true, refusal.errno)
  const block = largestBlock(slot, memfile, fault.gfn)
  const blockGfn = fault.gfn - (fault.gfn % block)
  const span = mappingSpan(host, vm, fault.gfn, privateFrame(slot, blockGfn), block)
  // Where the hardware owns the table, a page given to it is mapped: it gets what the fault maps, and no more.
  const given = host.hardware.translatePrivate === undefined ? block : span
  const firstGfn = fault.gfn - (fault.gfn % given)
  const verdict = host.hardware.assign(vm.id, firstGfn, privateFrame(slot, firstGfn), given, given)
  if (!verdict.ok) return memoryFault(fault, true, verdict.refusal.errno)
  stage2.install(host, vm, fault.gfn, span, true)
  host.changes.pagesOf(vm.id, firstGfn, firstGfn + given)
  return undefined
}

/** The largest block that folio and slot allow: wholly inside the slot, and gpa, file offset and hva congruent (d.2). */
function largestBlock(slot: MemslotState, memfile: MemfileState, gfn: number): number {
  for (let span = memfile.span; span > 1; span /= 512) {
    const first = gfn - (gfn % span)
    const inside = first >= slot.firstGfn && first + span <= slot.firstGfn + slot.pages
    const inFolio = (slot.memfileFirstPage - slot.firstGfn) % span === 0
    if (inside && inFolio && (slot.hva === null || (slot.hva - slot.firstGfn) % span === 0)) return span
  }
  return 1
}

/** What of it hardware and attributes allow: a block in which attributes differ is never mapped whole (d.2, d.3). */
function mappingSpan(host: HostContext, vm: VmState, gfn: number, frame: number, block: number): number {
  let span = Math.min(block, host.hardware.mappingSpan(frame + (gfn % block)))
  while (span > 1) {
    const start = gfn - (gfn % span)
    if (privacyOf(vm).runEnd(host, vm, start, start + span) === start + span) return span
    span /= 512
  }
  return 1
}

function mapShared(host: HostContext, vm: VmState, slot: MemslotState, fault: GuestFault): Exit | undefined {
  if (fault.write && slot.readOnly) return mmio(fault)
  if (slot.hva === null) return memoryFault(fault, false)
  const frame = touch(host, vm, fault.gfn - slot.firstGfn + slot.hva)
  if (frame < 0) return memoryFault(fault, false, 'ENOMEM')
  stage2.install(host, vm, fault.gfn, 1, false)
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
