import { toHex } from '../shared/hex.ts'
import { type Refused, refused } from './fault.ts'
import { KERNEL_HASH_TABLE_BYTES, type KernelFiles, kernelHashPage, kernelHashTable } from './kernel-hashes.ts'
import { PAGE, type PageType } from './launch-digest.ts'
import { type Firmware, FOUR_GIB, type ParsedFirmware, parseFirmware, SECTION, type Section } from './ovmf.ts'
import { BSP_EIP, svsmVmsaPage, type Vmm, type VmsaRegisters, vmsaPage } from './vmsa.ts'

/** The address at which VMSAs are measured under KVM (amd-sev-snp.md d.3). */
export const VMSA_GPA = 0xfffffffff000
/** What gce-tcb-verifier uses on Genoa (amd-sev-snp.md d.3). */
export const VMSA_GPA_GENOA_GCE = 0xffffffffff000
/** Metadata sections may describe at most this much: 256 MiB, against 100 KiB in real images. */
export const MAX_SECTION_PAGES = 65536
export const MAX_VCPUS = 4096

export type UpdateSource = 'firmware' | 'svsm' | 'section' | 'kernel-hashes' | 'vmsa'

/** One run of pages of one type that a VMM hands to the firmware. `contents` is null where the bytes aren't measured. */
export type LaunchUpdate = {
  readonly pageType: PageType
  readonly gpa: number
  readonly pages: number
  readonly contents: Uint8Array | null
  readonly source: UpdateSource
  readonly vcpu?: number
}

export type SnpPlanInputs = {
  readonly image: Uint8Array
  readonly vmm: Vmm
  readonly vcpus: number
  readonly cpuSignature: number
  readonly sevFeatures: bigint
  readonly kernel: KernelFiles | null
  readonly vmsaOverride?: VmsaRegisters | undefined
  readonly vmsaGpa?: number | undefined
  /** COCONUT-SVSM: its image, and the size of the variable store between it and the firmware. */
  readonly svsm?: { readonly image: Uint8Array; readonly varsSize: number } | undefined
}

export type SnpPlan = {
  readonly ok: true
  readonly firmware: Firmware
  readonly updates: readonly LaunchUpdate[]
  /** GPAs given twice: measured all the same, but a real launch fails there with EIO (amd-sev-snp.md d.4). */
  readonly overlaps: readonly number[]
}

/**
 * The ordered updates a VMM performs to launch an SEV-SNP guest (amd-sev-snp.md d.5): firmware pages, metadata
 * sections in table order, VMSAs. Under KVM the VMSAs belong to LAUNCH_FINISH, all others to LAUNCH_UPDATE.
 */
export function planSnpLaunch(inputs: SnpPlanInputs): SnpPlan | Refused {
  const parsed = parseFirmware(inputs.image)
  if (!parsed.ok) return parsed
  const { firmware } = parsed
  const updates = [wholeImage(firmware, 'firmware')]
  const svsm = inputs.svsm === undefined ? null : placeSvsm(firmware, inputs.svsm)
  if (svsm !== null) {
    if (!svsm.ok) return svsm
    updates.push(wholeImage(svsm.firmware, 'svsm'))
  }
  const sections = planSections(svsm?.firmware ?? firmware, inputs, svsm === null ? '/image' : '/svsm')
  if (!sections.ok) return sections
  const vmsas = svsm === null ? planVmsas(firmware, inputs) : planSvsmVmsas(svsm.firmware, inputs)
  if (!vmsas.ok) return vmsas
  updates.push(...sections.updates, ...vmsas.updates)
  return { ok: true, firmware, updates, overlaps: findOverlaps(updates) }
}

/** An SVSM image ends where the firmware's variable store begins (amd-sev-snp.md d.5). */
function placeSvsm(firmware: Firmware, svsm: NonNullable<SnpPlanInputs['svsm']>): ParsedFirmware {
  if (svsm.varsSize % PAGE !== 0)
    return refused('vars-unaligned', 'The variable store is not whole 4 KiB pages.', '/ovmfVarsSize')
  if (svsm.varsSize > firmware.gpa)
    return refused('image-too-large', 'The variable store does not fit below the firmware.', '/ovmfVarsSize')
  return parseFirmware(svsm.image, firmware.gpa - svsm.varsSize, '/svsm')
}

export type Updates = { readonly ok: true; readonly updates: LaunchUpdate[] }

const wholeImage = (firmware: Firmware, source: UpdateSource): LaunchUpdate => ({
  pageType: 'NORMAL',
  gpa: firmware.gpa,
  pages: firmware.data.length / PAGE,
  contents: firmware.data,
  source,
})

function planSections(firmware: Firmware, inputs: SnpPlanInputs, field: string): Updates | Refused {
  const { sections } = firmware
  if (sections === null)
    return refused('image-no-metadata', 'The image has no SEV metadata, so it cannot launch under SEV-SNP.', field)
  let total = 0
  for (const section of sections) {
    if (section.gpa % PAGE !== 0 || section.size % PAGE !== 0)
      return refused('section-unaligned', `The section at ${toHex(section.gpa)} is not whole 4 KiB pages.`, field)
    if (section.gpa + section.size > FOUR_GIB)
      return refused('section-range', `The section at ${toHex(section.gpa)} reaches beyond 4 GiB.`, field)
    total += section.size / PAGE
  }
  if (total > MAX_SECTION_PAGES)
    return refused('section-range', `The sections hold ${total} pages; at most ${MAX_SECTION_PAGES} launch.`, field)
  if (inputs.kernel !== null && !sections.some((section) => section.type === SECTION.KERNEL_HASHES))
    return refused(
      'kernel-hashes-unsupported',
      'A kernel is given, but the image has no SNP_KERNEL_HASHES section.',
      '/kernel',
    )
  const ordered =
    inputs.vmm === 'ec2'
      ? [
          ...sections.filter(({ type }) => type !== SECTION.CPUID),
          ...sections.filter(({ type }) => type === SECTION.CPUID),
        ]
      : sections
  const updates: LaunchUpdate[] = []
  for (const section of ordered) {
    const update = planSection(section, firmware, inputs, field)
    if (!update.ok) return update
    if (update.update.pages > 0) updates.push(update.update)
  }
  return { ok: true, updates }
}

