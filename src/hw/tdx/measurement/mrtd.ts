import { CHUNK_BYTES, PAGE_BYTES, writeExtend, writePageAdd } from './blocks.ts'
import { BLOCK_BYTES, compress, finish, initialWords } from './sha384.ts'

/**
 * A running MRTD: SHA-384 over 128-byte blocks, which are its block size, so that its state between two calls is eight
 * 64-bit words and a count (intel-tdx.md e.1). Plain data, changed in place.
 */
export type Mrtd = {
  /** The hash state as signed 32-bit halves, high half first: 16 of them. */
  readonly words: Int32Array
  blocks: number
}

const scratch = Buffer.alloc(BLOCK_BYTES)
const ZERO_PAGE = new Uint8Array(PAGE_BYTES)

/** The digest that TDH.MNG.INIT starts. */
export const create = (): Mrtd => ({ words: initialWords(), blocks: 0 })

/** TDH.MEM.PAGE.ADD of the page `gfn`, below 2^40: one block, its content not in it. */
export function addPage(mrtd: Mrtd, gfn: number): void {
  writePageAdd(scratch, 0, gfn)
  take(mrtd, scratch, 0)
}

/** TDH.MR.EXTEND of the 256 bytes `offset` into the page `gfn`, whose bytes stand at `offset` of `page`: three blocks. */
export function extend(mrtd: Mrtd, gfn: number, offset: number, page: Uint8Array): void {
  writeExtend(scratch, 0, gfn, offset)
  take(mrtd, scratch, 0)
  take(mrtd, page, offset)
  take(mrtd, page, offset + BLOCK_BYTES)
}

/** The 16 TDH.MR.EXTEND of a whole page, in order; undefined is a page of zeros. */
export function extendPage(mrtd: Mrtd, gfn: number, page: Uint8Array = ZERO_PAGE): void {
  for (let offset = 0; offset < PAGE_BYTES; offset += CHUNK_BYTES) extend(mrtd, gfn, offset, page)
}

/** The 48 bytes that TDH.MR.FINALIZE would set now; the state stays as it is. */
export const digest = (mrtd: Mrtd): Buffer => finish(mrtd.words, mrtd.blocks)

function take(mrtd: Mrtd, bytes: Uint8Array, at: number): void {
  compress(mrtd.words, bytes, at)
  mrtd.blocks++
}
