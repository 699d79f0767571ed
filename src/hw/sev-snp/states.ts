/**
 * An RMP entry's attributes packed into 32 bits (amd-sev-snp.md b.1): assigned, validated, immutable, page size, VMSA,
 * a 12-bit ASID, then five permission bits each for VMPL1, VMPL2 and VMPL3. VMPL0 always has all. A 2M page is stored
 * as 512 equal entries, so that neighbours agree and collapse; {@link rawEntry} in rmp.ts gives what software reads.
 */
export const ASSIGNED = 1
export const VALIDATED = 2
export const IMMUTABLE = 4
export const LARGE = 8
export const VMSA = 16
const ASID_SHIFT = 5
export const MAX_ENTRY_ASID = 0xfff
const PERMISSIONS_SHIFT = 17
export const ALL_PERMISSIONS = 0x1f

/** Permission bits of a VMPL (amd-sev-snp.md b.1). */
export const PERMISSION = { read: 1, write: 2, executeUser: 4, executeSupervisor: 8, shadowStack: 16 } as const

export const asidOf = (entry: number): number => (entry >>> ASID_SHIFT) & MAX_ENTRY_ASID
export const withAsid = (entry: number, asid: number): number =>
  ((entry & ~(MAX_ENTRY_ASID << ASID_SHIFT)) | (asid << ASID_SHIFT)) >>> 0

/** What a VMPL may do; VMPL0 everything. */
export const permissionsOf = (entry: number, vmpl: number): number =>
  vmpl === 0 ? ALL_PERMISSIONS : (entry >>> (PERMISSIONS_SHIFT + 5 * (vmpl - 1))) & ALL_PERMISSIONS

export function withPermissions(entry: number, vmpl: number, permissions: number): number {
  const shift = PERMISSIONS_SHIFT + 5 * (vmpl - 1)
  return ((entry & ~(ALL_PERMISSIONS << shift)) | (permissions << shift)) >>> 0
}

/** Attributes that PSMASH, UNSMASH and moves keep together: everything above the ASID. */
export const allPermissions = (entry: number): number => entry >>> PERMISSIONS_SHIFT

/** Values of the GPA field of entries without ASID: the firmware's own marks (amd-sev-snp.md b.2). */
export const IOMMU_MARK = 1
export const METADATA_MARK = 0x80000000

export const HYPERVISOR = 0
export const HV_FIXED = IMMUTABLE
export const FIRMWARE = ASSIGNED | IMMUTABLE
export const RECLAIM = ASSIGNED
export const CONTEXT = ASSIGNED | IMMUTABLE | VMSA
/** Guest states without their ASID. */
export const GUEST_INVALID = ASSIGNED
export const GUEST_VALID = ASSIGNED | VALIDATED
export const PRE_GUEST = ASSIGNED | IMMUTABLE
export const PRE_SWAP = ASSIGNED | VALIDATED | IMMUTABLE

export const PAGE_STATES = [
  'Default',
  'Hypervisor',
  'HV-Fixed',
  'Firmware',
  'Firmware-IOMMU',
  'Reclaim',
  'Context',
  'Metadata',
  'Pre-Guest',
  'Pre-Swap',
  'Guest-Invalid',
  'Guest-Valid',
  'Invalid',
] as const
export type PageState = (typeof PAGE_STATES)[number]

/** The table of amd-sev-snp.md b.2. `asid` is whether it must be above 0; `mark` what the GPA field must hold. */
export const STATE_FIELDS: Readonly<Record<Exclude<PageState, 'Default' | 'Invalid'>, StateFields>> = {
  Hypervisor: { assigned: 0, validated: 0, asid: false, immutable: 0 },
  'HV-Fixed': { assigned: 0, validated: 0, asid: false, immutable: 1 },
  Firmware: { assigned: 1, validated: 0, asid: false, immutable: 1, mark: 'none', vmsa: 0 },
  'Firmware-IOMMU': { assigned: 1, validated: 0, asid: false, immutable: 1, mark: 'iommu', vmsa: 0 },
  Reclaim: { assigned: 1, validated: 0, asid: false, immutable: 0 },
  Context: { assigned: 1, validated: 0, asid: false, immutable: 1, mark: 'none', vmsa: 1 },
  Metadata: { assigned: 1, validated: 0, asid: false, immutable: 1, mark: 'metadata' },
  'Pre-Guest': { assigned: 1, validated: 0, asid: true, immutable: 1 },
  'Pre-Swap': { assigned: 1, validated: 1, asid: true, immutable: 1 },
  'Guest-Invalid': { assigned: 1, validated: 0, asid: true, immutable: 0 },
  'Guest-Valid': { assigned: 1, validated: 1, asid: true, immutable: 0 },
}
export type StateFields = {
  readonly assigned: 0 | 1
  readonly validated: 0 | 1
  readonly asid: boolean
  readonly immutable: 0 | 1
  readonly mark?: 'none' | 'iommu' | 'metadata'
  readonly vmsa?: 0 | 1
}

/** The state of an entry by its fields; `mark` is the GPA field, looked at only where there is no ASID. */
export function stateOf(entry: number, mark: number): PageState {
  switch (entry & (ASSIGNED | VALIDATED | IMMUTABLE)) {
    case 0:
      return asidOf(entry) === 0 ? 'Hypervisor' : 'Invalid'
    case IMMUTABLE:
      return asidOf(entry) === 0 ? 'HV-Fixed' : 'Invalid'
    case ASSIGNED:
      return asidOf(entry) === 0 ? 'Reclaim' : 'Guest-Invalid'
    case ASSIGNED | IMMUTABLE:
      return asidOf(entry) === 0 ? firmwareState(entry, mark) : 'Pre-Guest'
    case ASSIGNED | VALIDATED:
      return asidOf(entry) === 0 ? 'Invalid' : 'Guest-Valid'
    case ASSIGNED | VALIDATED | IMMUTABLE:
      return asidOf(entry) === 0 ? 'Invalid' : 'Pre-Swap'
    default:
      return 'Invalid'
  }
}

function firmwareState(entry: number, mark: number): PageState {
  if (mark >= METADATA_MARK) return 'Metadata'
  if (entry & VMSA) return mark === 0 ? 'Context' : 'Invalid'
  if (mark === 0) return 'Firmware'
  return mark === IOMMU_MARK ? 'Firmware-IOMMU' : 'Invalid'
}
