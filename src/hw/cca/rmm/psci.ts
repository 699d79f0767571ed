import type { Host } from '../data.ts'
import { type Answer, DONE, INPUT } from './answer.ts'
import { answered, type GuestOutcome } from './guest.ts'
import { recAt } from './operands.ts'
import type { Realm } from './realm.ts'
import { mpidrOf, type PsciRequest, type Rec } from './rec.ts'

/** PSCI calls that an RMM serves or passes on, with their ids. */
export const PSCI = {
  PSCI_VERSION: 0x84000000n,
  PSCI_CPU_SUSPEND: 0xc4000001n,
  PSCI_CPU_OFF: 0x84000002n,
  PSCI_CPU_ON: 0xc4000003n,
  PSCI_AFFINITY_INFO: 0xc4000004n,
  PSCI_SYSTEM_OFF: 0x84000008n,
  PSCI_SYSTEM_RESET: 0x84000009n,
  PSCI_FEATURES: 0x8400000an,
} as const
export type PsciName = keyof typeof PSCI

/** X0 of a PSCI call. */
export const PSCI_CODE = {
  PSCI_SUCCESS: 0,
  PSCI_NOT_SUPPORTED: -1,
  PSCI_INVALID_PARAMETERS: -2,
  PSCI_DENIED: -3,
  PSCI_ALREADY_ON: -4,
  PSCI_INVALID_ADDRESS: -9,
} as const
export type PsciCode = keyof typeof PSCI_CODE

const VERSION_1_1 = 0x10001

const psci = (name: PsciCode): GuestOutcome => answered({ status: { name, code: PSCI_CODE[name] } })
const psciValue = (x0: number): GuestOutcome =>
  answered({ status: { name: 'PSCI_SUCCESS', code: PSCI_CODE.PSCI_SUCCESS }, outputs: { x0 } })

export type PsciArguments = { readonly x1: bigint; readonly x2: bigint; readonly x3: bigint }

const exitWith = (name: PsciName, { x1, x2, x3 }: PsciArguments): GuestOutcome => ({
  kind: 'exit',
  exit: { reason: 'PSCI', gprs: [PSCI[name], x1, x2, x3] },
})

/**
 * A PSCI call of a REC (arm-cca.md 3): SYSTEM_OFF and SYSTEM_RESET end the Realm; CPU_ON and AFFINITY_INFO of another REC
 * wait for RMI_PSCI_COMPLETE; CPU_OFF leaves the REC not runnable. What concerns the caller alone is answered at once.
 */
export function psciCall(realm: Realm, rec: Rec, name: PsciName, args: PsciArguments): GuestOutcome {
  switch (name) {
    case 'PSCI_VERSION':
      return psciValue(VERSION_1_1)
    case 'PSCI_FEATURES':
      return psci(Object.values(PSCI).some((id) => id === args.x1) ? 'PSCI_SUCCESS' : 'PSCI_NOT_SUPPORTED')
    case 'PSCI_CPU_SUSPEND':
      rec.psciResult = PSCI_CODE.PSCI_SUCCESS
      return exitWith(name, args)
    case 'PSCI_CPU_OFF':
      rec.runnable = false
      return exitWith(name, args)
    case 'PSCI_CPU_ON':
      return cpuOn(realm, rec, args)
    case 'PSCI_AFFINITY_INFO':
      return affinityInfo(realm, rec, args)
    default:
      realm.state = 'SYSTEM_OFF'
      return exitWith(name, args)
  }
}

const isRec = (realm: Realm, mpidr: bigint): boolean => realm.recs.some((_, index) => mpidrOf(index) === mpidr)
const PAGE_BITS = 12n

function cpuOn(realm: Realm, rec: Rec, args: PsciArguments): GuestOutcome {
  const { x1: target, x2: entry, x3: context } = args
  if (Number(entry >> PAGE_BITS) >= realm.rtt.unprotectedPage) return psci('PSCI_INVALID_ADDRESS')
  if (!isRec(realm, target)) return psci('PSCI_INVALID_PARAMETERS')
  if (target === rec.mpidr) return psci('PSCI_ALREADY_ON')
  rec.psci = { kind: 'CPU_ON', target, entry, context }
  return exitWith('PSCI_CPU_ON', args)
}

const AFFINITY = { ON: 0, OFF: 1 } as const

function affinityInfo(realm: Realm, rec: Rec, args: PsciArguments): GuestOutcome {
  const { x1: target, x2: lowestLevel } = args
  if (lowestLevel !== 0n || !isRec(realm, target)) return psci('PSCI_INVALID_PARAMETERS')
  if (target === rec.mpidr) return psciValue(AFFINITY.ON)
  rec.psci = { kind: 'AFFINITY_INFO', target, entry: 0n, context: 0n }
  return exitWith('PSCI_AFFINITY_INFO', args)
}

/**
 * PSCI_COMPLETE (arm-cca.md 1): the host names the REC that a pending call is about. INPUT where one is no REC, they are one
 * REC or of two Realms, nothing is pending, the target isn't what the caller named, or the host may not answer `status`.
 */
export function psciComplete(host: Host, calling: bigint, target: bigint, status: number): Answer {
  const caller = recAt(host.data, calling)
  const named = recAt(host.data, target)
  if (caller === undefined || named === undefined || caller === named || caller.rd !== named.rd) return INPUT
  const request = caller.psci
  if (request === undefined || request.target !== named.mpidr || !isPermitted(request, status)) return INPUT
  caller.psciResult = request.kind === 'CPU_ON' ? switchOn(named, request, status) : affinityOf(named)
  caller.psci = undefined
  return DONE
}

/** The host may deny CPU_ON, and nothing else. */
const isPermitted = ({ kind }: PsciRequest, status: number): boolean =>
  status === PSCI_CODE.PSCI_SUCCESS || (kind === 'CPU_ON' && status === PSCI_CODE.PSCI_DENIED)

const affinityOf = ({ runnable }: Rec): number => (runnable ? AFFINITY.ON : AFFINITY.OFF)

function switchOn(target: Rec, { entry, context }: PsciRequest, status: number): number {
  if (target.runnable) return PSCI_CODE.PSCI_ALREADY_ON
  if (status === PSCI_CODE.PSCI_DENIED) return PSCI_CODE.PSCI_DENIED
  target.runnable = true
  target.pc = entry
  target.gprs = [context, ...target.gprs.slice(1).map(() => 0n)]
  return PSCI_CODE.PSCI_SUCCESS
}
