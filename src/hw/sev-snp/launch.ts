import { PAGE_TYPE, type PageType } from '../amd/launch-digest.ts'
import { VMSA_GPA } from '../amd/launch-plan.ts'
import type { LaunchLog, LaunchStep, Verdict } from '../contract.ts'
import { addressOf } from '../shared/address-schema.ts'
import { hexOf, toHex } from '../shared/hex.ts'
import { judgeCpuidPage } from './cpuid-page.ts'
import { type Host, type LaunchStepRecord, type VmRecord, vmOf } from './data.ts'
import { contextAt } from './firmware-guest.ts'
import { launchFinish as finishCommand, judgeGuest, launchUpdate } from './firmware-launch.ts'
import { pageReclaim } from './firmware-pages.ts'
import { judgeUpdate, smashAround, updateEntry } from './instructions-host.ts'
import { parseFinish, vcpuPages } from './launch-options.ts'
import { entryOf, gfnOf, stateAt } from './rmp.ts'
import { asidOf, LARGE } from './states.ts'
import { FW, firmwareRefusal, INSN, OK, refuse } from './status.ts'

const VMSA_GFN = VMSA_GPA / 4096

/** SNP_LAUNCH_UPDATE's check of the type (amd-sev-snp.md d.4), and whether the type takes bytes. */
export function launchSource(options: Readonly<Record<string, unknown>>): Verdict<'bytes' | 'none'> {
  switch (pageTypeOf(options)) {
    case 'VMSA':
      return refuse('EINVAL', 'page-type-vmsa', 'KVM measures VMSAs itself when the launch finishes.', '/pageType')
    case 'ZERO':
    case 'SECRETS':
      return { ok: true, value: 'none' }
    default:
      return { ok: true, value: 'bytes' }
  }
}

const pageTypeOf = (options: Readonly<Record<string, unknown>>): PageType => (options.pageType ?? 'NORMAL') as PageType

/**
 * One page of SNP_LAUNCH_UPDATE as KVM does it (amd-sev-snp.md d.4): unassigned in the RMP, source copied, RMPUPDATE to
 * Pre-Guest, LAUNCH_UPDATE in place. Where fallocate has prepared pages (the 2022 model), its Guest-Invalid page is
 * taken to Pre-Guest instead. What the firmware refuses is known first, so that nothing needs to be undone: the page
 * stays as it was, which is what PAGE_RECLAIM and RMPUPDATE would restore.
 */
export function launchPage(
  host: Host,
  vm: string,
  gfn: number,
  frame: number,
  source: Uint8Array | undefined,
  options: Readonly<Record<string, unknown>>,
): Verdict {
  const taken = launchSource(options)
  if (!taken.ok) return taken
  const record = vmOf(host, vm)
  const pageType = pageTypeOf(options)
  if (!isLaunchable(host, record, gfn, frame))
    return refuse(
      'EIO',
      'page-not-launchable',
      `Page ${addressOf(gfn)} is assigned already: each page is launched once.`,
    )
  const refusal = judgePage(host, record, pageType, source)
  if (refusal !== undefined) return refusal
  const { rmp, machine } = host
  if (entryOf(rmp, frame) & LARGE) smashAround(host, frame, gfn, 'a 4K page of a 2M entry is launched')
  machine.write(frame, taken.value === 'none' || source === undefined ? undefined : new Uint8Array(source))
  const update = { assigned: true, large: false, immutable: true, asid: record.asid, gfn }
  expect(updateEntry(rmp, frame, update))
  const type = PAGE_TYPE[pageType]
  expect(launchUpdate(host, { context: record.context, frame, large: false, type, extras: {} }))
  return OK
}

function expect(code: number): void {
  if (code !== 0) throw new Error(`a launch step that was checked before failed with ${code}`)
}

function isLaunchable(host: Host, vm: VmRecord, gfn: number, frame: number): boolean {
  const { rmp } = host
  const update = { assigned: true, large: false, immutable: true, asid: vm.asid, gfn }
  const state = stateAt(rmp, frame)
  if (state === 'Hypervisor') return judgeUpdate(rmp, frame, update) === INSN.SUCCESS
  if (state !== 'Guest-Invalid' || !vm.preparedByFallocate) return false
  return asidOf(entryOf(rmp, frame)) === vm.asid && gfnOf(rmp, frame) === gfn
}

