import { hash } from 'node:crypto'
import type { LaunchStep } from './replies.ts'

const PAGE = 4096n
const PAGE_TYPE: Readonly<Record<string, number>> = { NORMAL: 1, VMSA: 2, ZERO: 3, UNMEASURED: 4, SECRETS: 5, CPUID: 6 }
const NOTHING = Buffer.alloc(48)

/**
 * AMD's launch digest from a transcript alone: LD(0) is 48 zero bytes, LD(n+1) the SHA-384 of PAGE_INFO, which has LD(n),
 * the SHA-384 of the page, its type and its address in it. Throws at the first step whose digest does not follow.
 */
export function rehash(steps: readonly LaunchStep[]): string {
  let digest = NOTHING
  for (const [index, { pageType, gpa, pages, contents, digestAfter }] of steps.entries()) {
    const runs = contents ?? [{ pages, sha384: NOTHING.toString('hex') }]
    let address = BigInt(gpa)
    for (const run of runs) {
      for (let page = 0; page < run.pages; page++) {
        digest = hash('sha384', pageInfo(digest, run.sha384, PAGE_TYPE[pageType] ?? 0, address), 'buffer')
        address += PAGE
      }
    }
    const shown = digest.toString('hex')
    if (shown !== digestAfter)
      throw new Error(`step ${index} (${pageType} at ${gpa}) comes to ${shown}, not ${digestAfter}`)
  }
  return digest.toString('hex')
}

/** The 112 bytes that are hashed for one page. VMPL permissions are zero under KVM. */
function pageInfo(digest: Buffer, sha384: string, type: number, gpa: bigint): Buffer {
  const info = Buffer.alloc(0x70)
  digest.copy(info, 0)
  Buffer.from(sha384, 'hex').copy(info, 0x30)
  info.writeUInt16LE(info.length, 0x60)
  info.writeUInt8(type, 0x62)
  info.writeBigUInt64LE(gpa, 0x68)
  return info
}

/** SHA-384 of each page of a file, as the transcript of its measurement has them. */
export function pageHashes(image: Uint8Array): string[] {
  const hashes: string[] = []
  for (let at = 0; at < image.length; at += 4096) hashes.push(hash('sha384', image.subarray(at, at + 4096), 'hex'))
  return hashes
}

export const hashesOf = ({ contents = [] }: LaunchStep): string[] =>
  contents.flatMap(({ pages, sha384 }) => new Array<string>(pages).fill(sha384))
