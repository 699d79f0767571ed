import type { CallResult } from '../../contract.ts'
import type { ExitHandler } from '../calls/call-definition.ts'
import { outcomeResult } from '../calls/outcome.ts'
import { type Host, vmOf } from '../data.ts'
import { ENTRY_FLAG, PLAIN_ENTRY, recEnter } from '../rmm/enter.ts'
import { IRQ, leave, type RecExit, type SyncExit } from '../rmm/exits.ts'
import { addressOf, hex, PAGE_SIZE } from '../rmm/geometry.ts'
import type { Realm } from '../rmm/realm.ts'
import { rttSetRipas } from '../rmm/ripas-commands.ts'
import { RIPAS } from '../rmm/states.ts'
import { rsiStatus } from '../status.ts'
import type { RecRequest } from './ipa-state.ts'
import { splitAt, unmapPrivate } from './private-memory.ts'

/**
 * KVM's side of the exits of a vCPU's guest calls (arm-cca.md 7, 9): a RIPAS change goes to the VMM, an abort to the fault
 * handler, after which the call is made again. Host calls and PSCI are shown as they are.
 */
export const recExits: ExitHandler = {
  handle(_host, realm, rec, exit) {
    if (exit.reason === 'RIPAS_CHANGE') return { kind: 'request', request: ripasRequest(rec.frame, exit) }
    if (exit.reason === 'SYNC') return abortResult(realm, exit)
    return outcomeResult({ outcome: { kind: 'exit', exit }, entered: { realm, rec }, resumed: undefined })
  },
  outputs(request) {
    const { reached, response } = request as RecRequest
    return response === undefined ? {} : { x1: addressOf(reached), response }
  },
}

function ripasRequest(rec: number, { base, top, ripas }: Extract<RecExit, { reason: 'RIPAS_CHANGE' }>): RecRequest {
  return {
    kind: 'rec-ipa-state',
    statuses: [undefined],
    completed: 0,
    rec,
    exit: { reason: 'KVM_EXIT_MEMORY_FAULT', gfn: base, pages: top - base, private: ripas === RIPAS.RAM },
    reached: base,
    response: undefined,
  }
}

function abortResult({ rtt }: Realm, { page, write, esr }: SyncExit): CallResult {
  const isPrivate = page < rtt.unprotectedPage
  return {
    kind: 'fault',
    gfn: isPrivate ? page : page - rtt.unprotectedPage,
    private: isPrivate,
    write,
    fault: { name: 'REC_EXIT_SYNC', code: 0, errorCode: hex(esr), detail: 'An abort that the host gets to see.' },
    mended: false,
  }
}

/**
 * The VMM has answered a RIPAS change: KVM calls RTT_SET_RIPAS as far as the guest's flag allows, takes back what is EMPTY
 * now, and enters the REC again, with the response REJECT where the VMM refused.
 */
export function completeRecRequest(host: Host, vm: string, request: RecRequest, ret: number): void {
  request.exit = undefined
  const rec = host.data.recs.get(request.rec)
  const realm = rec === undefined ? undefined : host.data.realms.get(rec.rd)
  if (realm !== undefined && ret === 0) setAll(host, vm, realm, request.rec)
  const flags = ret === 0 ? 0n : ENTRY_FLAG.RIPAS_RESPONSE
  const entered = recEnter(host, bytesOf(request.rec), { ...PLAIN_ENTRY, flags })
  if (!entered.ok) {
    request.statuses[0] = entered.answer.status
    return
  }
  const { resumed, rec: inside } = entered.value
  if (inside.running) leave(inside, IRQ)
  if (resumed.kind !== 'ipa-state-set') return
  request.reached = resumed.reached
  request.response = resumed.response
  request.statuses[0] = rsiStatus('RSI_SUCCESS')
  request.completed = 1
}

const bytesOf = (frame: number): bigint => BigInt(frame) * BigInt(PAGE_SIZE)

function setAll(host: Host, vm: string, realm: Realm, rec: number): void {
  const change = host.data.recs.get(rec)?.ripasChange
  if (change === undefined || !splitAt(host, vm, realm, change.base, change.top)) return
  const rd = bytesOf(vmOf(host.data, vm).rd)
  for (let isSet = true; isSet && change.next < change.top; ) {
    const range = { base: bytesOf(change.next), top: bytesOf(change.top) }
    isSet = rttSetRipas(host, { rd, rec: bytesOf(rec), ...range }).status.code === 0
  }
  if (change.ripas === RIPAS.EMPTY) unmapPrivate(host, vm, change.base, change.next - change.base)
}
