import { hash } from 'node:crypto'
import { guidBytes } from '../shared/hex.ts'

/** Direct boot files to be measured. A missing initrd counts as an empty one, a missing command line as one NUL. */
export type KernelFiles = {
  readonly kernel: Uint8Array
  readonly initrd: Uint8Array | null
  readonly cmdline: string | null
}

export const KERNEL_HASH_TABLE_BYTES = 176
const PAGE = 4096
const TABLE_GUID = '9438d606-4f22-4cc9-b479-a793d411fd21'
const TABLE_LENGTH = 168
const ENTRY_LENGTH = 50
const CMDLINE_GUID = '97d02dd8-bd20-4c94-aa78-e7714d36ab2a'
const INITRD_GUID = '44baf731-3a2f-4bd7-9af1-41e29169781d'
const KERNEL_GUID = '4de79437-abd2-427f-b835-d5b172d2045b'

/** QEMU's padded table of three SHA-256 digests (amd-sev-snp.md d.6), as SEV and SEV-ES measure it. */
export function kernelHashTable(files: KernelFiles): Buffer {
  const table = Buffer.alloc(KERNEL_HASH_TABLE_BYTES)
  guidBytes(TABLE_GUID).copy(table, 0)
  table.writeUInt16LE(TABLE_LENGTH, 16)
  const entries: readonly (readonly [string, Uint8Array])[] = [
    [CMDLINE_GUID, Buffer.from(`${files.cmdline ?? ''}\0`, 'utf8')],
    [INITRD_GUID, files.initrd ?? new Uint8Array(0)],
    [KERNEL_GUID, files.kernel],
  ]
  let at = 18
  for (const [guid, bytes] of entries) {
    guidBytes(guid).copy(table, at)
    table.writeUInt16LE(ENTRY_LENGTH, at + 16)
    hash('sha256', bytes, 'buffer').copy(table, at + 18)
    at += ENTRY_LENGTH
  }
  return table
}

/**
 * The page SEV-SNP launches: zeros with the table at the offset its GPA has in a page (amd-sev-snp.md d.6).
 * Undefined when the table would cross the page's end.
 */
export function kernelHashPage(table: Buffer, tableGpa: number): Buffer | undefined {
  const offset = tableGpa % PAGE
  if (offset + table.length > PAGE) return undefined
  const page = Buffer.alloc(PAGE)
  table.copy(page, offset)
  return page
}
