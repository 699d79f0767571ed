import type { Refusal, Result } from './refusal.ts'
import type { VmState } from './state.ts'

/**
 * What came of a command. `accepted`: it is to be journaled. `partial` says what stopped a request that had already
 * changed something; the client sees that refusal, and the change stays. `firstGfn` and `endGfn` bound the guest frames
 * it was about.
 */
export type Accepted = {
  readonly accepted: true
  readonly value: Record<string, unknown>
  readonly vm: string | null
  readonly firstGfn: number | null
  readonly endGfn: number | null
  readonly partial?: Refusal
}
export type Applied = Accepted | { readonly accepted: false; readonly refusal: Refusal }

export const accepted = (value: Record<string, unknown>, vm: VmState | null): Accepted => ({
  accepted: true,
  value,
  vm: vm?.id ?? null,
  firstGfn: null,
  endGfn: null,
})

export const acceptedFrames = (
  value: Record<string, unknown>,
  vm: VmState,
  firstGfn: number,
  endGfn: number,
): Accepted => ({ accepted: true, value, vm: vm.id, firstGfn, endGfn })

export const refused = (refusal: Refusal): Applied => ({ accepted: false, refusal })

/** Turns a result into what came of the command, once it is accepted. */
export const appliedFrom = <T>(result: Result<T>, present: (value: T) => Accepted): Applied =>
  result.ok ? present(result.value) : refused(result.refusal)
