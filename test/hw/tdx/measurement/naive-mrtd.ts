import { createHash } from 'node:crypto'

/** The blocks of intel-tdx.md e.1 written out as it says them, with nothing of src/ in it. */
export function addBlock(gpa: bigint): Buffer {
  const block = Buffer.alloc(128)
  block.write('MEM.PAGE.ADD')
  block.writeBigUInt64LE(gpa, 16)
  return block
}

export function extendBlocks(gpa: bigint, chunk: Uint8Array): Buffer {
  const block = Buffer.alloc(128)
  block.write('MR.EXTEND')
  block.writeBigUInt64LE(gpa, 16)
  return Buffer.concat([block, chunk])
}

/** All 16 chunks of a page, zero padded. */
export function extendPageBlocks(gpa: bigint, bytes: Uint8Array): Buffer {
  const page = Buffer.alloc(4096)
  page.set(bytes.subarray(0, 4096))
  return Buffer.concat(
    Array.from({ length: 16 }, (_, n) => extendBlocks(gpa + BigInt(256 * n), page.subarray(256 * n, 256 * (n + 1)))),
  )
}

export const sha384 = (blocks: readonly Uint8Array[]): string =>
  createHash('sha384').update(Buffer.concat(blocks)).digest('hex')

type Step = {
  readonly operation: string
  readonly gpa: string
  readonly pages: number
  readonly contents?: { readonly from: string; readonly offset: number; readonly length: number }
  readonly digestAfter: string
}

/** Re-hashes an image's transcript from the image and the steps alone; throws where a step's digest does not follow. */
export function rehash(steps: readonly Step[], files: { image: Uint8Array; tdHob?: Uint8Array }): string {
  const blocks: Uint8Array[] = []
  for (const [index, { operation, gpa, pages, contents, digestAfter }] of steps.entries()) {
    const source = contents?.from === 'tdHob' ? files.tdHob : files.image
    const bytes =
      contents === undefined ? undefined : source?.subarray(contents.offset, contents.offset + contents.length)
    for (let page = 0; page < pages; page++) {
      const at = BigInt(gpa) + BigInt(4096 * page)
      if (operation !== 'extend') blocks.push(addBlock(at))
      if (operation !== 'add') blocks.push(extendPageBlocks(at, bytes?.subarray(4096 * page) ?? new Uint8Array(0)))
    }
    if (sha384(blocks) !== digestAfter) throw new Error(`step ${index} does not follow`)
  }
  return sha384(blocks)
}
