import { checkIdBlock, type GuestIdentity, NO_IDENTITY } from '../amd/id-block.ts'
import {
  contentsDigest,
  extendLaunchDigest,
  isMeasured,
  PAGE_TYPE,
  type PageInfoExtras,
  type PageType,
} from '../amd/launch-digest.ts'
import { judgeCpuidPage } from './cpuid-page.ts'
import type { GuestContextRecord, Host } from './data.ts'
import { contextAt } from './firmware-guest.ts'
import { BLOCK, changeEntries, gfnOf, rawEntry, rawState } from './rmp.ts'
import { secretsPage } from './secrets-page.ts'
import { asidOf, IMMUTABLE, LARGE, VALIDATED, VMSA, withPermissions } from './states.ts'
import { type FirmwareCode, FW } from './status.ts'

const PAGE_BYTES = 4096
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)

export type LaunchUpdate = {
  /** Frame of the guest context. */
  readonly context: number
  readonly frame: number
  readonly large: boolean
  /** Number of the page type; 0 and 7 are reserved (amd-sev-snp.md b.6). */
  readonly type: number
  readonly extras: PageInfoExtras
}

const TYPE_NAMES: readonly (PageType | undefined)[] = [
  undefined,
  ...(Object.keys(PAGE_TYPE) as PageType[]).toSorted((a, b) => PAGE_TYPE[a] - PAGE_TYPE[b]),
]

const isSmallOnly = (type: number): boolean =>
  type === PAGE_TYPE.VMSA || type === PAGE_TYPE.SECRETS || type === PAGE_TYPE.CPUID

/** SNP_LAUNCH_UPDATE (amd-sev-snp.md b.6): checks in its order, then measure, fill and make Guest-Valid. */
export function launchUpdate(host: Host, update: LaunchUpdate): FirmwareCode {
  const { context, frame, large, type, extras } = update
  const { rmp } = host
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  if (rawState(rmp, frame) !== 'Pre-Guest') return FW.INVALID_PAGE_STATE
  const entry = rawEntry(rmp, frame)
  if ((entry & LARGE) !== (large ? LARGE : 0)) return FW.INVALID_PAGE_SIZE
  if (large && frame % BLOCK !== 0) return FW.INVALID_ADDRESS
  if (isSmallOnly(type) && large) return FW.INVALID_PAGE_SIZE
  const pageType = TYPE_NAMES[type]
  if (pageType === undefined) return FW.INVALID_PARAM
  const code = judgeGuest(guest)
  if (code !== FW.SUCCESS) return code
  if (asidOf(entry) !== guest.asid) return FW.INVALID_PAGE_OWNER
  if (pageType === 'CPUID') {
    const verdict = judgeCpuidPage(host.machine.read(frame))
    if (verdict.kind === 'corrected') host.machine.write(frame, verdict.page)
    if (verdict.kind !== 'ok') return FW.INVALID_PARAM
  }
  for (let at = frame; at < frame + (large ? BLOCK : 1); at++) measure(host, guest, at, pageType, extras)
  const [vmpl1, vmpl2, vmpl3] = extras.vmplPermissions ?? [0, 0, 0]
  let valid = ((entry & ~IMMUTABLE) | VALIDATED | (pageType === 'VMSA' ? VMSA : 0)) >>> 0
  valid = withPermissions(withPermissions(withPermissions(valid, 1, vmpl1), 2, vmpl2), 3, vmpl3)
  changeEntries(rmp, frame, frame + (large ? BLOCK : 1), valid)
  return FW.SUCCESS
}

/** The guest's part of LAUNCH_UPDATE and LAUNCH_FINISH: state, then activity. */
export function judgeGuest(guest: GuestContextRecord): FirmwareCode {
  if (guest.state !== 'LAUNCH') return FW.INVALID_GUEST_STATE
  return guest.asid === 0 ? FW.INACTIVE : FW.SUCCESS
}

function measure(host: Host, guest: GuestContextRecord, frame: number, type: PageType, extras: PageInfoExtras): void {
  const { machine, rmp } = host
  if (type === 'ZERO') machine.write(frame, undefined)
  else if (type === 'SECRETS') machine.write(frame, secretsPage(host, guest))
  const gfn = gfnOf(rmp, frame)
  const contents = contentsDigest(type, machine.read(frame) ?? ZERO_PAGE)
  guest.digest = new Uint8Array(extendLaunchDigest(guest.digest, type, gfn * PAGE_BYTES, contents, extras))
  record(guest, type, gfn, new Uint8Array(contents), extras)
}

/** Adds a page to the launch log: to its last line where it goes on with that. */
function record(
  guest: GuestContextRecord,
  pageType: PageType,
  gfn: number,
  contents: Uint8Array,
  extras: PageInfoExtras,
): void {
  const last = guest.steps.at(-1)
  const digestAfter = guest.digest
  const plain = extras.imi !== true && extras.vmplPermissions === undefined
  if (
    last !== undefined &&
    plain &&
    last.pageType === pageType &&
    last.gfn + last.pages === gfn &&
    last.extras.vmplPermissions === undefined &&
    last.extras.imi !== true
  ) {
    last.pages++
    last.digestAfter = digestAfter
    const run = last.contents?.at(-1)
    if (run !== undefined && Buffer.compare(run.sha384, contents) === 0) run.pages++
    else last.contents?.push({ pages: 1, sha384: contents })
    return
  }
  const measured = isMeasured(pageType) ? [{ pages: 1, sha384: contents }] : undefined
  guest.steps.push({ pageType, gfn, pages: 1, extras, contents: measured, digestAfter })
}

export type LaunchFinish = {
  readonly idBlock: Uint8Array | undefined
  readonly idAuth: Uint8Array | undefined
  readonly authorKeyEnabled: boolean
  readonly hostData: Uint8Array
}

/** SNP_LAUNCH_FINISH (amd-sev-snp.md d.8): state, activity, ID block; a refusal leaves the guest in LAUNCH. */
export function launchFinish(
  host: Host,
  context: number,
  finish: LaunchFinish,
): { readonly code: number; readonly detail: string } {
  const guest = contextAt(host, context)
  if (guest === undefined) return { code: FW.INVALID_GUEST, detail: 'The page is no guest context.' }
  const code = judgeGuest(guest)
  if (code !== FW.SUCCESS)
    return { code, detail: `The guest is ${guest.state}${guest.asid === 0 ? ', inactive' : ''}.` }
  let identity: GuestIdentity = NO_IDENTITY
  if (finish.idBlock !== undefined) {
    const judged = checkIdBlock({
      idBlock: finish.idBlock,
      idAuth: finish.idAuth ?? new Uint8Array(0),
      authorKeyEnabled: finish.authorKeyEnabled,
      launchDigest: guest.digest,
      policy: guest.policy,
    })
    if (!judged.ok) return { code: judged.code, detail: judged.detail }
    identity = judged.identity
  }
  guest.identity = identity
  guest.hostData = finish.hostData
  guest.state = 'RUNNING'
  return { code: FW.SUCCESS, detail: '' }
}
