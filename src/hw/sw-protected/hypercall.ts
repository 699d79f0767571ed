import type { GuestRequest, RequestEntry, Status } from '../contract.ts'
import { answer, begin, exitOf, type HypercallRequest } from '../shared/conversion-request.ts'

/**
 * KVM_HC_MAP_GPA_RANGE (12) of a software-protected VM: pkvm-s390-swprotected.md 3.4. What the VMM answers lands in RAX.
 */
export const KVM_ERROR = { KVM_EPERM: -1, KVM_EINVAL: -22, KVM_ENOSYS: -1000 } as const

const SUCCESS: Status = { name: 'SUCCESS', code: 0 }

/** RAX as a status: KVM's own numbers by name, what else the VMM answers as it is. */
export function statusOf(rax: number): Status {
  if (rax === 0) return SUCCESS
  const name = Object.entries(KVM_ERROR).find(([, code]) => code === rax)?.[0] ?? 'VMM_ERROR'
  return { name, code: rax }
}

export type MapGpaRange = {
  readonly gpa: bigint
  readonly pages: bigint
  readonly attributes: bigint
  readonly cpl: number
}

const ENCRYPTED = 16n
const SIZE_BITS = 15n
const SPANS = [1, 512, 262144]

/** KVM's checks, in its order; it looks at no bit of `attributes` (3.4). Undefined: the call leaves for the VMM. */
export function refuse(call: MapGpaRange, exitEnabled: boolean): Status | undefined {
  if (call.cpl !== 0) return statusOf(KVM_ERROR.KVM_EPERM)
  if (!exitEnabled) return statusOf(KVM_ERROR.KVM_ENOSYS)
  const wraps = call.gpa + call.pages * 4096n > 2n ** 64n
  if (call.gpa % 4096n !== 0n || call.pages === 0n || wraps) return statusOf(KVM_ERROR.KVM_EINVAL)
  return undefined
}

/**
 * The conversion a call asks for, for calls that {@link refuse} lets through and whose range a guest can address. The
 * page size is a hint that KVM hands on; one that does not divide the range is dropped.
 */
export function entryOf(call: MapGpaRange): RequestEntry {
  const hint = SPANS[Number(call.attributes & SIZE_BITS)] ?? 1
  const pages = Number(call.pages)
  const span = pages % hint === 0 ? hint : 1
  const operation = (call.attributes & ENCRYPTED) === 0n ? 'shared' : 'private'
  return { gfn: Number(call.gpa / 4096n), pages: pages / span, span, operation }
}

/** Entries of a page-state change, one hypercall each. Smash hints mean nothing to software and are done at once. */
export function beginRequest(entries: readonly RequestEntry[], exitEnabled: boolean): HypercallRequest {
  const request = begin(entries)
  skipHints(request)
  if (!exitEnabled && request.at < entries.length) answer(request, statusOf(KVM_ERROR.KVM_ENOSYS), false)
  return request
}

function skipHints(request: HypercallRequest): void {
  for (let entry = request.entries[request.at]; entry !== undefined; entry = request.entries[request.at]) {
    if (entry.operation === 'private' || entry.operation === 'shared') return
    answer(request, SUCCESS, true)
  }
}

export const nextExit = (request: GuestRequest) => exitOf(request as HypercallRequest)

export function completeExit(request: GuestRequest, ret: number): void {
  const hypercall = request as HypercallRequest
  answer(hypercall, statusOf(ret), ret === 0)
  skipHints(hypercall)
}
