/**
 * The smallest firmware image that can launch under SEV-SNP: no code worth the name, but everything that a VMM reads in
 * a real OVMF build. It ends at 4 GiB, and its last page holds, from the top down:
 *
 *   size - 16    the reset vector
 *   size - 50    the footer of a table of GUIDed entries, which grows downwards; each entry is data, u16 length, GUID
 *                - the SEV-ES reset block: where application processors start
 *                - the kernel hash table: where the firmware looks for hashes of kernel, initrd and command line
 *                - the offset of the SEV metadata, counted from the end of the image
 *   page + 0x100 the SEV metadata: memory that must be prepared before the guest runs, section by section
 */
const PAGE = 4096
const PAGES = 4
const HLT = 0xf4

const GUID = {
  footer: '96b582de-1fb2-45f7-baea-a366c55a082d',
  resetBlock: '00f771de-1a7e-4fcb-890e-68c77e2fb44e',
  kernelHashTable: '7255371f-3a3b-4b04-927b-1da6efa8d454',
  sevMetadata: 'dc886566-984a-4798-a75e-5585a7bf67cc',
} as const

const RESET_ADDRESS = 0x80b004
const HASH_TABLE = { gpa: 0x810c00, size: 0x400 } as const

const SECTION = { memory: 1, secrets: 2, cpuid: 3, svsmCallingArea: 4, kernelHashes: 0x10 } as const
const SECTIONS = [
  { gpa: 0x800000, size: 0x9000, type: SECTION.memory },
  { gpa: 0x80a000, size: 0x3000, type: SECTION.memory },
  { gpa: 0x80d000, size: 0x1000, type: SECTION.secrets },
  { gpa: 0x80e000, size: 0x1000, type: SECTION.cpuid },
  { gpa: 0x80f000, size: 0x1000, type: SECTION.svsmCallingArea },
  { gpa: 0x810000, size: 0x1000, type: SECTION.kernelHashes },
  { gpa: 0x811000, size: 0xf000, type: SECTION.memory },
] as const

export function firmwareImage(): Buffer {
  const image = Buffer.alloc(PAGES * PAGE)
  image.fill(HLT, 0, image.length - PAGE)

  const metadata = metadataBlock()
  const metadataAt = image.length - PAGE + 0x100
  metadata.copy(image, metadataAt)

  const entries = [
    tableEntry(GUID.sevMetadata, u32(image.length - metadataAt)),
    tableEntry(GUID.kernelHashTable, u32(HASH_TABLE.gpa, HASH_TABLE.size)),
    tableEntry(GUID.resetBlock, u32(RESET_ADDRESS)),
  ]
  const table = Buffer.concat(entries)
  const footer = Buffer.concat([u16(table.length + 18), guidBytes(GUID.footer)])
  Buffer.concat([table, footer]).copy(image, image.length - 32 - footer.length - table.length)

  image.fill(HLT, image.length - 16)
  return image
}

/** "ASEV", length, version 1, number of sections, then each section's address, size and type. */
function metadataBlock(): Buffer {
  const sections = SECTIONS.map(({ gpa, size, type }) => u32(gpa, size, type))
  const header = Buffer.concat([Buffer.from('ASEV'), u32(16 + 12 * sections.length, 1, sections.length)])
  return Buffer.concat([header, ...sections])
}

const tableEntry = (guid: string, data: Buffer): Buffer => Buffer.concat([data, u16(data.length + 18), guidBytes(guid)])

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return bytes
}

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, 4 * index)
  return bytes
}

/** The EFI form of a GUID: its first three groups are little-endian numbers. */
function guidBytes(text: string): Buffer {
  const [a = '', b = '', c = '', ...rest] = text.split('-')
  const numbers = [a, b, c].map((group) => Buffer.from(group, 'hex').reverse())
  return Buffer.concat([...numbers, Buffer.from(rest.join(''), 'hex')])
}

if (import.meta.main) process.stdout.write(firmwareImage())
