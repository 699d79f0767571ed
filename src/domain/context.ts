import type { Backend, Hardware, HwRefusal } from '../hw/contract.ts'
import type { Changes } from './changes.ts'
import type { PhysicalMemory } from './memory.ts'
import { type Refusal, type Result, refuse } from './refusal.ts'
import type { HostState, VmState } from './state.ts'

/** One host while a command is applied to it: its state, its trusted hardware and what the command changes. */
export type HostContext = {
  readonly state: HostState
  readonly backend: Backend
  readonly hardware: Hardware
  readonly memory: PhysicalMemory
  readonly changes: Changes
  /** The journal sequence number of the command under way; ids and revisions come from it. */
  seq: number
}

/** Marks a VM as changed by the command under way. */
export function touchVm(host: HostContext, vm: VmState): void {
  vm.revision = host.seq
  host.changes.vm(vm.id)
}

/** What the domain says of a backend's refusal: the kernel's errno, and the firmware's status where there is one. */
export const fromHardware = ({ effects: _, ...refusal }: HwRefusal): Refusal => ({ kind: 'kernel', ...refusal })

export const refuseFromHardware = (refusal: HwRefusal): Result<never> => refuse(fromHardware(refusal))
