/** A metadata entry (MDATA): 64 bytes the firmware writes for each page it swaps out. */
export const METADATA_ENTRY_BYTES = 64
export const TAG_BYTES = 16

export type SwapType = 'data' | 'metadata' | 'vmsa'

export type MetadataEntry = {
  readonly softwareData: bigint
  readonly iv: bigint
  readonly tag: Uint8Array
  readonly valid: boolean
  readonly validated: boolean
  /** Undefined where the type bits contradict each other. */
  readonly type: SwapType | undefined
  readonly large: boolean
  readonly gfn: number
  /** Permissions of VMPL0 to VMPL3. */
  readonly permissions: readonly [number, number, number, number]
}

const AT = { softwareData: 0, iv: 8, tag: 0x10, flags: 0x20, permissions: 0x28 } as const
const VALID = 1n
const VALIDATED = 2n
const VMSA = 4n
const METADATA = 8n
const LARGE = 16n
const GPA_SHIFT = 12n
const TYPE_BITS: Readonly<Record<SwapType, bigint>> = { data: 0n, metadata: METADATA, vmsa: VMSA }

export function writeMetadataEntry(page: Buffer, at: number, entry: MetadataEntry): void {
  page.fill(0, at, at + METADATA_ENTRY_BYTES)
  page.writeBigUInt64LE(entry.softwareData, at + AT.softwareData)
  page.writeBigUInt64LE(entry.iv, at + AT.iv)
  page.set(entry.tag, at + AT.tag)
  const flags =
    (entry.valid ? VALID : 0n) |
    (entry.validated ? VALIDATED : 0n) |
    TYPE_BITS[entry.type ?? 'data'] |
    (entry.large ? LARGE : 0n) |
    (BigInt(entry.gfn) << GPA_SHIFT)
  page.writeBigUInt64LE(BigInt.asUintN(64, flags), at + AT.flags)
  page.set(entry.permissions, at + AT.permissions)
}

export function readMetadataEntry(page: Buffer, at: number): MetadataEntry {
  const flags = page.readBigUInt64LE(at + AT.flags)
  const kind = flags & (METADATA | VMSA)
  const permission = (vmpl: number): number => page.readUInt8(at + AT.permissions + vmpl) & 0x1f
  return {
    softwareData: page.readBigUInt64LE(at + AT.softwareData),
    iv: page.readBigUInt64LE(at + AT.iv),
    tag: new Uint8Array(page.subarray(at + AT.tag, at + AT.tag + TAG_BYTES)),
    valid: (flags & VALID) !== 0n,
    validated: (flags & VALIDATED) !== 0n,
    type: kind === 0n ? 'data' : kind === METADATA ? 'metadata' : kind === VMSA ? 'vmsa' : undefined,
    large: (flags & LARGE) !== 0n,
    gfn: Number(flags >> GPA_SHIFT),
    permissions: [permission(0), permission(1), permission(2), permission(3)],
  }
}

/** VALID is cleared when a page is swapped in, so that no entry serves twice. */
export function clearValid(page: Buffer, at: number): void {
  page.writeUInt8(page.readUInt8(at + AT.flags) & 0xfe, at + AT.flags)
}
