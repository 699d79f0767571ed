import { hexOf, toHex } from '../../shared/hex.ts'
import { digestBytes, digestField, type HashAlgo, PAGE_BYTES } from './digest.ts'
import type { EntryRun } from './entries.ts'
import { extendRem, initialRem, REM_COUNT } from './rem.ts'
import {
  extendDataDigest,
  extendRec,
  extendRipas,
  initialRim,
  type MeasuredRealmParams,
  type MeasuredRecParams,
} from './rim.ts'

/** Consecutive pages with the same contents: the digest of one of them, as long as the hash. */
export type ContentsRun = { pages: number; readonly digest: string }

/**
 * One operation, or one run of table entries, with the RIM after it (arm-cca.md 8). The steps alone re-hash to the RIM: a
 * `data` step extends it page by page from `ipa` with the digests of `contents`, where they are measured; a `ripas` step
 * entry by entry from `base`. `from` points into the inputs.
 */
export type Step = { readonly from?: string; readonly rimAfter: string } & (
  | ({ readonly op: 'realm_create' } & RealmFields)
  | { readonly op: 'ripas'; base: string; top: string; entrySize: number; entries: number }
  | { readonly op: 'data'; ipa: string; pages: number; flags: 0 | 1; contents?: readonly ContentsRun[] }
  | { readonly op: 'rec'; flags: string; pc: string; gprs: readonly string[] }
  | { readonly op: 'rem_extend'; index: number; value: string; remAfter: string }
  | { readonly op: 'noop'; call: string }
)
export type RealmFields = {
  readonly flags: string
  readonly s2sz: number
  readonly sve_vl: number
  readonly num_bps: number
  readonly num_wps: number
  readonly pmu_num_ctrs: number
  readonly hash_algo: HashAlgo
}

/** A Realm as far as its measurements go. */
export type Transcript = {
  readonly algo: HashAlgo
  rim: Uint8Array
  readonly rems: Uint8Array[]
  readonly steps: Step[]
}

/** A digest without the padding of its field. */
export const shown = (algo: HashAlgo, field: Uint8Array): string => hexOf(field.subarray(0, digestBytes(algo)))

const rimNow = ({ algo, rim }: Transcript): string => shown(algo, rim)
const fromOf = (from: string | undefined): { from?: string } => (from === undefined ? {} : { from })

/** REALM_CREATE. */
export function beginTranscript(params: MeasuredRealmParams, from?: string): Transcript {
  const transcript: Transcript = {
    algo: params.hashAlgo,
    rim: initialRim(params),
    rems: Array.from({ length: REM_COUNT }, initialRem),
    steps: [],
  }
  transcript.steps.push({
    op: 'realm_create',
    ...fromOf(from),
    flags: toHex(params.flags),
    s2sz: params.s2sz,
    sve_vl: params.sveVl,
    num_bps: params.numBps,
    num_wps: params.numWps,
    pmu_num_ctrs: params.pmuNumCtrs,
    hash_algo: params.hashAlgo,
    rimAfter: rimNow(transcript),
  })
  return transcript
}

/** RTT_INIT_RIPAS over one run of entries. */
export function addRipas(transcript: Transcript, { gfn, span, count }: EntryRun, from?: string): void {
  const { algo } = transcript
  const size = BigInt(span * PAGE_BYTES)
  const base = BigInt(gfn) * BigInt(PAGE_BYTES)
  const top = base + size * BigInt(count)
  for (let at = base; at < top; at += size) transcript.rim = extendRipas(algo, transcript.rim, at, at + size)
  transcript.steps.push({
    op: 'ripas',
    ...fromOf(from),
    base: toHex(base),
    top: toHex(top),
    entrySize: Number(size),
    entries: count,
    rimAfter: rimNow(transcript),
  })
}

/** DATA_CREATE of `pages` pages: measured ones that hold `bytes`, which are as many whole pages; unmeasured ones without. */
export function addData(
  transcript: Transcript,
  gfn: number,
  pages: number,
  bytes: Uint8Array | undefined,
  from?: string,
): void {
  const digests = bytes === undefined ? undefined : digestsOf(transcript.algo, bytes)
  addDigests(transcript, gfn, pages, digests, from)
}

/** {@link addData} by the 64-byte digest fields of measured pages. */
export function addDigests(
  transcript: Transcript,
  gfn: number,
  pages: number,
  digests: readonly Uint8Array[] | undefined,
  from?: string,
): void {
  const { algo } = transcript
  const flags = digests === undefined ? 0 : 1
  for (let page = 0; page < pages; page++) {
    const ipa = BigInt(gfn + page) * BigInt(PAGE_BYTES)
    transcript.rim = extendDataDigest(algo, transcript.rim, ipa, flags, digests?.[page])
  }
  transcript.steps.push({
    op: 'data',
    ...fromOf(from),
    ipa: toHex(gfn * PAGE_BYTES),
    pages,
    flags,
    ...(digests && { contents: runsOf(algo, digests) }),
    rimAfter: rimNow(transcript),
  })
}

/** REC_CREATE. */
export function addRec(transcript: Transcript, params: MeasuredRecParams, from?: string): void {
  transcript.rim = extendRec(transcript.algo, transcript.rim, params)
  transcript.steps.push({
    op: 'rec',
    ...fromOf(from),
    flags: toHex(params.flags),
    pc: toHex(params.pc),
    gprs: params.gprs.map(toHex),
    rimAfter: rimNow(transcript),
  })
}

/** RSI_MEASUREMENT_EXTEND of REM `index`, 1 to 4. */
export function addRem(transcript: Transcript, index: number, value: Uint8Array, from?: string): void {
  const { algo, rems } = transcript
  const rem = extendRem(algo, rems[index - 1] ?? initialRem(), value)
  rems[index - 1] = rem
  transcript.steps.push({
    op: 'rem_extend',
    ...fromOf(from),
    index,
    value: hexOf(value),
    remAfter: shown(algo, rem),
    rimAfter: rimNow(transcript),
  })
}

/** A call that leaves every measurement alone. */
export function addNoop(transcript: Transcript, call: string, from?: string): void {
  transcript.steps.push({ op: 'noop', ...fromOf(from), call, rimAfter: rimNow(transcript) })
}

function digestsOf(algo: HashAlgo, bytes: Uint8Array): Uint8Array[] {
  const digests: Uint8Array[] = []
  for (let at = 0; at < bytes.length; at += PAGE_BYTES)
    digests.push(digestField(algo, bytes.subarray(at, at + PAGE_BYTES)))
  return digests
}

function runsOf(algo: HashAlgo, digests: readonly Uint8Array[]): ContentsRun[] {
  const runs: ContentsRun[] = []
  for (const field of digests) {
    const digest = shown(algo, field)
    const last = runs.at(-1)
    if (last?.digest === digest) last.pages++
    else runs.push({ pages: 1, digest })
  }
  return runs
}
