import { guidText, toHex, view } from '../shared/hex.ts'
import { type Refused, refused } from './fault.ts'
import { PAGE } from './launch-digest.ts'

/** Types of a SEV metadata section (amd-sev-snp.md d.5). */
export const SECTION = { SNP_SEC_MEM: 1, SECRETS: 2, CPUID: 3, SVSM_CAA: 4, KERNEL_HASHES: 0x10 } as const

export type Section = { readonly gpa: number; readonly size: number; readonly type: number }
export type GpaRange = { readonly gpa: number; readonly size: number }
export type TableEntry = { readonly guid: string; readonly offset: number; readonly length: number }

/** What a VMM reads from a firmware image. A null field's entry is missing from the image's table. */
export type Firmware = {
  readonly data: Uint8Array
  /** Where the image is mapped: it ends at the address given to the parser. */
  readonly gpa: number
  readonly entries: readonly TableEntry[]
  /** Address at which application processors start. */
  readonly resetEip: number | null
  readonly sections: readonly Section[] | null
  readonly kernelHashTable: GpaRange | null
  readonly launchSecret: GpaRange | null
  readonly tdxMetadataOffset: number | null
  readonly svsmLaunchOffset: number | null
}

export type ParsedFirmware = { readonly ok: true; readonly firmware: Firmware } | Refused

export const FOUR_GIB = 0x100000000
/** Real images have at most a dozen sections; the bound keeps a hostile one cheap. */
export const MAX_SECTIONS = 1024

export const GUID = {
  footer: '96b582de-1fb2-45f7-baea-a366c55a082d',
  resetBlock: '00f771de-1a7e-4fcb-890e-68c77e2fb44e',
  sevMetadata: 'dc886566-984a-4798-a75e-5585a7bf67cc',
  kernelHashTable: '7255371f-3a3b-4b04-927b-1da6efa8d454',
  launchSecret: '4c2eb361-7d9b-4cc3-8081-127c90d3d294',
  tdxMetadata: 'e47a6535-984a-4798-865e-4685a7bf8ec2',
  svsmInfo: 'a789a612-0597-4c4b-a49f-cbb1fe9d1ddd',
} as const

const RESET_VECTOR_BYTES = 32
const GUID_BYTES = 16
const ENTRY_HEADER = 18
const METADATA_HEADER = 16
const SECTION_BYTES = 12

/**
 * Reads an OVMF-style image's GUIDed table and SEV metadata (amd-sev-snp.md d.5). Any bytes are safe to give: a
 * malformed image is refused, an image without a table is a firmware with every field null.
 * `endGpa` is the address the image ends at, 4 GiB for all but an SVSM; `field` names the input in a refusal.
 */
export function parseFirmware(data: Uint8Array, endGpa = FOUR_GIB, field = '/image'): ParsedFirmware {
  if (data.length === 0) return refused('image-empty', 'The image has no bytes.', field)
  if (data.length % PAGE !== 0)
    return refused('image-unaligned', `The image is ${data.length} bytes, not whole 4 KiB pages.`, field)
  if (data.length > endGpa)
    return refused('image-too-large', `An image of ${data.length} bytes cannot end at ${toHex(endGpa)}.`, field)

  const bytes = view(data)
  const table = readTable(bytes, field)
  if (!table.ok) return table
  const find = (guid: string): TableEntry | undefined => table.entries.find((entry) => entry.guid === guid)
  for (const [guid, least] of LEAST_DATA) {
    const entry = find(guid)
    if (entry !== undefined && entry.length < least)
      return refused('image-table-entry', `Table entry ${guid} has ${entry.length} bytes of data, not ${least}.`, field)
  }
  const u32 = (guid: string): number | null => {
    const entry = find(guid)
    return entry === undefined ? null : bytes.readUInt32LE(entry.offset)
  }
  const range = (guid: string): GpaRange | null => {
    const entry = find(guid)
    return entry === undefined
      ? null
      : { gpa: bytes.readUInt32LE(entry.offset), size: bytes.readUInt32LE(entry.offset + 4) }
  }
  const metadata = readMetadata(bytes, u32(GUID.sevMetadata), field)
  if (!metadata.ok) return metadata
  return {
    ok: true,
    firmware: {
      data,
      gpa: endGpa - data.length,
      entries: table.entries,
      resetEip: u32(GUID.resetBlock),
      sections: metadata.sections,
      kernelHashTable: range(GUID.kernelHashTable),
      launchSecret: range(GUID.launchSecret),
      tdxMetadataOffset: u32(GUID.tdxMetadata),
      svsmLaunchOffset: u32(GUID.svsmInfo),
    },
  }
}

