import { createHash, hash } from 'node:crypto'
import { hexOf, parseBytes, toHex } from '../shared/hex.ts'
import { type ContentsRun, DIGEST_BYTES, LaunchDigest, PAGE, type PageType, sevLaunchDigest } from './launch-digest.ts'
import type { LaunchUpdate, UpdateSource } from './launch-plan.ts'
import type { SevUpdate } from './sev-plan.ts'

/** A run of consecutive pages of one type. `contents`, in page order, is present where bytes are measured. */
export type SnpStep = {
  readonly pageType: PageType
  readonly gpa: string
  readonly pages: number
  readonly source: UpdateSource
  readonly digestAfter: string
  readonly contents?: readonly { readonly pages: number; readonly sha384: string }[]
}

export type SnpTranscript = { readonly startDigest: string; readonly launchDigest: string; readonly steps: SnpStep[] }

/** Measures updates in order, from LD(0) or from a digest known already (amd-sev-snp.md d.3). */
export function measureUpdates(
  updates: readonly LaunchUpdate[],
  start: Uint8Array = Buffer.alloc(DIGEST_BYTES),
): SnpTranscript {
  const digest = new LaunchDigest(start)
  const steps: SnpStep[] = []
  let next = -1
  for (const { pageType, gpa, pages, contents, source } of updates) {
    let runs: ContentsRun[] | undefined
    if (contents === null) digest.repeat(pageType, gpa, pages)
    else runs = digest.pages(pageType, gpa, contents)
    const digestAfter = hexOf(digest.value)
    const last = steps.at(-1)
    if (last !== undefined && last.pageType === pageType && next === gpa && runs === undefined)
      steps[steps.length - 1] = { ...last, pages: last.pages + pages, digestAfter }
    else
      steps.push({
        pageType,
        gpa: toHex(gpa),
        pages,
        source,
        digestAfter,
        ...(runs && { contents: runs.map((run) => ({ pages: run.pages, sha384: hexOf(run.sha384) })) }),
      })
    next = gpa + pages * PAGE
  }
  return { startDigest: hexOf(start), launchDigest: hexOf(digest.value), steps }
}

/**
 * Recomputes a launch digest from its transcript alone. Gives the digest, or the index of the first step whose own
 * `digestAfter` (or shape) does not follow from the steps before it.
 */
export function rehash(
  transcript: Pick<SnpTranscript, 'startDigest' | 'steps'>,
): { readonly ok: true; readonly digest: string } | { readonly ok: false; readonly step: number } {
  const start = parseBytes(transcript.startDigest, DIGEST_BYTES)
  if (start === undefined) return { ok: false, step: -1 }
  const digest = new LaunchDigest(start)
  for (const [index, step] of transcript.steps.entries()) {
    let gpa = Number(step.gpa)
    const runs = step.contents ?? [{ pages: step.pages, sha384: '00'.repeat(DIGEST_BYTES) }]
    if (runs.reduce((sum, run) => sum + run.pages, 0) !== step.pages) return { ok: false, step: index }
    for (const run of runs) {
      const contents = parseBytes(run.sha384, DIGEST_BYTES)
      if (contents === undefined) return { ok: false, step: index }
      digest.repeat(step.pageType, gpa, run.pages, contents)
      gpa += run.pages * PAGE
    }
    if (hexOf(digest.value) !== step.digestAfter) return { ok: false, step: index }
  }
  return { ok: true, digest: hexOf(digest.value) }
}

/** One measured command. What the caller did not send himself (table, VMSAs) is included, so that LD re-hashes. */
export type SevStep = {
  readonly command: SevUpdate['command']
  readonly source: SevUpdate['source']
  readonly gpa: string | null
  readonly length: number
  readonly sha256: string
  readonly digestAfter: string
  readonly contentsBase64?: string
}

export type SevTranscript = { readonly launchDigest: string; readonly steps: SevStep[] }

export function measureSevUpdates(updates: readonly SevUpdate[]): SevTranscript {
  const running = createHash('sha256')
  const steps = updates.map(({ command, source, gpa, bytes }): SevStep => {
    running.update(bytes)
    return {
      command,
      source,
      gpa: gpa === null ? null : toHex(gpa),
      length: bytes.length,
      sha256: hash('sha256', bytes),
      digestAfter: running.copy().digest('hex'),
      ...(source !== 'firmware' && { contentsBase64: Buffer.from(bytes).toString('base64') }),
    }
  })
  return { launchDigest: running.digest('hex'), steps }
}

/** Recomputes a SEV or SEV-ES launch digest from the image and the transcript's own bytes. */
export const rehashSev = (image: Uint8Array, steps: readonly SevStep[]): string =>
  hexOf(
    sevLaunchDigest(
      steps.map(({ contentsBase64 }) => (contentsBase64 === undefined ? image : Buffer.from(contentsBase64, 'base64'))),
    ),
  )
