import type { Verdict, VmOptions } from '../contract.ts'
import { addressOf } from '../shared/address-schema.ts'
import { parseU64 } from '../shared/hex.ts'
import { flushAsids, nextAsid } from './asids.ts'
import { type Config, DEFAULT_POLICY } from './config.ts'
import { type Host, vmOf } from './data.ts'
import { activate, decommission, gctxCreate, judgePolicy, launchStart, POLICY } from './firmware-guest.ts'
import { pageReclaim } from './firmware-pages.ts'
import { judgeUpdate, updateEntry } from './instructions-host.ts'
import { entryOf, rawState } from './rmp.ts'
import { ASSIGNED, IMMUTABLE } from './states.ts'
import { FW, firmwareRefusal, INSN, OK, refuse } from './status.ts'

/** Bits 0 to 25: those KVM knows (amd-sev-snp.md d.1). */
const KNOWN_POLICY_BITS = 26n
const OBSTACLE = { pages: FW.INVALID_CONFIG, owned: FW.ASID_OWNED, dirty: FW.DFFLUSH_REQUIRED } as const
const SHARED = { assigned: false, large: false, immutable: false, asid: 0, gfn: 0 } as const
const FIRMWARE_PAGE = { assigned: true, large: false, immutable: true, asid: 0, gfn: 0 } as const

/**
 * What KVM does for KVM_SEV_INIT2 and SNP_LAUNCH_START (amd-sev-snp.md d.1): an ASID (none: EBUSY), the policy's
 * rules (EINVAL), GCTX_CREATE (ENOTTY), LAUNCH_START and ACTIVATE (EIO with the firmware's status). A refusal leaves
 * no trace: what the firmware would say is known before anything is changed.
 */
export function createVm(host: Host, options: VmOptions): Verdict {
  const { data, machine, rmp } = host
  const config = options.config as Config
  const { asid, flush, obstacle } = nextAsid(data.asids, rmp.counters)
  if (asid === 0) return refuse('EBUSY', 'no-asid', `All ${data.asids.limit} ASIDs of SNP guests are in use.`)
  const policy = parseU64(config.policy ?? DEFAULT_POLICY)
  if (policy === undefined || policy >> KNOWN_POLICY_BITS !== 0n)
    return refuse('EINVAL', 'policy-unknown-bits', 'The policy has bits that KVM does not know.', '/config/policy')
  if ((policy & POLICY.RESERVED_ONE) === 0n)
    return refuse('EINVAL', 'policy-reserved-bit', 'Bit 17 of the policy must be set.', '/config/policy')
  const judged = judgePolicy(policy)
  if (judged !== FW.SUCCESS) return firmwareRefusal(judged, 'SNP_LAUNCH_START refused the policy.')
  if (obstacle !== undefined)
    return firmwareRefusal(OBSTACLE[obstacle], `SNP_ACTIVATE: no ASID can be used; ASID ${asid}: ${obstacle}.`)
  const context = machine.allocateFrame()
  if (context === -1) return refuse('ENOTTY', 'no-context-page', 'There is no memory for a guest context page.')
  if (judgeUpdate(rmp, context, FIRMWARE_PAGE) !== INSN.SUCCESS) {
    machine.freeFrame(context)
    return refuse('ENOTTY', 'no-context-page', `Host page ${addressOf(context)} cannot become a context page.`)
  }
  if (flush) flushAsids(data.asids)
  data.asids.used[asid] = 1
  updateEntry(rmp, context, FIRMWARE_PAGE)
  must(gctxCreate(host, context))
  must(launchStart(host, context, policy))
  must(activate(host, context, asid))
  data.vms.set(options.vm, {
    asid,
    context,
    vcpus: options.vcpus,
    preparedByFallocate: options.preparedByFallocate,
    freshPages: config.freshPages ?? 'zero',
    pageStateHints: config.pageStateHints ?? 'honour',
    vmsas: [],
  })
  return OK
}

function must(code: number): void {
  if (code !== FW.SUCCESS) throw new Error(`the firmware refused with ${code} what was checked before`)
}

export function vmState(host: Host, vm: string): 'launching' | 'running' {
  return host.data.contexts.get(vmOf(host, vm).context)?.state === 'RUNNING' ? 'running' : 'launching'
}

/** VMSAs and the context page go back to the host; the ASID waits for KVM's next flush (amd-sev-snp.md h 7). */
export function destroyVm(host: Host, vm: string): void {
  const { asid, context, vmsas } = vmOf(host, vm)
  for (const frame of vmsas) freeShared(host, frame, 'VMSA')
  endContext(host, context)
  host.data.asids.reclaim[asid] = 1
  host.data.vms.delete(vm)
}

/** DECOMMISSION, PAGE_RECLAIM, RMPUPDATE: Context → Firmware → Reclaim → Hypervisor. */
function endContext(host: Host, context: number): void {
  decommission(host, context)
  if (rawState(host.rmp, context) === 'Firmware') pageReclaim(host, context, false)
  freeShared(host, context, 'guest context')
}

/** A page that can't be taken back is leaked, as KVM does. */
function freeShared(host: Host, frame: number, what: string): void {
  if (entryOf(host.rmp, frame) & ASSIGNED) updateEntry(host.rmp, frame, SHARED)
  if (entryOf(host.rmp, frame) & (ASSIGNED | IMMUTABLE)) {
    host.machine.note({ name: 'RMPUPDATE', frame, detail: `the ${what} page cannot be taken back and is leaked` })
    return
  }
  host.machine.write(frame, undefined)
  host.machine.freeFrame(frame)
}
