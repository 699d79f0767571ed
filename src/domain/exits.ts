import type { HostContext } from './context.ts'
import { filePage, slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import type { Exit, GuestOperation, MemslotState, VmState } from './state.ts'

/** What a guest operation came to: a reply, or an exit it cannot pass until somebody has acted. */
export type Stop = { readonly exit: Exit; readonly operation: GuestOperation; readonly answersRequest?: true }

/** An exit that happened while a command was served. `id` when it waits; `ret` the VMM's answer, where it has answered. */
export type ExitRecord = { readonly exit: Exit; readonly id: string | null; readonly ret: number | null }
/** `omitted` counts the exits that happened after the last one that is recorded. */
export type ExitLog = { records: ExitRecord[]; omitted: number }

/** Exits of one request that are recorded. A guest may ask for a terabyte in pieces of a megabyte. */
const RECORDED = 10_000

/** A log that most requests never write to more than once: its array has no room to spare. */
export const openLog = (): ExitLog => ({ records: [], omitted: 0 })

export function logExit(log: ExitLog, record: ExitRecord): void {
  if (log.records.length === 0) log.records = [record]
  else if (log.records.length < RECORDED) log.records.push(record)
  else log.omitted++
}

/** `exit_reason` in the run structure, and KVM_MEMORY_EXIT_FLAG_PRIVATE (kvm-guest-memory.md b.1). */
const EXIT_NUMBER = {
  KVM_EXIT_HYPERCALL: 3,
  KVM_EXIT_MMIO: 6,
  KVM_EXIT_INTERNAL_ERROR: 17,
  KVM_EXIT_MEMORY_FAULT: 39,
} as const
const FLAG_PRIVATE = 8

/** An exit as clients see it. */
export function presentExit({ exit, id, ret }: ExitRecord): Record<string, unknown> {
  const { firstGfn, pages, offset, span, ...rest } = exit
  return {
    id,
    ...rest,
    number: EXIT_NUMBER[exit.reason],
    ...(exit.reason === 'KVM_EXIT_MEMORY_FAULT' ? { flags: exit.private ? FLAG_PRIVATE : 0 } : {}),
    gpa: byteAddress(firstGfn, offset ?? 0),
    length: pages * 4096,
    ...(span === undefined ? {} : { hypercall: mapGpaRange(exit, span) }),
    ...(ret === null ? {} : { ret }),
  }
}

const SIZE_BITS: Readonly<Record<number, number>> = { 1: 0, 512: 1, 262144: 2 }

/** KVM_HC_MAP_GPA_RANGE: gpa, pages, and page size in bits 3:0 with bit 4 for encrypted (kvm-guest-memory.md b.1). */
const mapGpaRange = (exit: Exit, span: number) => ({
  nr: 12,
  args: [
    byteAddress(exit.firstGfn, 0),
    `0x${exit.pages.toString(16)}`,
    `0x${((SIZE_BITS[span] ?? 0) | (exit.private ? 16 : 0)).toString(16)}`,
  ],
})

/** A byte address as clients read it. */
export const byteAddress = (gfn: number, offset: number): string =>
  `0x${((BigInt(gfn) << 12n) + BigInt(offset)).toString(16)}`

/**
 * What the VMM does with an exit when gmemd plays it: converts what the exit asks for, whole folios at a time. Returns
 * false when this exit is nothing a conversion can mend.
 */
export function convertForFault(host: HostContext, vm: VmState, exit: Exit, log: ExitLog): boolean {
  if (exit.reason !== 'KVM_EXIT_MEMORY_FAULT') return false
  const privacy = privacyOf(vm)
  if (privacy.isPrivate(host, vm, exit.firstGfn) === exit.private) return false
  const slot = slotAt(vm, exit.firstGfn)
  const { first, end } = folioInSlot(slot, exit.firstGfn)
  const ret = privacy.convert(host, vm, first, end - first, exit.private)
  logExit(log, { exit, id: null, ret })
  // In a hole a conversion to shared is a success that changes nothing (f), and the access would fault for ever.
  return ret === 0 && privacy.isPrivate(host, vm, exit.firstGfn) === exit.private
}

/** The guest frames around `gfn` that the slot shows of one folio of its memfile. */
function folioInSlot(slot: MemslotState | undefined, gfn: number): { first: number; end: number } {
  if (slot === undefined || slot.file === null) return { first: gfn, end: gfn + 1 }
  const { span } = slot.file
  const folio = gfn - (filePage(slot, gfn) % span)
  return { first: Math.max(folio, slot.firstGfn), end: Math.min(folio + span, slot.firstGfn + slot.pages) }
}

/** Puts a vCPU out of the guest until the client, as VMM, resumes the exit. */
export function hold(host: HostContext, vm: VmState, stop: Stop): ExitRecord {
  const id = `exit-${host.seq}`
  const { exit, operation, answersRequest = false } = stop
  vm.exits.set(id, { id, exit, operation, answersRequest })
  const vcpu = vm.vcpus[stop.exit.vcpu]
  if (vcpu !== undefined) vcpu.waiting = id
  return { exit: stop.exit, id, ret: null }
}

/** Exits that wait for the VMM in manual mode. MMIO is for a device model to answer, at once. */
export const waits = (vm: VmState, exit: Exit): boolean =>
  vm.conversion === 'manual' && (exit.reason === 'KVM_EXIT_MEMORY_FAULT' || exit.reason === 'KVM_EXIT_HYPERCALL')
