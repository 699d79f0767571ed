import { isAllowed, RUNNING } from './op-states.ts'
import type { Td } from './td.ts'
import { VCPU_STATE, type Vcpu } from './vcpu.ts'

/** Whether REMOVE and its like demand blocking and tracking at all (intel-tdx.md a.2, c.4). */
export const demandsTracking = (td: Td): boolean => isAllowed(RUNNING, td.opState)

/** Whether no vCPU can still use a translation blocked in epoch `blocked` (c.4). */
export const isTracked = (td: Td, blocked: number): boolean =>
  blocked < td.epoch - 1 || (blocked === td.epoch - 1 && refcount(td, blocked) === 0)

const refcount = (td: Td, epoch: number): number => (epoch % 2 === 0 ? td.refcount[0] : td.refcount[1])

function count(td: Td, epoch: number, by: 1 | -1): void {
  if (epoch % 2 === 0) td.refcount[0] += by
  else td.refcount[1] += by
}

/** MEM.TRACK's rule: false, and nothing happens, while a vCPU is inside since the epoch before this one. */
export function advanceEpoch(td: Td): boolean {
  if (refcount(td, td.epoch + 1) !== 0) return false
  td.epoch++
  return true
}

/** VP.ENTER: the vCPU is inside, counted for the epoch it came in. Precondition: READY. */
export function enter(td: Td, vcpu: Vcpu): void {
  vcpu.state = VCPU_STATE.ACTIVE
  vcpu.enteredEpoch = td.epoch
  count(td, td.epoch, 1)
}

/** A TD exit: the vCPU leaves if it is inside, and is READY again. Says whether it was. */
export function leave(td: Td, vcpu: Vcpu): boolean {
  if (vcpu.state !== VCPU_STATE.ACTIVE) return false
  count(td, vcpu.enteredEpoch, -1)
  vcpu.state = VCPU_STATE.READY
  vcpu.enteredEpoch = -1
  return true
}

/** IPIs to every vCPU that is inside, as KVM's kick; how many left. Costs nothing when none is. */
export function kickAll(td: Td): number {
  if (td.refcount[0] + td.refcount[1] === 0) return 0
  let left = 0
  for (const vcpu of td.vcpus.values()) if (leave(td, vcpu)) left++
  return left
}
