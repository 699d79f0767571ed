import { toHex } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'
import { PAGE_BYTES } from './blocks.ts'
import { type PointerForm, type RawSection, readDescriptor } from './tdvf-descriptor.ts'

/** Section types by number (intel-tdx.md f.1). */
export const SECTION_TYPES = [
  'BFV',
  'CFV',
  'TD_HOB',
  'TempMem',
  'PermMem',
  'Payload',
  'PayloadParam',
  'TD_INFO',
  'TD_PARAMS',
] as const
export type SectionType = (typeof SECTION_TYPES)[number]

/** Bits of a section's attributes. */
export const ATTRIBUTE = { MR_EXTEND: 1, PAGE_AUG: 2 } as const

export type TdvfSection = {
  /** Place in the metadata. */
  readonly index: number
  readonly type: SectionType
  readonly gfn: number
  readonly pages: number
  readonly attributes: number
  readonly dataOffset: number
  /** The section's own bytes in the image; none where it has no data. The rest of its memory is zero. */
  readonly data: Uint8Array
}

export type Tdvf = { readonly ok: true; readonly form: PointerForm; readonly sections: readonly TdvfSection[] }

/** Private addresses of a TD end here at the widest (intel-tdx.md d.1). */
const PRIVATE_LIMIT = 1n << 51n

const NO_DATA: readonly SectionType[] = ['TD_HOB', 'TempMem', 'PermMem']
const NO_MEMORY: readonly SectionType[] = ['TD_INFO', 'TD_PARAMS']
const AT_MOST_ONCE: readonly SectionType[] = ['CFV', 'TD_HOB']

/**
 * Reads the sections of a TDVF image by all rules of intel-tdx.md f.1. Any bytes are safe to give: what breaks a rule
 * is refused, with the section and the rule named. Memory sizes may be as large as a TD's address space.
 */
export function parseTdvf(image: Uint8Array): Tdvf | Refused {
  const descriptor = readDescriptor(image)
  if (!descriptor.ok) return descriptor
  const sections: TdvfSection[] = []
  for (const [index, raw] of descriptor.sections.entries()) {
    const type = SECTION_TYPES[raw.type]
    if (type === undefined) return refuse('section-type', `Section ${index}: unsupported section type ${raw.type}`)
    const fault = brokenRule(raw, type, image.length)
    if (fault !== undefined) return refuse(fault[0], `Section ${index} (${type}): ${fault[1]}`)
    sections.push(placed(raw, type, index, image))
  }
  return checkTogether(sections) ?? { ok: true, form: descriptor.form, sections }
}

function brokenRule(raw: RawSection, type: SectionType, imageBytes: number): readonly [string, string] | undefined {
  const { gpa, memorySize, dataOffset, dataSize } = raw
  const page = BigInt(PAGE_BYTES)
  if (gpa % page !== 0n || memorySize % page !== 0n)
    return ['section-unaligned', `section not page aligned: ${toHex(memorySize)} bytes at ${toHex(gpa)}`]
  if (NO_MEMORY.includes(type) && (gpa !== 0n || memorySize !== 0n))
    return ['section-address', `address and memory size are to be zero, not ${toHex(gpa)} and ${toHex(memorySize)}`]
  if (gpa + memorySize > PRIVATE_LIMIT)
    return ['section-range', `${toHex(memorySize)} bytes at ${toHex(gpa)} reach beyond the private memory of a TD`]
  if (!NO_MEMORY.includes(type) && memorySize < BigInt(dataSize))
    return ['section-size', `${dataSize} bytes of data in ${memorySize} bytes of memory`]
  if (type === 'BFV' && dataSize === 0) return ['section-no-data', 'raw size 0 in a boot firmware volume']
  if (NO_DATA.includes(type) && dataSize !== 0) return ['section-data', `raw size is to be zero, not ${dataSize}`]
  if (NO_DATA.includes(type) && type !== 'PermMem' && dataOffset !== 0)
    return ['section-data', `data offset is to be zero, not ${toHex(dataOffset)}`]
  if (dataSize > 0 && dataOffset + dataSize > imageBytes)
    return [
      'section-data-outside',
      `section data outside the image: ${toHex(dataSize)} bytes at ${toHex(dataOffset)} of ${toHex(imageBytes)}`,
    ]
  return undefined
}

const placed = (raw: RawSection, type: SectionType, index: number, image: Uint8Array): TdvfSection => ({
  index,
  type,
  gfn: Number(raw.gpa / BigInt(PAGE_BYTES)),
  pages: Number(raw.memorySize / BigInt(PAGE_BYTES)),
  attributes: raw.attributes,
  dataOffset: raw.dataOffset,
  data: raw.dataSize === 0 ? new Uint8Array(0) : image.subarray(raw.dataOffset, raw.dataOffset + raw.dataSize),
})

/** The rules that hold between sections. */
function checkTogether(sections: readonly TdvfSection[]): Refused | undefined {
  if (!sections.some(({ type }) => type === 'BFV'))
    return refuse('tdvf-no-bfv', 'The metadata has no boot firmware volume (section type 0).')
  const repeated = AT_MOST_ONCE.find((one) => sections.filter(({ type }) => type === one).length > 1)
  if (repeated !== undefined) return refuse('section-repeated', `The metadata has more than one ${repeated} section.`)
  const ranges = sections.filter(({ pages }) => pages > 0).toSorted((a, b) => a.gfn - b.gfn)
  const second = ranges.findIndex((one, at) => {
    const before = ranges[at - 1]
    return before !== undefined && before.gfn + before.pages > one.gfn
  })
  if (second === -1) return undefined
  const [first, later] = [ranges[second - 1]?.index ?? 0, ranges[second]?.index ?? 0]
  return refuse('section-overlap', `Sections ${Math.min(first, later)} and ${Math.max(first, later)} overlap.`)
}
