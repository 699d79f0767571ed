import * as pageMap from '../hw/shared/page-map.ts'
import type { CommandOf } from './commands.ts'
import { type HostContext, refuseFromHardware } from './context.ts'
import { releaseMemfile } from './memfiles.ts'
import { deleteSlot } from './memslot-bind.ts'
import { unpin } from './pins.ts'
import { privacyModel } from './privacy-models.ts'
import { accept, type Result } from './refusal.ts'
import type { VmState } from './state.ts'
import { unmapUser } from './userspace.ts'

/** Where the VMM maps memory it is not told to put elsewhere: user frame of 0x1000_0000_0000, with 112 TiB to follow. */
const FIRST_HVA = 0x100000000
const LAST_HVA = 2 ** 40

/** KVM_CREATE_VM and the technology's own start of a guest. */
export function createVm(host: HostContext, id: string, command: CommandOf<'vm.create'>): Result<VmState> {
  const { preparedByFallocate } = privacyModel(command.privacy)
  const made = host.hardware.createVm({ vm: id, vcpus: command.vcpus, config: command.config, preparedByFallocate })
  if (!made.ok) return refuseFromHardware(made.refusal)
  const vm: VmState = {
    id,
    name: command.name,
    technology: host.state.technology,
    privacy: command.privacy,
    conversion: command.conversion,
    preparedByFallocate,
    config: command.config,
    revision: host.seq,
    vcpus: Array.from({ length: command.vcpus }, () => ({ waiting: null })),
    slots: [],
    attributes: pageMap.create(),
    stage2: pageMap.create(),
    userspace: pageMap.create(),
    userspacePages: 0,
    nextHva: FIRST_HVA,
    exits: new Map(),
    mappings: new Map(),
    pins: new Map(),
  }
  host.state.vms.set(id, vm)
  host.changes.vm(id)
  return accept(vm)
}

/** Tears a guest down: pins, slots, private pages by the technology's rules, then the guest itself. */
export function deleteVm(host: HostContext, vm: VmState): void {
  for (const pin of [...vm.pins.values()]) unpin(host, vm, pin)
  for (const memfile of host.state.memfiles.values()) if (memfile.vm === vm) releaseMemfile(host, memfile)
  for (const slot of [...vm.slots]) deleteSlot(host, vm, slot)
  unmapUser(host, vm, 0, LAST_HVA)
  host.hardware.destroyVm(vm.id)
  host.state.vms.delete(vm.id)
  host.changes.vm(vm.id)
}
