import { BLOCK_BYTES } from './sha384.ts'

export const PAGE_BYTES = 4096
export const CHUNK_BYTES = 256

const GPA_AT = 16
const FRAMES_IN_4_GIB = 0x100000
const PAGE_ADD = block('MEM.PAGE.ADD')
const MR_EXTEND = block('MR.EXTEND')

/** The 128-byte block that TDH.MEM.PAGE.ADD of the page `gfn` contributes to MRTD (intel-tdx.md e.1). */
export function writePageAdd(into: Buffer, at: number, gfn: number): void {
  PAGE_ADD.copy(into, at)
  writeGpa(into, at + GPA_AT, gfn, 0)
}

/** The first block that TDH.MR.EXTEND of the chunk `offset` bytes into the page `gfn` contributes; its bytes follow (e.1). */
export function writeExtend(into: Buffer, at: number, gfn: number, offset: number): void {
  MR_EXTEND.copy(into, at)
  writeGpa(into, at + GPA_AT, gfn, offset)
}

function block(text: string): Buffer {
  const bytes = Buffer.alloc(BLOCK_BYTES)
  bytes.write(text, 'latin1')
  return bytes
}

/** Little-endian, in halves: a 52-bit address is no exact 32-bit integer, and no BigInt is made for each. */
function writeGpa(into: Buffer, at: number, gfn: number, offset: number): void {
  into.writeUInt32LE((gfn % FRAMES_IN_4_GIB) * PAGE_BYTES + offset, at)
  into.writeUInt32LE(Math.floor(gfn / FRAMES_IN_4_GIB), at + 4)
}
