import { type Applied, accepted, acceptedFrames, appliedFrom } from './applied.ts'
import type { CommandOf } from './commands.ts'
import { type HostContext, touchVm } from './context.ts'
import { deleteSlot, setSlot } from './memslot-bind.ts'
import { map, pin, unpin } from './pins.ts'
import { presentMapping, presentPin, presentSlot, presentVm } from './present.ts'
import { privacyOf } from './privacy-models.ts'
import { accept, invalid, kernelRefusal, notFound, type Result } from './refusal.ts'
import type { VmState } from './state.ts'
import { createVm, deleteVm } from './vms.ts'

export const createVmCommand = (host: HostContext, command: CommandOf<'vm.create'>): Applied =>
  appliedFrom(createVm(host, `vm-${host.seq}`, command), (vm) => accepted(presentVm(host, vm), vm))

export function deleteVmCommand(host: HostContext, vm: VmState): Applied {
  const applied = accepted({ ...presentVm(host, vm), state: 'deleted' }, vm)
  deleteVm(host, vm)
  return applied
}

export function setSlotCommand(host: HostContext, vm: VmState, command: CommandOf<'memslot.set'>): Applied {
  const { slot, memfile, hva, readOnly, dirtyLog } = command
  const result = setSlot(host, vm, {
    slot,
    gpa: BigInt(command.gpa),
    size: BigInt(command.size),
    memfile,
    memfileOffset: BigInt(command.memfileOffset),
    hva: hva === 'auto' || hva === 'none' ? hva : BigInt(hva),
    readOnly,
    dirtyLog,
  })
  if (result.ok) touchVm(host, vm)
  return appliedFrom(result, (change) =>
    acceptedFrames(
      { ...presentSlot(change.slot), change: change.kind },
      vm,
      change.slot.firstGfn,
      change.slot.firstGfn + change.slot.pages,
    ),
  )
}

export function deleteSlotCommand(host: HostContext, vm: VmState, command: CommandOf<'memslot.delete'>): Applied {
  const slot = vm.slots.find((other) => other.slot === command.slot)
  if (slot === undefined) return appliedFrom(notFound('memslot', String(command.slot)), () => accepted({}, vm))
  deleteSlot(host, vm, slot)
  touchVm(host, vm)
  return acceptedFrames({ ...presentSlot(slot), change: 'deleted' }, vm, slot.firstGfn, slot.firstGfn + slot.pages)
}

/** KVM_SET_MEMORY_ATTRIBUTES (kvm-guest-memory.md c.5). */
export function setAttributesCommand(host: HostContext, vm: VmState, command: CommandOf<'attributes.set'>): Applied {
  const privacy = privacyOf(vm)
  const range = attributeRange(BigInt(command.gpa), BigInt(command.length))
  if (!range.ok) {
    if (vm.privacy === 'attributes') return appliedFrom(range, () => accepted({}, vm))
  } else if (privacy.setAttribute(host, vm, range.value.start, range.value.end, command.private)) {
    touchVm(host, vm)
    return acceptedFrames({}, vm, range.value.start, range.value.end)
  }
  const detail = 'This VM has no memory attributes: its privacy model is "populated".'
  return appliedFrom(kernelRefusal('ENOTTY', 'no-memory-attributes', detail), () => accepted({}, vm))
}

function attributeRange(gpa: bigint, length: bigint): Result<{ start: number; end: number }> {
  if (length === 0n) return kernelRefusal('EINVAL', 'length-zero', 'The length is 0.', '/length')
  if (gpa + length > 2n ** 64n - 1n)
    return kernelRefusal('EINVAL', 'range-wraps', 'gpa + length wraps 2^64.', '/length')
  if (gpa % 4096n !== 0n) return kernelRefusal('EINVAL', 'gpa-unaligned', 'The gpa is not a multiple of 4096.', '/gpa')
  if (length % 4096n !== 0n) {
    return kernelRefusal('EINVAL', 'length-unaligned', 'The length is not a multiple of 4096.', '/length')
  }
  if (gpa + length > 2n ** 52n) {
    return kernelRefusal(
      'EINVAL',
      'gpa-beyond-limit',
      'The range ends beyond the 2^52 bytes a guest can address.',
      '/gpa',
    )
  }
  return accept({ start: Number(gpa / 4096n), end: Number((gpa + length) / 4096n) })
}

/** A page-aligned, non-empty range of guest memory below 2^52; anything else names the field. */
export function guestRange(gpa: bigint, length: bigint): Result<{ first: number; pages: number }> {
  if (gpa % 4096n !== 0n) return invalid('gpa-unaligned', 'The gpa is not a multiple of 4096.', '/gpa')
  if (length <= 0n || length % 4096n !== 0n) {
    return invalid('length-unaligned', 'The length is not a positive multiple of 4096.', '/length')
  }
  if (gpa + length > 2n ** 52n) return invalid('gpa-beyond-limit', 'The range ends beyond 2^52.', '/length')
  return accept({ first: Number(gpa / 4096n), pages: Number(length / 4096n) })
}

export function createMappingCommand(host: HostContext, vm: VmState, command: CommandOf<'mapping.create'>): Applied {
  const range = guestRange(BigInt(command.gpa), BigInt(command.length))
  if (!range.ok) return appliedFrom(range, () => accepted({}, vm))
  const { first, pages } = range.value
  const made = map(host, vm, `mapping-${host.seq}`, first, pages, command.memory)
  if (made.ok) touchVm(host, vm)
  return appliedFrom(made, (state) => acceptedFrames(presentMapping(state), vm, first, first + pages))
}

export function createPinCommand(host: HostContext, vm: VmState, command: CommandOf<'pin.create'>): Applied {
  const range = guestRange(BigInt(command.gpa), BigInt(command.length))
  if (!range.ok) return appliedFrom(range, () => accepted({}, vm))
  const { first, pages } = range.value
  const made = pin(host, vm, `pin-${host.seq}`, first, pages, command.by)
  if (made.ok) touchVm(host, vm)
  return appliedFrom(made, (state) => acceptedFrames(presentPin(state), vm, first, first + pages))
}

export function deleteMappingCommand(host: HostContext, vm: VmState, command: CommandOf<'mapping.delete'>): Applied {
  const state = vm.mappings.get(command.mapping)
  if (state === undefined) return appliedFrom(notFound('mapping', command.mapping), () => accepted({}, vm))
  vm.mappings.delete(state.id)
  touchVm(host, vm)
  return accepted(presentMapping(state), vm)
}

export function deletePinCommand(host: HostContext, vm: VmState, command: CommandOf<'pin.delete'>): Applied {
  const state = vm.pins.get(command.pin)
  if (state === undefined) return appliedFrom(notFound('pin', command.pin), () => accepted({}, vm))
  unpin(host, vm, state)
  touchVm(host, vm)
  return accepted(presentPin(state), vm)
}
