import type { Machine, Verdict } from '../contract.ts'
import type { CcaHardware } from './calls/call-definition.ts'
import { type CcaData, type Host, realmOf } from './data.ts'
import { createDescriber, explain } from './describe.ts'
import { createEvidence, type Evidence } from './evidence/evidence.ts'
import { addressFault, checkGuest, checkHost, checkUnmapped } from './kvm/access.ts'
import { beginRequest, completeExit, type IpaStateRequest, nextExit, type RecRequest } from './kvm/ipa-state.ts'
import { launchFinish, launchLog, launchMeasure, launchPage, launchPlan, launchSource } from './kvm/launch.ts'
import { launchRange } from './kvm/populate-range.ts'
import { assign, release, sharedAlias, translatePrivate, unmapPrivate } from './kvm/private-memory.ts'
import { completeRecRequest } from './kvm/rec-exits.ts'
import { refuse } from './kvm/refusal.ts'
import { createVm, destroyVm, MAX_VMID, vmState } from './kvm/vm.ts'
import { firstGuarded, metadataBytes } from './rmm/granules.ts'
import { rsiStatus } from './status.ts'

const PAGE_BYTES = 4096
const SUCCESS = rsiStatus('RSI_SUCCESS')

/** Behaviour around a host's data. The data is the whole state; what is kept beside it can be made again from it. */
export function open(data: CcaData, machine: Machine): CcaHardware {
  const evidence = createEvidence(data.seed)
  const host: Host = { data, machine, token: (realm, challenge) => evidence.token(realm, challenge) }
  const describe = createDescriber()
  return {
    host,
    metadataBytes: metadataBytes(data.granules),
    keys: () => ({ total: MAX_VMID, inUse: data.vmids.size }),
    createVm: (options) => createVm(host, options),
    vmState: (vm) => vmState(host, vm),
    destroyVm: (vm) => destroyVm(host, vm),
    assign: (vm, gfn, frame, count) => assign(host, vm, gfn, frame, count),
    release: (vm, gfn, frame, count) => release(host, vm, gfn, frame, count),
    translatePrivate: (vm, gfn) => translatePrivate(host, vm, gfn),
    unmapPrivate: (vm, gfn, count) => unmapPrivate(host, vm, gfn, count),
    sharedAlias: (vm, gfn) => sharedAlias(host, vm, gfn),
    addressFault: (vm, gfn, kind) => addressFault(host, vm, gfn, kind),
    // KVM maps a Realm at 4 KiB (arm-cca.md 9).
    mappingSpan: () => 1,
    checkGuest: (vm, gfn, { frame }, isPrivate, kind) => checkGuest(host, vm, gfn, frame, isPrivate, kind),
    checkUnmapped: (vm, gfn, isPrivate, kind) => checkUnmapped(host, vm, gfn, isPrivate, kind),
    checkHost: (frame, _kind, as) => checkHost(host, frame, as),
    firstGuarded: (frame, count) => firstGuarded(data.granules, frame, count),
    // A host access to a Realm's granule faults before any byte moves (arm-cca.md 2).
    ciphertext: () => new Uint8Array(PAGE_BYTES),
    hostWroteCiphertext: () => undefined,
    beginRequest: (guest, entries) => beginRequest(host, guest, entries),
    nextExit: (_guest, request) =>
      request.kind === 'ipa-state' ? nextExit(request as IpaStateRequest) : (request as RecRequest).exit,
    completeExit: (guest, request, ret) =>
      request.kind === 'ipa-state'
        ? completeExit(host, guest, request as IpaStateRequest, ret)
        : completeRecRequest(host, guest.vm, request as RecRequest, ret),
    // First use of RAM takes no acceptance: RSI_IPA_STATE_SET was all (arm-cca.md 7.1).
    accept: () => ({ kind: 'done', status: SUCCESS }),
    launchPage: (vm, gfn, frame, source, options) => launchPage(host, vm, gfn, frame, source, options),
    launchSource: (vm) => launchSource(host, vm),
    launchRange: (vm, range) => launchRange(host, vm, range),
    launchMeasure: (vm, gfn, pages, options) => launchMeasure(host, vm, gfn, pages, options),
    launchFinish: (vm, options) => launchFinish(host, vm, options),
    launchPlan: (vm, image, query) => launchPlan(host, vm, image, query),
    launchLog: (vm) => launchLog(host, vm),
    evidence: (vm, nonce) => attest(host, evidence, vm, nonce),
    certificates: () => evidence.certificates(),
    describe: (vm, gfn, frame, count, emit) => describe(host, vm, gfn, frame, count, emit),
    explain: (vm, gfn, frame) => explain(host, vm, gfn, frame),
  }
}

/** The CCA token (8.1), which only a running Realm can ask for. */
function attest(
  host: Host,
  evidence: Evidence,
  vm: string,
  nonce: Uint8Array,
): Verdict<Readonly<Record<string, unknown>>> {
  const realm = realmOf(host.data, vm)
  if (realm?.state !== 'ACTIVE') return refuse('EINVAL', 'realm-not-active', 'Only a running Realm is attested.')
  return evidence.report(realm, nonce)
}
