import type { HexOrInteger } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'
import { type Contents, contentsOf } from './contents.ts'
import { digestBytes, digestField, type HashAlgo, MEASUREMENT_BYTES, PAGE_BYTES } from './digest.ts'
import { type EntryRun, entryRuns } from './entries.ts'
import { MAX_MEASURED_PAGES, MAX_RIPAS_ENTRIES } from './measure-schema.ts'
import { frameOf, type RealmShape } from './realm-inputs.ts'
import { addData, addDigests, addRipas, type Transcript } from './transcript.ts'

type Range = { readonly base: HexOrInteger; readonly top: HexOrInteger }
type Data = { readonly ipa: HexOrInteger; readonly flags: 0 | 1 }
export type RipasOp =
  | ({ readonly op: 'ripas'; readonly entry_size: number } & Range)
  | ({ readonly op: 'ripas_auto' } & Range)
export type DataOp = { readonly op: 'data'; readonly content?: Contents; readonly content_hash?: string } & Data
export type DataBlobOp = { readonly op: 'data_blob'; readonly content: Contents } & Data

/** A Realm being measured, and how much more may be asked of it. */
export type Build = {
  readonly shape: RealmShape
  readonly transcript: Transcript
  active: boolean
  pagesLeft: number
  entriesLeft: number
}

/** RTT_INIT_RIPAS; undefined when it is done. Every function here answers so. */
export function initRipas(build: Build, op: RipasOp, from: string): Refused | undefined {
  const base = frameOf(op.base, '/base')
  if (!base.ok) return base
  const top = frameOf(op.top, '/top')
  if (!top.ok) return top
  const pages = top.gfn - base.gfn
  if (pages <= 0) return refuse('ripas-range', 'The top is above the base.', '/top')
  if (top.gfn > build.shape.protectedPages) return unprotected('/top')
  const runs =
    op.op === 'ripas' ? oneSize(base.gfn, pages, op.entry_size) : [...entryRuns(base.gfn, pages, build.shape.rootLevel)]
  if (runs === undefined) return refuse('ripas-entry', 'Base and top are multiples of the entry size.', '/entry_size')
  build.entriesLeft -= runs.reduce((sum, { count }) => sum + count, 0)
  if (build.entriesLeft < 0)
    return refuse('ops-too-many', `At most ${MAX_RIPAS_ENTRIES} table entries are measured at once.`)
  for (const run of runs) addRipas(build.transcript, run, from)
  return undefined
}

function oneSize(gfn: number, pages: number, bytes: number): EntryRun[] | undefined {
  const span = bytes / PAGE_BYTES
  return gfn % span === 0 && pages % span === 0 ? [{ gfn, span, count: pages / span }] : undefined
}

const unprotected = (pointer: string): Refused =>
  refuse('ipa-unprotected', 'It lies beyond the protected half of the IPA space.', pointer)

/** DATA_CREATE of one page, whose content or digest is given; neither counts where it isn't measured. */
export function data(build: Build, op: DataOp, from: string): Refused | undefined {
  const place = placeOf(build, op.ipa, 1)
  if (!place.ok) return place
  const digests = op.flags === 0 ? { ok: true as const, digests: undefined } : digestsOf(build.transcript.algo, op)
  if (!digests.ok) return digests
  addDigests(build.transcript, place.gfn, 1, digests.digests, from)
  return undefined
}

function digestsOf(
  algo: HashAlgo,
  { content, content_hash }: DataOp,
): { readonly ok: true; readonly digests: readonly Uint8Array[] } | Refused {
  const bytes = content === undefined ? undefined : contentsOf(content, 1)
  if (content !== undefined && bytes === undefined)
    return refuse('content', 'It is no zlib stream, or holds more than a page.', '/content')
  const hashed = bytes && digestField(algo, bytes)
  const given = content_hash === undefined ? undefined : fieldOf(content_hash, digestBytes(algo))
  if (content_hash !== undefined && given === undefined)
    return refuse('content-hash', `A digest of this Realm has ${digestBytes(algo)} bytes.`, '/content_hash')
  if (hashed !== undefined && given !== undefined && !Buffer.from(hashed).equals(given))
    return refuse('content-hash', 'It is not the digest of the content.', '/content_hash')
  const digest = hashed ?? given
  return digest === undefined
    ? refuse('content-missing', 'A measured page needs content or content_hash.', '/content')
    : { ok: true, digests: [digest] }
}

function fieldOf(hex: string, length: number): Uint8Array | undefined {
  if (hex.length !== length * 2) return undefined
  const field = new Uint8Array(MEASUREMENT_BYTES)
  field.set(Buffer.from(hex, 'hex'))
  return field
}

/** DATA_CREATE of each page of a run, ascending. */
export function dataBlob(build: Build, op: DataBlobOp, from: string): Refused | undefined {
  const bytes = contentsOf(op.content, build.pagesLeft)
  if (bytes === undefined)
    return refuse(
      'content',
      `It is no zlib stream, or more than the ${build.pagesLeft} pages left to measure.`,
      '/content',
    )
  const pages = bytes.length / PAGE_BYTES
  const place = placeOf(build, op.ipa, pages)
  if (!place.ok) return place
  addData(build.transcript, place.gfn, pages, op.flags === 1 ? bytes : undefined, from)
  return undefined
}

/** Where pages begin, counted against what one measurement may ask for. */
function placeOf(
  build: Build,
  ipa: HexOrInteger,
  pages: number,
): { readonly ok: true; readonly gfn: number } | Refused {
  const place = frameOf(ipa, '/ipa')
  if (!place.ok) return place
  if (place.gfn + pages > build.shape.protectedPages) return unprotected('/ipa')
  build.pagesLeft -= pages
  if (build.pagesLeft < 0) return refuse('ops-too-many', `At most ${MAX_MEASURED_PAGES} pages are measured at once.`)
  return place
}
