import { imageWithTable, PAGE, tableEntry, u32 } from './firmware-bytes.ts'

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
const PAGES = 4

const GUID = {
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
  const metadata = metadataBlock()
  const metadataAt = PAGES * PAGE - PAGE + 0x100
  const image = imageWithTable(PAGES, [
    tableEntry(GUID.sevMetadata, u32(PAGES * PAGE - metadataAt)),
    tableEntry(GUID.kernelHashTable, u32(HASH_TABLE.gpa, HASH_TABLE.size)),
    tableEntry(GUID.resetBlock, u32(RESET_ADDRESS)),
  ])
  metadata.copy(image, metadataAt)
  return image
}

/** "ASEV", length, version 1, number of sections, then each section's address, size and type. */
function metadataBlock(): Buffer {
  const sections = SECTIONS.map(({ gpa, size, type }) => u32(gpa, size, type))
  const header = Buffer.concat([Buffer.from('ASEV'), u32(16 + 12 * sections.length, 1, sections.length)])
  return Buffer.concat([header, ...sections])
}

if (import.meta.main) process.stdout.write(firmwareImage())
