import type { Machine, Verdict } from '../contract.ts'
import type { TdxHardware } from './calls/call-definition.ts'
import { type Host, openHost, type TdxData, tdOf } from './data.ts'
import { createDescriber, explain } from './describe.ts'
import { accept, addressFault, checkGuest, checkHost } from './kvm/access.ts'
import { launchFinish, launchLog, launchMeasure, launchPage, launchPlan, launchSource } from './kvm/launch.ts'
import { beginRequest, completeExit, type MapGpaRequest, nextExit } from './kvm/map-gpa.ts'
import { assign, release, sharedAlias, translatePrivate, unmapPrivate } from './kvm/private-memory.ts'
import { refuse } from './kvm/refusal.ts'
import { createVm, destroyVm, vmState } from './kvm/vm.ts'
import { keysInAll, keysInUse } from './module/kot.ts'
import { OP_STATE } from './module/op-states.ts'
import { metadataBytes } from './module/pamt.ts'
import { poison } from './module/poison.ts'
import { tdInfo } from './module/td.ts'

const PAGE_BYTES = 4096

/** Behaviour around a host's data. The data is the whole state; what is kept beside it can be made again from it. */
export function open(data: TdxData, machine: Machine): TdxHardware {
  const host = openHost(data, machine)
  const describe = createDescriber()
  return {
    host,
    metadataBytes: metadataBytes(data.pamt),
    keys: () => ({ total: keysInAll(data.kot), inUse: keysInUse(data.kot) }),
    createVm: (options) => createVm(host, options),
    vmState: (vm) => vmState(host, vm),
    destroyVm: (vm) => destroyVm(host, vm),
    assign: (vm, gfn, frame, count) => assign(host, vm, gfn, frame, count),
    release: (vm, gfn, frame, count) => release(host, vm, gfn, frame, count),
    translatePrivate: (vm, gfn) => translatePrivate(host, vm, gfn),
    unmapPrivate: (vm, gfn, count) => unmapPrivate(host, vm, gfn, count),
    sharedAlias: (vm, gfn) => sharedAlias(host, vm, gfn),
    addressFault: (vm, gfn, kind) => addressFault(host, vm, gfn, kind),
    // Upstream KVM maps private memory in 4K pages only (intel-tdx.md d.3).
    mappingSpan: () => 1,
    checkGuest: (vm, gfn, _mapping, isPrivate, kind, _vmpl, vcpu) => checkGuest(host, vm, gfn, isPrivate, kind, vcpu),
    checkHost: (frame) => checkHost(host, frame),
    firstGuarded: () => -1,
    // Exact ciphertext is nobody's to see: with a shared key a private line reads as zeros (d.6).
    ciphertext: () => new Uint8Array(PAGE_BYTES),
    hostWroteCiphertext: (frame) => void poison(data, frame),
    beginRequest: (guest, entries) => beginRequest(host, guest, entries),
    nextExit: (_guest, request) => nextExit(request as MapGpaRequest),
    completeExit: (guest, request, ret) => completeExit(host, guest, request as MapGpaRequest, ret),
    accept: (guest, gfn, count, span) => accept(host, guest, gfn, count, span),
    launchPage: (vm, gfn, frame, source, options) => launchPage(host, vm, gfn, frame, source, options),
    launchSource: (vm) => launchSource(host, vm),
    launchMeasure: (vm, gfn, pages) => launchMeasure(host, vm, gfn, pages),
    launchFinish: (vm, options) => launchFinish(host, vm, options),
    launchPlan: (_vm, image, query) => launchPlan(image, query),
    launchLog: (vm) => launchLog(host, vm),
    evidence: (vm, nonce) => evidence(host, vm, nonce),
    certificates: () => host.evidence.certificates(),
    describe: (vm, gfn, frame, count, emit) => describe(host, vm, gfn, frame, count, emit),
    explain: (vm, gfn, frame) => explain(host, vm, gfn, frame),
  }
}

/** TDREPORT and quote, which only a running guest can ask for (e.3). */
function evidence(host: Host, vm: string, nonce: Uint8Array): Verdict<Readonly<Record<string, unknown>>> {
  const td = tdOf(host.data, vm)
  if (td === undefined || vmState(host, vm) !== 'running' || td.opState !== OP_STATE.RUNNABLE)
    return refuse('EINVAL', 'td-not-running', 'Only a running guest is attested.')
  return host.evidence.report(tdInfo(td), nonce)
}