/** Bytes of data the entries that are read must have; unknown entries may have any number. */
const LEAST_DATA: readonly (readonly [string, number])[] = [
  [GUID.resetBlock, 4],
  [GUID.sevMetadata, 4],
  [GUID.kernelHashTable, 8],
  [GUID.launchSecret, 8],
  [GUID.tdxMetadata, 4],
  [GUID.svsmInfo, 4],
]

/** Walks the table downwards from its footer; each entry is data ‖ u16 length ‖ GUID. */
function readTable(bytes: Buffer, field: string): { ok: true; entries: TableEntry[] } | Refused {
  const entries: TableEntry[] = []
  const footerGuid = bytes.length - RESET_VECTOR_BYTES - GUID_BYTES
  if (guidText(bytes, footerGuid) !== GUID.footer) return { ok: true, entries }
  let end = footerGuid - 2
  const total = bytes.readUInt16LE(end)
  const start = end - (total - ENTRY_HEADER)
  if (total < ENTRY_HEADER || start < 0)
    return refused('image-table', `The image's table claims ${total} bytes.`, field)
  while (end - start >= ENTRY_HEADER) {
    const length = bytes.readUInt16LE(end - ENTRY_HEADER)
    const guid = guidText(bytes, end - GUID_BYTES)
    if (length < ENTRY_HEADER || length > end - start)
      return refused('image-table-entry', `Table entry ${guid} claims ${length} bytes.`, field)
    entries.push({ guid, offset: end - length, length: length - ENTRY_HEADER })
    end -= length
  }
  return { ok: true, entries }
}

/** Reads the "ASEV" block that stands `fromEnd` bytes before the image's end. */
function readMetadata(
  bytes: Buffer,
  fromEnd: number | null,
  field: string,
): { ok: true; sections: Section[] | null } | Refused {
  if (fromEnd === null) return { ok: true, sections: null }
  const malformed = (detail: string): Refused => refused('image-metadata', detail, field)
  if (fromEnd > bytes.length || fromEnd < METADATA_HEADER)
    return malformed(`The SEV metadata stands ${fromEnd} bytes before the image's end, which is outside it.`)
  const at = bytes.length - fromEnd
  if (bytes.toString('latin1', at, at + 4) !== 'ASEV') return malformed('The SEV metadata lacks its "ASEV" signature.')
  const length = bytes.readUInt32LE(at + 4)
  const version = bytes.readUInt32LE(at + 8)
  const count = bytes.readUInt32LE(at + 12)
  if (version !== 1) return malformed(`The SEV metadata has version ${version}; only 1 exists.`)
  if (count > MAX_SECTIONS)
    return malformed(`The SEV metadata claims ${count} sections; at most ${MAX_SECTIONS} are read.`)
  if (length > fromEnd || length < METADATA_HEADER + SECTION_BYTES * count)
    return malformed(`The SEV metadata's length ${length} does not hold its ${count} sections inside the image.`)
  const sections = Array.from({ length: count }, (_, index): Section => {
    const section = at + METADATA_HEADER + index * SECTION_BYTES
    return {
      gpa: bytes.readUInt32LE(section),
      size: bytes.readUInt32LE(section + 4),
      type: bytes.readUInt32LE(section + 8),
    }
  })
  return { ok: true, sections }
}
