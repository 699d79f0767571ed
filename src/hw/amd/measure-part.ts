import { hash } from 'node:crypto'
import { type HexOrInteger, hexOf, parseBytes, toHex } from '../shared/hex.ts'
import { cpuSignature } from './cpu.ts'
import { type Refused, refused } from './fault.ts'
import { idBlock, publicKeyDigest, publicKeyStruct } from './id-block.ts'
import { kernelHashTable } from './kernel-hashes.ts'
import { DIGEST_BYTES, isMeasured, LaunchDigest, PAGE, type PageType } from './launch-digest.ts'
import {
  type CpuInputs,
  cpuSignatureOf,
  type LaunchInputs,
  registers,
  sessionMeasurement,
  u64,
} from './measure-inputs.ts'
import { BSP_EIP, nonZeroWords, type Vmm, vmsaPage } from './vmsa.ts'

export type PageRun = {
  readonly pageType: PageType
  readonly gpa: HexOrInteger
  readonly count: number
  readonly fillByte?: HexOrInteger | undefined
  readonly contents?: Uint8Array | undefined
}
export type PagesInputs = {
  readonly mode: 'pages'
  readonly startDigest?: string | undefined
  readonly pages: readonly PageRun[]
}
export type VmsaInputs = CpuInputs & {
  readonly mode: 'vmsa-page'
  readonly vmm: Vmm
  readonly role: 'BSP' | 'AP'
  readonly resetEip?: HexOrInteger | undefined
  readonly sevFeatures?: HexOrInteger | undefined
  readonly vmsaOverride?: LaunchInputs['vmsaOverride']
}
export type KernelTableInputs = {
  readonly mode: 'kernel-hash-table'
  readonly kernel: Uint8Array
  readonly initrd?: Uint8Array | null | undefined
  readonly cmdline?: string | null | undefined
}
export type CpuSignatureInputs = {
  readonly mode: 'cpu-signature'
  readonly family: number
  readonly model: number
  readonly stepping: number
}
export type LaunchMeasureInputs = Pick<
  LaunchInputs,
  'tik' | 'mnonce' | 'apiMajor' | 'apiMinor' | 'buildId' | 'policy'
> & { readonly mode: 'launch-measure'; readonly launchDigest: string }
export type KeyInputs = { readonly qx: string; readonly qy: string }
export type IdBlockInputs = {
  readonly mode: 'id-block'
  readonly launchDigest: string
  readonly familyId: string
  readonly imageId: string
  readonly version?: number | undefined
  readonly guestSvn: number
  readonly policy: HexOrInteger
  readonly idKey: KeyInputs
  readonly authorKey?: KeyInputs | undefined
}

/** Pieces of a launch measurement that can be asked for alone. */
export type PartInputs =
  | PagesInputs
  | VmsaInputs
  | KernelTableInputs
  | CpuSignatureInputs
  | LaunchMeasureInputs
  | IdBlockInputs
export type PartMeasurement = { readonly ok: true } & Readonly<Record<string, unknown>>

/** Pages in one `pages` request; each costs one SHA-384 of 112 bytes. */
export const MAX_PAGES = 65536

export function measurePart(inputs: PartInputs): PartMeasurement | Refused {
  switch (inputs.mode) {
    case 'pages':
      return measurePages(inputs)
    case 'vmsa-page':
      return measureVmsa(inputs)
    case 'kernel-hash-table': {
      const { kernel, initrd = null, cmdline = null } = inputs
      const table = kernelHashTable({ kernel, initrd, cmdline })
      return { ok: true, tableHex: hexOf(table), length: table.length }
    }
    case 'cpu-signature':
      return { ok: true, signature: toHex(cpuSignature(inputs.family, inputs.model, inputs.stepping)) }
    case 'launch-measure':
      return sessionMeasurement(inputs, inputs.launchDigest)
    case 'id-block':
      return measureIdBlock(inputs)
  }
}

/**
 * Chains pages by hand from any digest. Contents are hashed exactly as given, a VMSA's TSC fields included, since
 * what to zero is the caller's business here.
 */
function measurePages(inputs: PagesInputs): PartMeasurement | Refused {
  const start = inputs.startDigest === undefined ? Buffer.alloc(DIGEST_BYTES) : parseBytes(inputs.startDigest, 48)
  if (start === undefined) return refused('start-digest', 'The digest is not 48 bytes of hex.', '/startDigest')
  if (inputs.pages.reduce((sum, { count }) => sum + count, 0) > MAX_PAGES)
    return refused('pages-too-many', `At most ${MAX_PAGES} pages are measured at once.`, '/pages')
  const digest = new LaunchDigest(start)
  const steps: Record<string, unknown>[] = []
  for (const [index, run] of inputs.pages.entries()) {
    const at = `/pages/${index}`
    const gpa = u64(run.gpa, `${at}/gpa`)
    if (!gpa.ok) return gpa
    if (gpa.value % BigInt(PAGE) !== 0n || gpa.value + BigInt(run.count * PAGE) > 1n << 52n)
      return refused('gpa', 'The pages do not lie on page boundaries below 2^52.', `${at}/gpa`)
    const pageAt = contentsOf(run, at)
    if (!pageAt.ok) return pageAt
    let last: Uint8Array = new Uint8Array(0)
    const contents: { pages: number; sha384: string }[] = []
    for (let page = 0; page < run.count; page++) {
      const sha384 = pageAt.sha384(page)
      last = digest.step(run.pageType, Number(gpa.value) + page * PAGE, sha384)
      const text = hexOf(sha384)
      const before = contents.at(-1)
      if (before?.sha384 === text) before.pages++
      else contents.push({ pages: 1, sha384: text })
    }
    steps.push({
      pageType: run.pageType,
      gpa: toHex(gpa.value),
      pages: run.count,
      digestAfter: hexOf(digest.value),
      lastPageInfoHex: hexOf(last),
      ...(isMeasured(run.pageType) && { contents }),
    })
  }
  const value = hexOf(digest.value)
  return { ok: true, digest: value, launchDigest: value, startDigest: hexOf(start), steps }
}