function planSection(
  { gpa, size, type }: Section,
  firmware: Firmware,
  inputs: SnpPlanInputs,
  field: string,
): { ok: true; update: LaunchUpdate } | Refused {
  const whole = (pageType: PageType): { ok: true; update: LaunchUpdate } => ({
    ok: true,
    update: { pageType, gpa, pages: size / PAGE, contents: null, source: 'section' },
  })
  const one = (pageType: PageType): { ok: true; update: LaunchUpdate } => ({
    ok: true,
    update: { pageType, gpa, pages: 1, contents: null, source: 'section' },
  })
  switch (type) {
    case SECTION.SNP_SEC_MEM:
      return whole(inputs.vmm === 'gce' ? 'UNMEASURED' : 'ZERO')
    case SECTION.SVSM_CAA:
      return whole('ZERO')
    case SECTION.SECRETS:
      return one('SECRETS')
    case SECTION.CPUID:
      return one('CPUID')
    case SECTION.KERNEL_HASHES: {
      if (inputs.kernel === null) return whole('ZERO')
      if (size !== PAGE)
        return refused('kernel-hashes-section', `The kernel-hash section is ${size} bytes, not one page.`, field)
      const table = planHashTable(firmware, inputs.kernel)
      if (!table.ok) return table
      const contents = kernelHashPage(table.table, table.gpa)
      if (contents === undefined)
        return refused('kernel-hashes-table', `The hash table at ${toHex(table.gpa)} crosses its page's end.`, field)
      return { ok: true, update: { pageType: 'NORMAL', gpa, pages: 1, contents, source: 'kernel-hashes' } }
    }
    default:
      return refused('section-type', `The section at ${toHex(gpa)} has the unknown type ${toHex(type)}.`, field)
  }
}

/** The hash table and where the firmware will look for it; refused where the image offers no place. */
export function planHashTable(
  firmware: Firmware,
  kernel: KernelFiles,
): { readonly ok: true; readonly gpa: number; readonly table: Buffer } | Refused {
  const area = firmware.kernelHashTable
  if (area === null || area.gpa === 0)
    return refused('kernel-hashes-unsupported', 'A kernel is given, but the image has no hash table area.', '/kernel')
  if (area.size < KERNEL_HASH_TABLE_BYTES)
    return refused('kernel-hashes-table', `The image's hash table area is only ${area.size} bytes.`, '/image')
  return { ok: true, gpa: area.gpa, table: kernelHashTable(kernel) }
}

/** The address application processors start at, which every VMM looks for even with a single vCPU. */
export function resetAddress(firmware: Firmware): { readonly ok: true; readonly eip: number } | Refused {
  if (firmware.resetEip === null)
    return refused('image-no-reset-block', 'The image has no SEV-ES reset block.', '/image')
  if (firmware.resetEip === 0) return refused('image-no-reset-block', 'The SEV-ES reset address is zero.', '/image')
  return { ok: true, eip: firmware.resetEip }
}

function planVmsas(firmware: Firmware, inputs: SnpPlanInputs): Updates | Refused {
  const reset = resetAddress(firmware)
  if (!reset.ok) return reset
  const { vmm, cpuSignature, sevFeatures, vmsaOverride: override } = inputs
  const common = { vmm, cpuSignature, sevFeatures, override }
  const bsp = vmsaPage({ ...common, role: 'BSP', eip: BSP_EIP })
  const ap = vmsaPage({ ...common, role: 'AP', eip: reset.eip })
  return vmsaUpdates(inputs, (vcpu) => (vcpu === 0 ? bsp : ap))
}

function planSvsmVmsas(svsm: Firmware, inputs: SnpPlanInputs): Updates | Refused {
  if (svsm.svsmLaunchOffset === null)
    return refused('svsm-no-info', 'The SVSM image has no SVSM info entry, so no launch offset.', '/svsm')
  const { cpuSignature, vmsaOverride: override } = inputs
  const page = svsmVmsaPage({ rip: svsm.gpa + svsm.svsmLaunchOffset, cpuSignature, override })
  return vmsaUpdates(inputs, () => page)
}

const vmsaUpdates = (inputs: SnpPlanInputs, pageOf: (vcpu: number) => Buffer): Updates => ({
  ok: true,
  updates: Array.from({ length: inputs.vcpus }, (_, vcpu) => ({
    pageType: 'VMSA',
    gpa: inputs.vmsaGpa ?? VMSA_GPA,
    pages: 1,
    contents: pageOf(vcpu),
    source: 'vmsa',
    vcpu,
  })),
})

/** Start addresses of ranges that begin inside an earlier one; VMSAs share one nominal address and don't count. */
function findOverlaps(updates: readonly LaunchUpdate[]): number[] {
  const ranges = updates.filter(({ source }) => source !== 'vmsa').toSorted((a, b) => a.gpa - b.gpa)
  const overlaps: number[] = []
  let end = 0
  for (const { gpa, pages } of ranges) {
    if (gpa < end) overlaps.push(gpa)
    end = Math.max(end, gpa + pages * PAGE)
  }
  return overlaps
}
