import { createHash, type Hash } from 'node:crypto'
import type { TdStep } from './replies.ts'

const PAGE = 4096
const CHUNK = 256
const BLOCK = 128

/**
 * MRTD from a transcript and the image alone: one SHA-384 over a block of 128 bytes for each TDH.MEM.PAGE.ADD, with the
 * page's address in it, and three for each TDH.MR.EXTEND, of which two are the 256 bytes measured. Throws at the first
 * step whose digest does not follow.
 */
export function rehash(steps: readonly TdStep[], image: Uint8Array): string {
  const stream = createHash('sha384')
  for (const [index, step] of steps.entries()) {
    const content = contentsOf(step, image)
    for (let page = 0; page < step.pages; page++) {
      const gpa = BigInt(step.gpa) + BigInt(page * PAGE)
      if (step.operation !== 'extend') stream.update(block('MEM.PAGE.ADD', gpa))
      if (step.operation !== 'add') extend(stream, gpa, content.subarray(page * PAGE, (page + 1) * PAGE))
    }
    const shown = stream.copy().digest('hex')
    if (shown !== step.digestAfter)
      throw new Error(`step ${index} (${step.type} at ${step.gpa}) comes to ${shown}, not ${step.digestAfter}`)
  }
  return stream.digest('hex')
}

function extend(stream: Hash, gpa: bigint, page: Buffer): void {
  for (let at = 0; at < PAGE; at += CHUNK)
    stream.update(block('MR.EXTEND', gpa + BigInt(at))).update(page.subarray(at, at + CHUNK))
}

/** The call's name, zeros up to byte 16, the address, zeros. */
function block(name: string, gpa: bigint): Buffer {
  const bytes = Buffer.alloc(BLOCK)
  bytes.write(name, 'latin1')
  bytes.writeBigUInt64LE(gpa, 16)
  return bytes
}

/** What the step's pages hold: bytes of the image, then zeros. */
function contentsOf({ pages, contents }: TdStep, image: Uint8Array): Buffer {
  const bytes = Buffer.alloc(pages * PAGE)
  if (contents?.from === 'image') bytes.set(image.subarray(contents.offset, contents.offset + contents.length))
  return bytes
}
