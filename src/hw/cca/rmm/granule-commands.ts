import type { Host } from '../data.ts'
import { type Answer, DONE, INPUT } from './answer.ts'
import { GRANULE } from './granules.ts'
import { granuleIn } from './operands.ts'
import { delegateRange, undelegateRange } from './rtt-ranges.ts'

/**
 * GRANULE_DELEGATE (arm-cca.md 2): UNDELEGATED in PAS Non-secure → DELEGATED, wiped. INPUT for all else: unaligned, not
 * tracked, another state, PAS Secure or Root.
 */
export function granuleDelegate(host: Host, address: bigint): Answer {
  const frame = granuleIn(host.data, address, GRANULE.UNDELEGATED)
  if (frame < 0) return INPUT
  delegateRange(host, frame, 1)
  return DONE
}

/** GRANULE_UNDELEGATE (arm-cca.md 2): DELEGATED → UNDELEGATED, Non-secure and zero. INPUT for all else. */
export function granuleUndelegate(host: Host, address: bigint): Answer {
  const frame = granuleIn(host.data, address, GRANULE.DELEGATED)
  if (frame < 0) return INPUT
  undelegateRange(host, frame, 1)
  return DONE
}
