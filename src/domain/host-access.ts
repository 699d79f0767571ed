import type { Fault, HostCheck } from '../hw/contract.ts'
import { crashOn } from './backing.ts'
import type { HostContext } from './context.ts'
import { PAGE_BYTES } from './memory.ts'
import { slotAt } from './memslots.ts'
import type { VmState } from './state.ts'
import { touch } from './userspace.ts'

export type HostAccess = {
  readonly as: 'user' | 'kernel' | 'device'
  /** `gpa`: through the VMM's own mapping of the shared part. `hpa`: straight at physical memory. */
  readonly by: 'gpa' | 'hpa'
  readonly address: string | number
  readonly kind: 'read' | 'write'
  readonly length: number
  /** Base64 of `length` bytes, for a write. */
  readonly data: string | null
}

type Reached = { readonly frame: number; readonly check: HostCheck } | { readonly fault: Fault }

/** A host access to guest memory, page by page: what the kernel, the VMM or a device gets to see and to break. */
export function runHostAccess(host: HostContext, vm: VmState, access: HostAccess): Record<string, unknown> {
  const source = access.data === null ? undefined : Buffer.from(access.data, 'base64')
  const target = access.kind === 'read' ? new Uint8Array(access.length) : undefined
  let ciphertext = false
  const start = BigInt(access.address)
  let frameNumber = Number(start >> 12n)
  let offset = Number(start & 0xfffn)
  for (let at = 0; at < access.length; ) {
    const length = Math.min(PAGE_BYTES - offset, access.length - at)
    const reached = reach(host, vm, access, frameNumber)
    if ('fault' in reached) return { outcome: 'fault', fault: reached.fault, completed: at }
    const { frame, check } = reached
    if (check.kind === 'fault') return { outcome: 'fault', fault: check.fault, completed: at }
    if (check.kind === 'crash') {
      crashOn(host, frame, check.fault)
      return { outcome: 'host-crash', fault: check.fault, completed: at }
    }
    if (check.kind === 'ciphertext') ciphertext = true
    if (target !== undefined) {
      const page = check.kind === 'ciphertext' ? host.hardware.ciphertext(frame) : undefined
      target.set(page?.subarray(offset, offset + length) ?? host.memory.slice(frame, offset, length), at)
    } else if (source !== undefined) {
      const bytes = source.subarray(at, at + length)
      if (check.kind === 'ciphertext') host.hardware.hostWroteCiphertext(frame, offset, bytes)
      else host.memory.patch(frame, offset, bytes)
    }
    at += length
    frameNumber++
    offset = 0
  }
  const data = target === undefined ? {} : { data: Buffer.from(target).toString('base64') }
  return { outcome: 'ok', ...data, ...(ciphertext ? { ciphertext } : {}) }
}

function reach(host: HostContext, vm: VmState, access: HostAccess, number: number): Reached {
  if (access.by === 'hpa') {
    if (number >= host.state.frames) return { fault: noMemory(access) }
    return { frame: number, check: host.hardware.checkHost(number, access.kind, access.as) }
  }
  const slot = slotAt(vm, number)
  if (slot === undefined || slot.hva === null) return { fault: noMapping(access) }
  const frame = touch(host, vm, number - slot.firstGfn + slot.hva)
  if (frame < 0) return { fault: noMemory(access) }
  host.changes.pagesOf(vm.id, number, number + 1)
  return { frame, check: host.hardware.checkHost(frame, access.kind, access.as) }
}

/** An address the VMM has not mapped: its own bug, and no new hazard for the kernel (kvm-guest-memory.md a.3). */
function noMapping(access: HostAccess): Fault {
  if (access.as === 'user') return { name: 'SIGSEGV', code: 11, detail: 'Nothing is mapped at this address.' }
  if (access.as === 'kernel') return { name: 'EFAULT', code: 14, detail: 'Nothing is mapped at this address.' }
  return { name: 'IOMMU_PAGE_FAULT', code: 2, detail: 'The IOMMU has no mapping for this address.' }
}

const noMemory = (access: HostAccess): Fault =>
  access.by === 'hpa'
    ? { name: 'MACHINE_CHECK', code: 18, detail: 'There is no memory at this physical address.' }
    : { name: 'SIGBUS', code: 7, detail: 'The host has no memory left.' }