/** What LAUNCH_UPDATE would answer for a page that is Pre-Guest by then (amd-sev-snp.md b.6). */
function judgePage(host: Host, vm: VmRecord, pageType: PageType, source: Uint8Array | undefined): Verdict | undefined {
  const guest = contextAt(host, vm.context)
  if (guest === undefined) return firmwareRefusal(FW.INVALID_GUEST, 'The guest context page is gone.')
  const code = judgeGuest(guest)
  if (code !== FW.SUCCESS) return firmwareRefusal(code, `SNP_LAUNCH_UPDATE: the guest is ${guest.state}.`)
  if (guest.asid !== vm.asid) return firmwareRefusal(FW.INVALID_PAGE_OWNER, 'The guest runs under another ASID.')
  if (pageType !== 'CPUID') return undefined
  const verdict = judgeCpuidPage(source)
  if (verdict.kind === 'ok') return undefined
  const refusal = firmwareRefusal(FW.INVALID_PARAM, verdict.detail)
  if (refusal.ok || verdict.kind !== 'corrected') return refusal
  const cpuidPage = Buffer.from(verdict.page).toString('base64')
  return { ok: false, refusal: { ...refusal.refusal, outputs: { cpuidPage } } }
}

/**
 * SNP_LAUNCH_FINISH (amd-sev-snp.md d.4, d.8): each vCPU's VMSA in index order, then the command. After a refusal the
 * guest is still in LAUNCH and its VMSAs are measured; a second attempt fails on the first of them.
 */
export function launchFinish(host: Host, vm: string, options: Readonly<Record<string, unknown>>): Verdict {
  const record = vmOf(host, vm)
  const parsed = parseFinish(options)
  if (!parsed.ok) return parsed
  const pages = vcpuPages(parsed.value, record.vcpus)
  const first = record.vmsas.length === 0
  const allocated = first ? allocateVmsas(host, record.vcpus) : record.vmsas
  if (allocated === undefined) return refuse('ENOMEM', 'no-vmsa-page', 'There is no memory for the VMSA pages.')
  record.vmsas = allocated
  for (const [vcpu, page] of pages.entries()) {
    const code = measureVmsa(host, record, allocated[vcpu] ?? 0, page)
    if (code === FW.SUCCESS) continue
    const refusal = firmwareRefusal(code, `SNP_LAUNCH_UPDATE of the VMSA of vCPU ${vcpu} was refused.`)
    return first || vcpu > 0 ? withEffects(refusal) : refusal
  }
  const { code, detail } = finishCommand(host, record.context, parsed.value)
  return code === FW.SUCCESS ? OK : withEffects(firmwareRefusal(code, detail))
}

/** Pages stay allocated and measured after these refusals. */
const withEffects = ({ refusal }: ReturnType<typeof firmwareRefusal>): Verdict => ({
  ok: false,
  refusal: { ...refusal, effects: true },
})

/** RMPUPDATE, LAUNCH_UPDATE, and PAGE_RECLAIM where that is refused: a measured page goes to Pre-Swap and back. */
function measureVmsa(host: Host, vm: VmRecord, frame: number, page: Uint8Array): number {
  const { rmp, machine } = host
  const fresh = stateAt(rmp, frame) === 'Hypervisor'
  if (fresh) machine.write(frame, new Uint8Array(page))
  const update = { assigned: true, large: false, immutable: true, asid: vm.asid, gfn: VMSA_GFN }
  if (updateEntry(rmp, frame, update) !== INSN.SUCCESS) return FW.INVALID_PAGE_STATE
  const code = launchUpdate(host, { context: vm.context, frame, large: false, type: PAGE_TYPE.VMSA, extras: {} })
  if (code === FW.SUCCESS) return code
  pageReclaim(host, frame, false)
  if (fresh) updateEntry(rmp, frame, { assigned: false, large: false, immutable: false, asid: 0, gfn: 0 })
  return code
}

function allocateVmsas(host: Host, count: number): number[] | undefined {
  const frames: number[] = []
  for (let vcpu = 0; vcpu < count; vcpu++) {
    const frame = host.machine.allocateFrame()
    if (frame === -1) {
      for (const taken of frames) host.machine.freeFrame(taken)
      return undefined
    }
    frames.push(frame)
  }
  return frames
}

/** The transcript: a line for each run of pages of one type, in the form that re-hashes to the digest (d.3). */
export function launchLog(host: Host, vm: string): LaunchLog {
  const guest = contextAt(host, vmOf(host, vm).context)
  if (guest === undefined) return { state: 'DECOMMISSIONED', digest: null, steps: [] }
  return { state: guest.state, digest: hexOf(guest.digest), steps: guest.steps.map(presentStep) }
}

const presentStep = (step: LaunchStepRecord): LaunchStep => ({
  pageType: step.pageType,
  gpa: toHex(BigInt(step.gfn) << 12n),
  pages: step.pages,
  digestAfter: hexOf(step.digestAfter),
  ...(step.contents && {
    contents: step.contents.map(({ pages, sha384 }) => ({ pages, sha384: hexOf(sha384) })),
  }),
  ...(step.extras.vmplPermissions && { vmplPermissions: step.extras.vmplPermissions }),
  ...(step.extras.imi === true && { imi: true }),
})
