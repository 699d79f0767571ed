import type { Machine } from '../contract.ts'
import { checkGuest, checkHost } from './access.ts'
import { asidsInUse } from './asids.ts'
import type { SnpHardware } from './call-definition.ts'
import type { Host, SnpData } from './data.ts'
import { createDescriber, explain } from './describe.ts'
import { createEvidence } from './evidence.ts'
import { launchPlan } from './image.ts'
import { accept } from './instructions-guest.ts'
import { launchFinish, launchLog, launchPage, launchSource } from './launch.ts'
import { ciphertextOf } from './memory.ts'
import { assign, firstGuarded, mappingSpan, release } from './ownership.ts'
import { beginRequest, completeExit, nextExit, type PscRequest } from './psc.ts'
import { metadataBytes } from './rmp.ts'
import { createVm, destroyVm, vmState } from './vm.ts'

/** Behaviour around a host's data. The data is the whole state; what is kept beside it can be made again from it. */
export function open(data: SnpData, machine: Machine): SnpHardware {
  const { rmp } = data
  const host: Host = { data, rmp, machine }
  const evidence = createEvidence(data.seed)
  const describe = createDescriber()
  return {
    host,
    metadataBytes: metadataBytes(rmp),
    keys: () => ({ total: data.asids.limit, inUse: asidsInUse(data.asids) }),
    createVm: (options) => createVm(host, options),
    vmState: (vm) => vmState(host, vm),
    destroyVm: (vm) => destroyVm(host, vm),
    assign: (vm, gfn, frame, count, span) => assign(host, vm, gfn, frame, count, span),
    release: (_vm, gfn, frame, count) => {
      release(host, gfn, frame, count)
      return true
    },
    mappingSpan: (frame) => mappingSpan(rmp, frame),
    checkGuest: (vm, gfn, mapping, isPrivate, kind, vmpl) => checkGuest(host, vm, gfn, mapping, isPrivate, kind, vmpl),
    checkHost: (frame, kind, as) => checkHost(host, frame, kind, as),
    firstGuarded: (frame, count) => firstGuarded(rmp, frame, count),
    ciphertext: (frame) => ciphertextOf(host, frame),
    // Host writes to private pages fault or crash: nothing reaches memory (amd-sev-snp.md b.7).
    hostWroteCiphertext: () => undefined,
    beginRequest: (_guest, entries) => beginRequest(entries),
    nextExit: (guest, request) => nextExit(host, guest, request as PscRequest),
    completeExit: (_guest, request, ret) => completeExit(request as PscRequest, ret),
    accept: (guest, gfn, count, span) => accept(host, guest, gfn, count, span),
    launchPage: (vm, gfn, frame, source, options) => launchPage(host, vm, gfn, frame, source, options),
    launchSource: (_vm, options) => launchSource(options),
    launchFinish: (vm, options) => launchFinish(host, vm, options),
    launchPlan: (_vm, image, query) => launchPlan(image, query),
    launchLog: (vm) => launchLog(host, vm),
    evidence: (vm, nonce) => evidence.report(host, vm, nonce),
    certificates: () => evidence.certificates(),
    describe: (_vm, _gfn, frame, count, emit) => describe(host, frame, count, emit),
    explain: (_vm, _gfn, frame) => explain(host, frame),
  }
}
