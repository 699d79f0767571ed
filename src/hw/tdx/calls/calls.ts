import type { Call } from '../../contract.ts'
import { GUEST_CALLS } from './guest.ts'
import { MANAGEMENT_CALLS } from './management.ts'
import { MEMORY_CALLS } from './memory.ts'
import { PHYSICAL_CALLS } from './physical.ts'
import { VCPU_CALLS } from './vcpus.ts'
import { defineVmcall, type VmcallHandler } from './vmcall.ts'

/** Every SEAMCALL and TDCALL, with the VMM's side of TDG.VP.VMCALL. */
export const tdxCalls = (vmm: VmcallHandler): readonly Call[] => [
  ...MANAGEMENT_CALLS,
  ...VCPU_CALLS,
  ...MEMORY_CALLS,
  ...PHYSICAL_CALLS,
  ...GUEST_CALLS,
  defineVmcall(vmm),
]
