import { createHash, createHmac, hash } from 'node:crypto'
import { view } from '../shared/hex.ts'

/** Page types of SNP_LAUNCH_UPDATE (amd-sev-snp.md d.2). */
export const PAGE_TYPE = { NORMAL: 1, VMSA: 2, ZERO: 3, UNMEASURED: 4, SECRETS: 5, CPUID: 6 } as const
export type PageType = keyof typeof PAGE_TYPE

export const PAGE = 4096
export const DIGEST_BYTES = 48
const PAGE_INFO_BYTES = 0x70
const NO_CONTENTS = Buffer.alloc(DIGEST_BYTES)
const TSC_FIELDS = [0x2f0, 0x300] as const

/** What one 4 KiB step adds besides contents; hosts under KVM pass none of these. */
export type PageInfoExtras = {
  readonly imi?: boolean
  /** Permissions of VMPL1, VMPL2 and VMPL3, in the firmware's order (amd-sev-snp.md d.3). */
  readonly vmplPermissions?: readonly [number, number, number]
}

export const isMeasured = (pageType: PageType): boolean => pageType === 'NORMAL' || pageType === 'VMSA'

/** The CONTENTS field for a page the firmware is given: a VMSA's TSC scale and offset count as zero (amd-sev-snp.md d.2). */
export function contentsDigest(pageType: PageType, page: Uint8Array): Buffer {
  if (!isMeasured(pageType)) return NO_CONTENTS
  if (pageType !== 'VMSA') return hash('sha384', page, 'buffer')
  const measured = Buffer.from(page)
  measured.fill(0, ...TSC_FIELDS)
  return hash('sha384', measured, 'buffer')
}

/** PAGE_INFO, the 112 bytes hashed at each step (amd-sev-snp.md d.3). */
export function pageInfo(
  current: Uint8Array,
  pageType: PageType,
  gpa: number,
  contents: Uint8Array,
  extras: PageInfoExtras = {},
): Buffer {
  const info = Buffer.alloc(PAGE_INFO_BYTES)
  info.set(current, 0)
  info.set(contents, 0x30)
  info.writeUInt16LE(PAGE_INFO_BYTES, 0x60)
  info[0x62] = PAGE_TYPE[pageType]
  info[0x63] = extras.imi === true ? 1 : 0
  info.set(extras.vmplPermissions ?? [0, 0, 0], 0x65)
  writeGpa(info, gpa)
  return info
}

/** LD(n+1) from LD(n): one 4 KiB step. The pure form, for a guest context kept as plain data. */
export const extendLaunchDigest = (
  current: Uint8Array,
  pageType: PageType,
  gpa: number,
  contents: Uint8Array,
  extras: PageInfoExtras = {},
): Buffer => hash('sha384', pageInfo(current, pageType, gpa, contents, extras), 'buffer')

/** Contents digests of equal neighbouring pages, as a transcript keeps them. */
export type ContentsRun = { pages: number; sha384: Buffer }

/** A launch digest being built over many pages: one reused PAGE_INFO, equal neighbouring pages hashed once. */
export class LaunchDigest {
  readonly #info: Buffer

  constructor(start: Uint8Array = NO_CONTENTS) {
    this.#info = pageInfo(start, 'NORMAL', 0, NO_CONTENTS)
  }

  get value(): Buffer {
    return Buffer.from(this.#info.subarray(0, DIGEST_BYTES))
  }

  /** PAGE_INFO as it stands before a step, for explaining that step. */
  step(pageType: PageType, gpa: number, contents: Uint8Array): Buffer {
    const info = this.#prepare(pageType, gpa, contents)
    const copy = Buffer.from(info)
    this.#chain()
    return copy
  }

  /** `pages` pages from `gpa` whose contents hash to the same digest (all zero for types that aren't measured). */
  repeat(pageType: PageType, gpa: number, pages: number, contents: Uint8Array = NO_CONTENTS): void {
    this.#prepare(pageType, gpa, contents)
    for (let page = 0; page < pages; page++) {
      writeGpa(this.#info, gpa + page * PAGE)
      this.#chain()
    }
  }

  /** Pages with bytes of their own, from `gpa` upwards. Returns the contents digests in runs. */
  pages(pageType: PageType, gpa: number, bytes: Uint8Array): ContentsRun[] {
    const data = view(bytes)
    const runs: ContentsRun[] = []
    let run: ContentsRun | undefined
    for (let at = 0; at < data.length; at += PAGE) {
      const same = run !== undefined && data.compare(data, at - PAGE, at, at, at + PAGE) === 0
      if (run === undefined || !same) {
        run = { pages: 0, sha384: contentsDigest(pageType, data.subarray(at, at + PAGE)) }
        runs.push(run)
      }
      run.pages++
      this.#prepare(pageType, gpa + at, run.sha384)
      this.#chain()
    }
    return runs
  }

  #prepare(pageType: PageType, gpa: number, contents: Uint8Array): Buffer {
    this.#info.set(contents, 0x30)
    this.#info[0x62] = PAGE_TYPE[pageType]
    writeGpa(this.#info, gpa)
    return this.#info
  }

  #chain(): void {
    this.#info.set(hash('sha384', this.#info, 'buffer'), 0)
  }
}

function writeGpa(info: Buffer, gpa: number): void {
  info.writeUInt32LE(gpa % 0x100000000, 0x68)
  info.writeUInt32LE(Math.floor(gpa / 0x100000000), 0x6c)
}

/** LD of SEV and SEV-ES: SHA-256 of every measured byte in order; addresses are not measured (amd-sev-snp.md a.3). */
export function sevLaunchDigest(chunks: readonly Uint8Array[]): Buffer {
  const digest = createHash('sha256')
  for (const chunk of chunks) digest.update(chunk)
  return digest.digest()
}

export type LaunchMeasureInputs = {
  readonly tik: Uint8Array
  readonly mnonce: Uint8Array
  readonly apiMajor: number
  readonly apiMinor: number
  readonly buildId: number
  readonly policy: number
  readonly launchDigest: Uint8Array
}

/** The HMAC of LAUNCH_MEASURE (amd-sev-snp.md a.3). The command's output is this followed by the nonce. */
export function launchMeasure(inputs: LaunchMeasureInputs): Buffer {
  const head = Buffer.from([4, inputs.apiMajor, inputs.apiMinor, inputs.buildId, 0, 0, 0, 0])
  head.writeUInt32LE(inputs.policy, 4)
  return createHmac('sha256', inputs.tik).update(head).update(inputs.launchDigest).update(inputs.mnonce).digest()
}

/** POLICY_MAC of a session: HMAC-SHA256 of the policy under the TIK (amd-sev-snp.md a.3). */
export function policyMac(tik: Uint8Array, policy: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(policy)
  return createHmac('sha256', tik).update(bytes).digest()
}
