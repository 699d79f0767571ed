import { guidText, view } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'

/** An entry of the descriptor as it stands in the image: offsets and sizes in bytes. */
export type RawSection = {
  readonly dataOffset: number
  readonly dataSize: number
  readonly gpa: bigint
  readonly memorySize: bigint
  readonly type: number
  readonly attributes: number
}

/** Where the pointer to the descriptor stands: in the GUIDed table, or as a file offset at end − 0x20 (old images). */
export type PointerForm = 'guid-table' | 'file-offset'
export type Descriptor = {
  readonly ok: true
  readonly form: PointerForm
  readonly sections: readonly RawSection[]
}

/** Real images have a dozen sections at most; the bound keeps a hostile one cheap. */
export const MAX_SECTIONS = 1024

const FOOTER_GUID = '96b582de-1fb2-45f7-baea-a366c55a082d'
const OFFSET_GUID = 'e47a6535-984a-4798-865e-4685a7bf8ec2'
const DESCRIPTOR_GUID = 'e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae'
const GUID_BYTES = 16
const RESET_VECTOR_BYTES = 32
const ENTRY_TRAILER = 18
const HEADER_BYTES = 16
const SECTION_BYTES = 32

/** Finds and reads the TDVF descriptor of an image that may be any bytes at all (intel-tdx.md f.1). */
export function readDescriptor(data: Uint8Array): Descriptor | Refused {
  const image = view(data)
  if (image.length < RESET_VECTOR_BYTES + ENTRY_TRAILER)
    return refuse('image-too-small', `An image of ${image.length} bytes has no room for a pointer to TDX metadata.`)
  const pointer = findPointer(image)
  if (!pointer.ok) return pointer
  const sections = readSections(image, pointer.at)
  return sections.ok ? { ok: true, form: pointer.form, sections: sections.sections } : sections
}

type Pointer = { readonly ok: true; readonly at: number; readonly form: PointerForm }

function findPointer(image: Buffer): Pointer | Refused {
  const footer = image.length - RESET_VECTOR_BYTES - GUID_BYTES
  if (guidText(image, footer) !== FOOTER_GUID)
    return { ok: true, at: image.readUInt32LE(image.length - RESET_VECTOR_BYTES), form: 'file-offset' }
  const tableEnd = footer - 2
  const tableBytes = image.readUInt16LE(tableEnd)
  const start = tableEnd - (tableBytes - ENTRY_TRAILER)
  if (tableBytes < ENTRY_TRAILER || start < 0)
    return refuse('image-table', `The image's GUID table claims ${tableBytes} bytes.`)
  // Entries go downwards: data, u16 length, GUID.
  let end = tableEnd
  while (end - start >= ENTRY_TRAILER) {
    const length = image.readUInt16LE(end - ENTRY_TRAILER)
    const guid = guidText(image, end - GUID_BYTES)
    if (length < ENTRY_TRAILER || length > end - start)
      return refuse('image-table-entry', `Entry ${guid} of the image's GUID table claims ${length} bytes.`)
    if (guid === OFFSET_GUID) return readPointer(image, end, length)
    end -= length
  }
  return refuse('image-no-metadata', 'The GUID table of the image has no entry for TDX metadata: it is no TDVF.')
}

function readPointer(image: Buffer, end: number, length: number): Pointer | Refused {
  if (length < ENTRY_TRAILER + 4)
    return refuse('image-table-entry', `The entry for TDX metadata has ${length - ENTRY_TRAILER} bytes of data, not 4.`)
  const fromEnd = image.readUInt32LE(end - ENTRY_TRAILER - 4)
  return { ok: true, at: image.length - fromEnd, form: 'guid-table' }
}

function readSections(image: Buffer, at: number): { ok: true; sections: RawSection[] } | Refused {
  const bad = (what: string): Refused => refuse('tdvf-descriptor', `bad TDVF descriptor: ${what}`)
  if (at < GUID_BYTES || at + HEADER_BYTES > image.length) return bad('it stands outside the image')
  if (image.toString('latin1', at, at + 4) !== 'TDVF') return bad('no "TDVF" where the image points to')
  if (guidText(image, at - GUID_BYTES) !== DESCRIPTOR_GUID) return bad(`GUID ${DESCRIPTOR_GUID} does not precede it`)
  const length = image.readUInt32LE(at + 4)
  const version = image.readUInt32LE(at + 8)
  const count = image.readUInt32LE(at + 12)
  if (version !== 1) return bad(`version ${version}, and only 1 exists`)
  if (length !== HEADER_BYTES + SECTION_BYTES * count) return bad(`length ${length} is not that of ${count} sections`)
  if (count > MAX_SECTIONS) return bad(`${count} sections, and at most ${MAX_SECTIONS} are read`)
  if (at + length > image.length) return bad('its sections reach beyond the image')
  const sections = Array.from({ length: count }, (_, index) =>
    readSection(image, at + HEADER_BYTES + index * SECTION_BYTES),
  )
  return { ok: true, sections }
}

const readSection = (image: Buffer, at: number): RawSection => ({
  dataOffset: image.readUInt32LE(at),
  dataSize: image.readUInt32LE(at + 4),
  gpa: image.readBigUInt64LE(at + 8),
  memorySize: image.readBigUInt64LE(at + 16),
  type: image.readUInt32LE(at + 24),
  attributes: image.readUInt32LE(at + 28),
})