type Contents = { readonly ok: true; readonly sha384: (page: number) => Uint8Array }

function contentsOf(run: PageRun, at: string): Contents | Refused {
  const { contents, fillByte } = run
  if (!isMeasured(run.pageType)) {
    if (contents !== undefined || fillByte !== undefined)
      return refused('page-contents', `The contents of ${run.pageType} pages are not measured.`, at)
    const none = Buffer.alloc(DIGEST_BYTES)
    return { ok: true, sha384: () => none }
  }
  if (contents !== undefined) {
    if (contents.length !== run.count * PAGE || fillByte !== undefined)
      return refused('page-contents', `Give ${run.count * PAGE} bytes, or one fillByte.`, `${at}/contents`)
    return {
      ok: true,
      sha384: (page) => hash('sha384', contents.subarray(page * PAGE, (page + 1) * PAGE), 'buffer'),
    }
  }
  const fill = u64(fillByte ?? 0, `${at}/fillByte`)
  if (!fill.ok) return fill
  if (fill.value > 0xffn) return refused('number', 'A byte has 8 bits.', `${at}/fillByte`)
  const digest = hash('sha384', Buffer.alloc(PAGE, Number(fill.value)), 'buffer')
  return { ok: true, sha384: () => digest }
}

function measureVmsa(inputs: VmsaInputs): PartMeasurement | Refused {
  const signature = cpuSignatureOf(inputs)
  if (!signature.ok) return signature
  const eip = u64(inputs.resetEip ?? BSP_EIP, '/resetEip')
  if (!eip.ok) return eip
  if (eip.value > 0xffffffffn) return refused('number', 'A reset address has 32 bits.', '/resetEip')
  const features = u64(inputs.sevFeatures ?? 1, '/sevFeatures')
  if (!features.ok) return features
  const override = registers(inputs.vmsaOverride)
  if (!override.ok) return override
  const page = vmsaPage({
    vmm: inputs.vmm,
    role: inputs.role,
    eip: Number(eip.value),
    cpuSignature: signature.value,
    sevFeatures: features.value,
    override: override.registers,
  })
  return { ok: true, sha384: hash('sha384', page), sha256: hash('sha256', page), nonZero: nonZeroWords(page) }
}

function measureIdBlock(inputs: IdBlockInputs): PartMeasurement | Refused {
  const fields: Record<string, Buffer> = {}
  const wanted: [string, string | undefined, number, string][] = [
    ['launchDigest', inputs.launchDigest, 48, '/launchDigest'],
    ['familyId', inputs.familyId, 16, '/familyId'],
    ['imageId', inputs.imageId, 16, '/imageId'],
    ['idX', inputs.idKey.qx, 48, '/idKey/qx'],
    ['idY', inputs.idKey.qy, 48, '/idKey/qy'],
    ['authorX', inputs.authorKey?.qx, 48, '/authorKey/qx'],
    ['authorY', inputs.authorKey?.qy, 48, '/authorKey/qy'],
  ]
  for (const [name, text, length, pointer] of wanted) {
    if (text === undefined) continue
    const bytes = parseBytes(text, length)
    if (bytes === undefined) return refused('bytes', `Not ${length} bytes of hex.`, pointer)
    fields[name] = bytes
  }
  const { launchDigest, familyId, imageId, idX, idY, authorX, authorY } = fields
  const policy = u64(inputs.policy, '/policy')
  if (!policy.ok) return policy
  if (!launchDigest || !familyId || !imageId || !idX || !idY)
    return refused('bytes', 'A field of the ID block is missing.', '')
  const block = idBlock({
    launchDigest,
    familyId,
    imageId,
    version: inputs.version ?? 1,
    guestSvn: inputs.guestSvn,
    policy: policy.value,
  })
  const idKey = publicKeyStruct({ qx: idX, qy: idY })
  return {
    ok: true,
    idBlockBase64: block.toString('base64'),
    idBlockLength: block.length,
    idKeyDigest: hexOf(publicKeyDigest(idKey)),
    idKeyStructSha256: hash('sha256', idKey),
    ...(authorX &&
      authorY && { authorKeyDigest: hexOf(publicKeyDigest(publicKeyStruct({ qx: authorX, qy: authorY }))) }),
  }
}
