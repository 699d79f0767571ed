import { DIGEST_BYTES } from '../amd/launch-digest.ts'
import { isDirty, markDirty } from './asids.ts'
import type { GuestContextRecord, Host } from './data.ts'
import { markOf, rawEntry, rawState, writeEntries } from './rmp.ts'
import { CONTEXT, FIRMWARE, LARGE } from './states.ts'
import { type FirmwareCode, FW } from './status.ts'

/** The firmware's own ABI version, 1.55 (amd-sev-snp.md e: what the default platform reports). */
export const ABI = { major: 1, minor: 55 } as const

/** Bits of the launch policy (amd-sev-snp.md d.1). */
export const POLICY = { SMT: 1n << 16n, RESERVED_ONE: 1n << 17n, DEBUG: 1n << 19n, SINGLE_SOCKET: 1n << 20n } as const
/** From here on everything is reserved to this firmware. */
const FIRST_RESERVED_BIT = 21n

/** The guest of a context page, or undefined where the page isn't one: INVALID_GUEST. */
export const contextAt = (host: Host, frame: number): GuestContextRecord | undefined =>
  rawState(host.rmp, frame) === 'Context' ? host.data.contexts.get(frame) : undefined

export const isLaunched = (guest: GuestContextRecord): boolean => guest.state === 'LAUNCH' || guest.state === 'RUNNING'

/** SNP_GCTX_CREATE (amd-sev-snp.md b.6): Firmware, 4K → Context, zeroed. */
export function gctxCreate(host: Host, frame: number): FirmwareCode {
  if (rawState(host.rmp, frame) !== 'Firmware') return FW.INVALID_PAGE_STATE
  if (rawEntry(host.rmp, frame) & LARGE) return FW.INVALID_PAGE_SIZE
  if (frame >= host.rmp.ownStart) return FW.INVALID_ADDRESS
  writeEntries(host.rmp, frame, frame + 1, CONTEXT, 0)
  host.machine.write(frame, undefined)
  host.data.contexts.set(frame, {
    state: 'INIT',
    policy: 0n,
    asid: 0,
    digest: new Uint8Array(DIGEST_BYTES),
    serial: 0,
    swapCount: 0n,
    hostData: new Uint8Array(32),
    identity: undefined,
    steps: [],
  })
  return FW.SUCCESS
}

/** The firmware's judgement of a policy (amd-sev-snp.md d.1). The host runs with SMT and on one socket. */
export function judgePolicy(policy: bigint): FirmwareCode {
  const minor = Number(policy & 0xffn)
  const major = Number((policy >> 8n) & 0xffn)
  if (major > ABI.major || (major === ABI.major && minor > ABI.minor)) return FW.POLICY_FAILURE
  if ((policy & POLICY.RESERVED_ONE) === 0n || policy >> FIRST_RESERVED_BIT !== 0n) return FW.POLICY_FAILURE
  return (policy & POLICY.SMT) === 0n ? FW.POLICY_FAILURE : FW.SUCCESS
}

/** SNP_LAUNCH_START: INIT → LAUNCH, with new OEK, VMPCKs and report id. */
export function launchStart(host: Host, frame: number, policy: bigint): FirmwareCode {
  const guest = contextAt(host, frame)
  if (guest === undefined) return FW.INVALID_GUEST
  if (guest.state !== 'INIT') return FW.INVALID_GUEST_STATE
  const code = judgePolicy(policy)
  if (code !== FW.SUCCESS) return code
  guest.state = 'LAUNCH'
  guest.policy = policy
  guest.serial = ++host.data.serial
  return FW.SUCCESS
}

/** What SNP_ACTIVATE says of an ASID, in the order of amd-sev-snp.md b.6. */
export function judgeActivate(host: Host, guest: GuestContextRecord, asid: number): FirmwareCode {
  const { asids } = host.data
  if (!isLaunched(guest)) return FW.INVALID_GUEST_STATE
  if ((host.rmp.counters[asid] ?? 0) !== 0) return FW.INVALID_CONFIG
  if (asid < 1 || asid > asids.limit) return FW.INVALID_ASID
  if (asids.owner[asid] !== -1) return FW.ASID_OWNED
  if (guest.asid !== 0) return FW.ACTIVE
  return isDirty(asids, asid) ? FW.DFFLUSH_REQUIRED : FW.SUCCESS
}

export function activate(host: Host, frame: number, asid: number): FirmwareCode {
  const guest = contextAt(host, frame)
  if (guest === undefined) return FW.INVALID_GUEST
  const code = judgeActivate(host, guest, asid)
  if (code !== FW.SUCCESS) return code
  const { asids } = host.data
  guest.asid = asid
  asids.owner[asid] = frame
  asids.generation[asid] = (asids.generation[asid] ?? 0) + 1
  return FW.SUCCESS
}

/**
 * SNP_DECOMMISSION: Context → Firmware. The ASID is given up, dirty if the guest ever ran; the guest's pages stay as
 * they are, with a dead ASID (amd-sev-snp.md b.6).
 */
export function decommission(host: Host, frame: number): FirmwareCode {
  const guest = contextAt(host, frame)
  if (guest === undefined) return FW.INVALID_GUEST
  const { asids } = host.data
  if (guest.asid !== 0) {
    asids.owner[guest.asid] = -1
    if (guest.state === 'RUNNING') markDirty(asids, guest.asid)
  }
  host.data.contexts.delete(frame)
  writeEntries(host.rmp, frame, frame + 1, FIRMWARE, 0)
  host.machine.write(frame, undefined)
  return FW.SUCCESS
}

/** Whether a Metadata page's GPA field names this context (amd-sev-snp.md b.2). */
export const isMetadataOf = (host: Host, frame: number, context: number): boolean =>
  markOf(host.rmp, frame) - 0x80000000 === context
