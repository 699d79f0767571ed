import type { AccessKind, Fault, GuestCheck, HostCheck, Mapping } from '../contract.ts'
import { type Host, vmOf } from './data.ts'
import { smashAround } from './instructions-host.ts'
import { viewOf } from './memory.ts'
import { NPF, nestedPageFault, notValidatedFault, rmpFault } from './npf.ts'
import { entryOf, isGfn, markOf } from './rmp.ts'
import { ASSIGNED, asidOf, CONTEXT, IMMUTABLE, LARGE, PERMISSION, permissionsOf, VALIDATED, VMSA } from './states.ts'

const OK: GuestCheck & HostCheck = { kind: 'ok' }
const CIPHERTEXT: GuestCheck & HostCheck = { kind: 'ciphertext' }
/** KVM has no remedy: it warns and resumes the guest, which faults again (amd-sev-snp.md b.7). */
const unmended = (fault: Fault): GuestCheck => ({ kind: 'host-fault', fault, mended: false })

const ACCESS_BITS: Readonly<Record<AccessKind, bigint>> = { read: 0n, write: NPF.WRITE, execute: NPF.FETCH }
const NEEDED: Readonly<Record<AccessKind, number>> = {
  read: PERMISSION.read,
  write: PERMISSION.write,
  execute: PERMISSION.executeSupervisor,
}

/** Checks of a guest's access (amd-sev-snp.md b.7), once a nested mapping exists. Fetches are always private (a.1). */
export function checkGuest(
  host: Host,
  vm: string,
  gfn: number,
  mapping: Mapping,
  isPrivate: boolean,
  kind: AccessKind,
  vmpl: number,
): GuestCheck {
  const { frame } = mapping
  if (isPrivate || kind === 'execute') return checkPrivate(host, vm, gfn, mapping, kind, vmpl)
  if (frame >= host.rmp.frames) return OK
  if (kind === 'read') return readsCiphertext(host, frame) ? CIPHERTEXT : OK
  if ((entryOf(host.rmp, frame) & ASSIGNED) === 0) return OK
  return unmended(nestedPageFault(NPF.PRESENT | NPF.RMP | NPF.WRITE, 'A shared write reaches an assigned page.'))
}

/** C=1: covered, owner, gpa, not immutable, size; then validated; then the VMPL's permission. */
function checkPrivate(
  host: Host,
  vm: string,
  gfn: number,
  { frame, span }: Mapping,
  kind: AccessKind,
  vmpl: number,
): GuestCheck {
  const { rmp } = host
  const bits = ACCESS_BITS[kind]
  if (frame >= rmp.frames) return unmended(rmpFault(bits, 'The page lies outside the RMP.'))
  const entry = entryOf(rmp, frame)
  const { asid } = vmOf(host, vm)
  if ((entry & ASSIGNED) === 0 || asidOf(entry) !== asid)
    return unmended(rmpFault(bits, "The RMP entry is not assigned to this guest's ASID."))
  if (!isGfn(rmp, frame, gfn)) return unmended(rmpFault(bits, 'The RMP entry has another guest address.'))
  if (entry & IMMUTABLE) return unmended(rmpFault(bits, 'The RMP entry is immutable.'))
  if (span === 1 && entry & LARGE) {
    smashAround(host, frame, gfn, 'a 4K nested mapping of a 2M RMP entry')
    return {
      kind: 'host-fault',
      fault: rmpFault(bits | NPF.SIZEM, 'The nested mapping is 4K and the RMP entry 2M.'),
      mended: true,
    }
  }
  // KVM finds the entry 4K already, zaps the 2M mapping and resumes.
  if (span > 1 && (entry & LARGE) === 0)
    return {
      kind: 'host-fault',
      fault: rmpFault(bits | NPF.SIZEM, 'The nested mapping is larger than the 4K RMP entry.'),
      mended: true,
    }
  if ((entry & VALIDATED) === 0) return { kind: 'guest-fault', fault: notValidatedFault(gfn) }
  if (kind === 'write' && entry & VMSA)
    return unmended(rmpFault(bits | NPF.VMPL, 'A VMSA page in use is never written.'))
  if ((permissionsOf(entry, vmpl) & NEEDED[kind]) === 0)
    return unmended(rmpFault(bits | NPF.VMPL, `VMPL${vmpl} has no permission to ${kind} this page.`))
  return OK
}

const PAGE_FAULT = 14
const KERNEL_WRITE = '0x80000003'
const USER_WRITE = '0x80000007'

/** Checks of a host's access to a page (amd-sev-snp.md b.7). Reads always go through. */
export function checkHost(
  host: Host,
  frame: number,
  kind: 'read' | 'write',
  as: 'user' | 'kernel' | 'device',
): HostCheck {
  const { rmp } = host
  if (frame >= rmp.frames) return OK
  if (kind === 'read') return readsCiphertext(host, frame) ? CIPHERTEXT : OK
  const entry = entryOf(rmp, frame)
  if ((entry & ASSIGNED) === 0) return OK
  if (as === 'device')
    return {
      kind: 'fault',
      fault: {
        name: 'RMP_PAGE_FAULT',
        code: 0,
        detail: 'The IOMMU logs an event: a device writes only to hypervisor-owned pages.',
      },
    }
  const detail = 'A host write to an assigned page is an RMP violation.'
  if (as === 'user') return { kind: 'fault', fault: { name: '#PF', code: PAGE_FAULT, errorCode: USER_WRITE, detail } }
  return { kind: 'crash', fault: { name: '#PF', code: PAGE_FAULT, errorCode: KERNEL_WRITE, detail } }
}

/** Whether a read without the guest's key sees ciphertext: of a page some guest's key, or the firmware's, protects. */
function readsCiphertext({ rmp }: Host, frame: number): boolean {
  const entry = entryOf(rmp, frame)
  return viewOf(entry) !== 0 || (entry === CONTEXT && markOf(rmp, frame) === 0)
}
