import { createHash, type Hash } from 'node:crypto'
import { hexOf } from '../../shared/hex.ts'
import { CHUNK_BYTES, PAGE_BYTES, writeExtend, writePageAdd } from './blocks.ts'
import type { Operation } from './launch-plan.ts'
import { BLOCK_BYTES } from './sha384.ts'

/** The same digest as mrtd.ts over the platform's own SHA-384, many times as fast, but with a state that cannot be kept. */
export type MrtdStream = { readonly hash: Hash }

const EXTEND_BYTES = BLOCK_BYTES + CHUNK_BYTES
const scratch = Buffer.alloc(BLOCK_BYTES + (PAGE_BYTES / CHUNK_BYTES) * EXTEND_BYTES)
const page = Buffer.alloc(PAGE_BYTES)

export const createStream = (): MrtdStream => ({ hash: createHash('sha384') })

/** The digest if finalised now, in hex; the stream goes on. */
export const runningDigest = ({ hash }: MrtdStream): string => hash.copy().digest('hex')

/** The calls of one step over `pages` pages from `gfn`, whose bytes are padded with zeros (intel-tdx.md f.2). */
export function streamPages(
  stream: MrtdStream,
  operation: Operation,
  gfn: number,
  pages: number,
  bytes: Uint8Array = new Uint8Array(0),
): void {
  for (let index = 0; index < pages; index++) {
    let end = 0
    if (operation !== 'extend') {
      writePageAdd(scratch, 0, gfn + index)
      end = BLOCK_BYTES
    }
    if (operation !== 'add') {
      page.fill(0).set(bytes.subarray(index * PAGE_BYTES, (index + 1) * PAGE_BYTES))
      for (let offset = 0; offset < PAGE_BYTES; offset += CHUNK_BYTES) end = writeChunk(end, gfn + index, offset, page)
    }
    stream.hash.update(scratch.subarray(0, end))
  }
}

/** One TDH.MR.EXTEND of the chunk at `offset` of a page's bytes. */
export function streamChunk(stream: MrtdStream, gfn: number, offset: number, contents: Uint8Array): void {
  stream.hash.update(scratch.subarray(0, writeChunk(0, gfn, offset, contents)))
}

function writeChunk(at: number, gfn: number, offset: number, contents: Uint8Array): number {
  writeExtend(scratch, at, gfn, offset)
  scratch.set(contents.subarray(offset, offset + CHUNK_BYTES), at + BLOCK_BYTES)
  return at + EXTEND_BYTES
}

/** One call's own 128-byte block, in hex. */
export function blockHex(call: 'MEM.PAGE.ADD' | 'MR.EXTEND', gfn: number, offset: number): string {
  if (call === 'MEM.PAGE.ADD') writePageAdd(scratch, 0, gfn)
  else writeExtend(scratch, 0, gfn, offset)
  return hexOf(scratch.subarray(0, BLOCK_BYTES))
}
