import type { Call } from '../../contract.ts'
import { type ExitHandler, guestCallDefiner } from './call-definition.ts'
import { GRANULE_CALLS } from './granules.ts'
import { guestCalls } from './guest.ts'
import { MEMORY_CALLS } from './memory.ts'
import { ACCESS_CALLS } from './memory-accesses.ts'
import { REALM_CALLS } from './realms.ts'
import { REC_CALLS } from './recs.ts'

/** Every RMI, RSI and PSCI call, with KVM's side of the exits of a vCPU's guest, and the accesses that traces are made of. */
export const ccaCalls = (kvm: ExitHandler): readonly Call[] => [
  ...GRANULE_CALLS,
  ...REALM_CALLS,
  ...REC_CALLS,
  ...MEMORY_CALLS,
  ...guestCalls(guestCallDefiner(kvm)),
  ...ACCESS_CALLS,
]
