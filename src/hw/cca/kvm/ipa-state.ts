import type { ConversionExit, GuestContext, GuestRequest, RequestEntry, Status } from '../../contract.ts'
import { type Host, realmOf } from '../data.ts'
import { RIPAS } from '../rmm/states.ts'
import { rsiStatus } from '../status.ts'
import { setRipas } from './private-memory.ts'

/** RSI_IPA_STATE_SET calls under way, one an entry, with CHANGE_DESTROYED (arm-cca.md 7): plain data. */
export type IpaStateRequest = GuestRequest & {
  readonly kind: 'ipa-state'
  readonly entries: readonly RequestEntry[]
  at: number
}

/** One RSI_IPA_STATE_SET that a guest has made as a raw call: its REC, which has the request, and what came of it. */
export type RecRequest = GuestRequest & {
  readonly kind: 'rec-ipa-state'
  readonly rec: number
  exit: ConversionExit | undefined
  reached: number
  response: 'ACCEPT' | 'REJECT' | undefined
}

const SUCCESS: Status = rsiStatus('RSI_SUCCESS')
const ERROR_INPUT: Status = rsiStatus('RSI_ERROR_INPUT')
/** x2 of a RAM request that the host answered with REJECT: x0 is success, and the guest has x1 to tell how far it came. */
const REJECTED: Status = { name: 'RSI_REJECT', code: 1 }
/** EMPTY can't be refused (7): the guest has ACCEPT and x1 where it began, and would ask again for ever. */
const NO_PROGRESS: Status = { name: 'NO_PROGRESS', code: -1 }

/** A page-state change as the guest makes it: `private` asks for RAM, `shared` for EMPTY. Hints are nothing to an RMM. */
export function beginRequest(host: Host, guest: GuestContext, entries: readonly RequestEntry[]): IpaStateRequest {
  const request: IpaStateRequest = {
    kind: 'ipa-state',
    statuses: entries.length === 1 ? [undefined] : entries.map(() => undefined),
    completed: 0,
    entries,
    at: 0,
  }
  judge(host, guest, request)
  return request
}

function judge(host: Host, guest: GuestContext, request: IpaStateRequest): void {
  const entry = request.entries[request.at]
  const realm = realmOf(host.data, guest.vm)
  if (entry === undefined || realm === undefined) return
  const known = entry.operation === 'private' || entry.operation === 'shared'
  const pages = entry.pages * entry.span
  if (!known || pages === 0 || entry.gfn + pages > realm.rtt.unprotectedPage) fail(request, ERROR_INPUT)
}

function fail(request: IpaStateRequest, status: Status): void {
  request.statuses[request.at] = status
  request.at = request.entries.length
}

/** The REC exit RIPAS_CHANGE, which KVM hands on as a memory fault over the whole range (arm-cca.md 7, 9). */
export function nextExit({ entries, at }: IpaStateRequest): ConversionExit | undefined {
  const entry = entries[at]
  if (entry === undefined) return undefined
  const { gfn, pages, span, operation } = entry
  return { reason: 'KVM_EXIT_MEMORY_FAULT', gfn, pages: pages * span, private: operation === 'private' }
}

/** The VMM has run the vCPU again: KVM calls RTT_SET_RIPAS over the range. A VMM that refuses has RAM rejected. */
export function completeExit(host: Host, guest: GuestContext, request: IpaStateRequest, ret: number): void {
  const entry = request.entries[request.at]
  const realm = realmOf(host.data, guest.vm)
  if (entry === undefined || realm === undefined) return
  const isRam = entry.operation === 'private'
  const end = entry.gfn + entry.pages * entry.span
  const changed = ret === 0 && setRipas(host, guest.vm, realm, entry.gfn, end, isRam ? RIPAS.RAM : RIPAS.EMPTY)
  if (!changed) {
    fail(request, isRam ? REJECTED : NO_PROGRESS)
    return
  }
  request.statuses[request.at] = SUCCESS
  request.completed++
  request.at++
  judge(host, guest, request)
}
