import type { AccessKind, Fault, GuestCheck, HostCheck } from '../../contract.ts'
import { type Host, realmOf } from '../data.ts'
import { type AccessResult, access } from '../rmm/access.ts'
import { hex } from '../rmm/geometry.ts'
import { isHostMemory } from '../rmm/granules.ts'
import { ADDRESS_SIZE_FAULT } from '../status.ts'

const OK: GuestCheck & HostCheck = { kind: 'ok' }
const PAGE_BITS = 12n

/** Exception classes and the fault status of a synchronous external abort, taken in the Realm (arm-cca.md 6). */
const EC = { INSTRUCTION_ABORT: 0x21, DATA_ABORT: 0x25 } as const
const SEA_STATUS = '0x10'

const abortClass = (kind: AccessKind): number => (kind === 'execute' ? EC.INSTRUCTION_ABORT : EC.DATA_ABORT)

const sea = (kind: AccessKind, detail: string): Fault => ({
  name: 'SEA',
  code: abortClass(kind),
  errorCode: SEA_STATUS,
  detail,
})

const ADDRESS_SIZE_STATUS = '0x3'

/**
 * An address size fault, taken in the Realm (6): no IPA at or above 2^s2sz exists. Addresses come without the bit of the
 * unprotected half here, so that an access which runs over the end of its half ends there too.
 */
export function addressFault(host: Host, vm: string, gfn: number, kind: AccessKind): Fault | undefined {
  const realm = realmOf(host.data, vm)
  if (realm === undefined || gfn < realm.rtt.unprotectedPage) return undefined
  const detail = 'The address is beyond the IPA space: the fault stays in the Realm.'
  return { name: ADDRESS_SIZE_FAULT.name, code: abortClass(kind), errorCode: ADDRESS_SIZE_STATUS, detail }
}

/** A Realm's access through a mapping (arm-cca.md 6): RIPAS decides, then the granule behind it. */
export function checkGuest(
  host: Host,
  vm: string,
  gfn: number,
  frame: number,
  isPrivate: boolean,
  kind: AccessKind,
): GuestCheck {
  if (!isPrivate) {
    if (kind === 'execute') return { kind: 'guest-fault', fault: UNPROTECTED_FETCH }
    return isHostMemory(host.data.granules, frame) ? OK : { kind: 'guest-fault', fault: sea(kind, DELEGATED) }
  }
  const result = reach(host, vm, gfn, kind)
  if (result.kind === 'ok') return OK
  if (result.kind !== 'exit') return { kind: 'guest-fault', fault: sea(kind, EMPTY) }
  return { kind: 'host-fault', fault: exitFault(result), mended: false }
}

const EMPTY = 'The address is EMPTY: the Realm takes the abort, and the host sees nothing.'
const DELEGATED = 'The host has delegated the page behind this mapping: an external abort.'
const UNPROTECTED_FETCH = sea('execute', 'A Realm cannot execute from the unprotected half.')

/** What an access without a mapping meets before the host hears of it: EMPTY addresses, and what no exit comes of. */
export function checkUnmapped(
  host: Host,
  vm: string,
  gfn: number,
  isPrivate: boolean,
  kind: AccessKind,
): { readonly kind: 'guest-fault'; readonly fault: Fault } | undefined {
  if (!isPrivate) return kind === 'execute' ? { kind: 'guest-fault', fault: UNPROTECTED_FETCH } : undefined
  const result = reach(host, vm, gfn, kind)
  return result.kind === 'sea' ? { kind: 'guest-fault', fault: sea(kind, EMPTY) } : undefined
}

function reach(host: Host, vm: string, gfn: number, kind: AccessKind): AccessResult {
  const realm = realmOf(host.data, vm)
  return realm === undefined ? { kind: 'sea' } : access(host, realm, { ipa: BigInt(gfn) << PAGE_BITS, kind })
}

const exitFault = ({ exit }: Extract<AccessResult, { kind: 'exit' }>): Fault => ({
  name: 'REC_EXIT_SYNC',
  code: 0,
  ...(exit.reason === 'SYNC' ? { errorCode: hex(exit.esr) } : {}),
  detail: 'The address is DESTROYED or has no page: the access leaves the Realm, every time.',
})

const SIGBUS = 7
const GPF_DETAIL = 'A granule protection fault: the granule is not in the Non-secure address space.'

/** A host access (arm-cca.md 2): whatever is not Non-secure faults before any RMM code runs. */
export function checkHost({ data }: Host, frame: number, as: 'user' | 'kernel' | 'device'): HostCheck {
  if (frame >= data.granules.frames || isHostMemory(data.granules, frame)) return OK
  if (as === 'user')
    return { kind: 'fault', fault: { name: 'SIGBUS', code: SIGBUS, errorCode: 'GPF', detail: GPF_DETAIL } }
  if (as === 'device') return { kind: 'fault', fault: { name: 'SMMU_GPF', code: 0, detail: GPF_DETAIL } }
  return { kind: 'crash', fault: { name: 'GPF', code: 0, detail: GPF_DETAIL } }
}
