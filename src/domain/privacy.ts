import type { HostContext } from './context.ts'
import type { VmState } from './state.ts'

/** What makes a guest frame private, and what a VMM does to change it. Nothing else in the domain knows which model a VM has. */
export interface Privacy {
  /** Pages go to the hardware when they are populated (true), or when KVM first maps them (false). */
  readonly preparedByFallocate: boolean
  isPrivate(host: HostContext, vm: VmState, gfn: number): boolean
  /** The end of the run of guest frames from `gfn` that agree with it, at most `end`. */
  runEnd(host: HostContext, vm: VmState, gfn: number, end: number): number
  /**
   * What a VMM does when it is asked for a conversion of [gfn, gfn + pages). Returns 0 or a negative errno; what was
   * converted before an error stays converted.
   */
  convert(host: HostContext, vm: VmState, gfn: number, pages: number, toPrivate: boolean): number
  /** KVM_SET_MEMORY_ATTRIBUTES on [start, end); false where the model has no such call (ENOTTY). */
  setAttribute(host: HostContext, vm: VmState, start: number, end: number, isPrivate: boolean): boolean
}
