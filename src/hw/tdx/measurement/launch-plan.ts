import { type Refused, refuse } from '../../shared/refusal.ts'
import { PAGE_BYTES } from './blocks.ts'
import { ATTRIBUTE, parseTdvf, SECTION_TYPES, type SectionType, type Tdvf, type TdvfSection } from './tdvf.ts'
import type { Behaviour } from './vmms.ts'

/** One run of calls: `add` is TDH.MEM.PAGE.ADD of each page, `extend` 16 TDH.MR.EXTEND of each, `add-extend` both page by page. */
export type Operation = 'add' | 'extend' | 'add-extend'

export type TdStep = {
  readonly operation: Operation
  readonly gfn: number
  readonly pages: number
  /** What the pages hold from their start, padded with zeros by whoever performs the step; undefined is all zeros. */
  readonly bytes: Uint8Array | undefined
  /** The section's place in the metadata, and its type. */
  readonly section: number
  readonly type: SectionType
}

export type TdPlan = {
  readonly ok: true
  readonly steps: readonly TdStep[]
  readonly sections: readonly TdvfSection[]
  /** Initial RCX of the vCPUs, as a frame; null where the image has no TD_HOB section. */
  readonly tdHobGfn: number | null
  readonly pageAdds: number
  /** TDH.MR.EXTEND calls, of 256 bytes each. */
  readonly extends: number
}

/** Pages one image may add, 256 MiB, and measure, 64 MiB: an order of magnitude above real firmware. */
export const MAX_ADDED_PAGES = 65536
export const MAX_MEASURED_PAGES = 16384

const EXTENDS_PER_PAGE = 16
const QEMU_TYPES: readonly SectionType[] = ['BFV', 'CFV', 'TD_HOB', 'TempMem']

/**
 * The calls that launch a TDVF image, in order, up to TDH.MR.FINALIZE (intel-tdx.md f.2). `tdHob` are the bytes that
 * the VMM puts into the TD_HOB section; without them it is zero, which matters only where it is measured.
 */
export function planLaunch(image: Uint8Array, behaviour: Behaviour, tdHob?: Uint8Array): TdPlan | Refused {
  const tdvf = parseTdvf(image)
  if (!tdvf.ok) return tdvf
  const refused = (behaviour.qemuChecks ? qemuRefuses(tdvf) : undefined) ?? tdHobRefused(tdvf, behaviour, tdHob)
  if (refused !== undefined) return refused
  const added = tdvf.sections.filter(({ pages, attributes }) => pages > 0 && !isLeft(attributes, behaviour))
  const measured = new Set(added.filter((section) => isMeasured(section, behaviour)))
  const tooLarge = bounded(added, measured) ?? unknownPayload(measured, behaviour)
  if (tooLarge !== undefined) return tooLarge
  const { gfn: tdHobGfn = null } = tdvf.sections.find(({ type }) => type === 'TD_HOB') ?? {}
  return {
    ok: true,
    steps: inOrder(added, measured, behaviour, tdHob),
    sections: tdvf.sections,
    tdHobGfn,
    pageAdds: pagesOf(added),
    extends: pagesOf([...measured]) * EXTENDS_PER_PAGE,
  }
}

const isLeft = (attributes: number, { pageAug }: Behaviour): boolean =>
  pageAug === 'left' && (attributes & ATTRIBUTE.PAGE_AUG) !== 0

function isMeasured({ attributes }: TdvfSection, { extend, flag }: Behaviour): boolean {
  if (extend !== 'flagged') return extend === 'all'
  return flag === 'exactly-1' ? attributes === ATTRIBUTE.MR_EXTEND : (attributes & ATTRIBUTE.MR_EXTEND) !== 0
}

const pagesOf = (sections: readonly TdvfSection[]): number => sections.reduce((sum, { pages }) => sum + pages, 0)

function inOrder(
  added: readonly TdvfSection[],
  measured: ReadonlySet<TdvfSection>,
  { order }: Behaviour,
  tdHob: Uint8Array | undefined,
): TdStep[] {
  const step = (operation: Operation, { index, type, gfn, pages, data }: TdvfSection): TdStep => {
    const bytes = type === 'TD_HOB' ? tdHob : data.length > 0 ? data : undefined
    return { operation, gfn, pages, bytes, section: index, type }
  }
  switch (order) {
    case 'interleaved':
      return added.map((section) => step(measured.has(section) ? 'add-extend' : 'add', section))
    case 'two-pass-section':
      return added.flatMap((section) =>
        measured.has(section) ? [step('add', section), step('extend', section)] : [step('add', section)],
      )
    case 'two-pass-image':
      return [
        ...added.map((section) => step('add', section)),
        ...[...measured].map((section) => step('extend', section)),
      ]
  }
}

function bounded(added: readonly TdvfSection[], measured: ReadonlySet<TdvfSection>): Refused | undefined {
  const total = pagesOf(added)
  if (total > MAX_ADDED_PAGES)
    return refuse('image-memory', `The sections add ${total} pages; at most ${MAX_ADDED_PAGES} are launched.`)
  const hashed = pagesOf([...measured])
  return hashed > MAX_MEASURED_PAGES
    ? refuse('image-memory', `The sections measure ${hashed} pages; at most ${MAX_MEASURED_PAGES} are launched.`)
    : undefined
}

/** What QEMU's tdvf.c asks beyond f.1, in its words. */
function qemuRefuses({ form, sections }: Tdvf): Refused | undefined {
  if (form !== 'guid-table') return refuse('qemu-no-metadata', 'Cannot find TDX_METADATA_OFFSET_GUID')
  if (sections.length < 2)
    return refuse('qemu-entries', `Invalid number of fw entries (${sections.length}) in TDVF Metadata`)
  for (const { type, data } of sections) {
    const number = SECTION_TYPES.indexOf(type)
    if (!QEMU_TYPES.includes(type))
      return refuse('qemu-section-type', `TDVF contains unsupported section type ${number}`)
    if (type === 'CFV' && data.length === 0)
      return refuse('qemu-section-data', `${number} section with RawDataSize == 0`)
  }
  return undefined
}

function tdHobRefused({ sections }: Tdvf, { needsTdHob }: Behaviour, tdHob?: Uint8Array): Refused | undefined {
  const section = sections.find(({ type }) => type === 'TD_HOB')
  if (tdHob === undefined)
    return needsTdHob && section !== undefined
      ? refuse('td-hob-missing', 'This VMM measures the TD_HOB, which the image does not hold: give its bytes.')
      : undefined
  if (section === undefined) return refuse('td-hob-no-section', 'The image has no TD_HOB section.')
  return tdHob.length > section.pages * PAGE_BYTES
    ? refuse('td-hob-size', `${tdHob.length} bytes do not fit the TD_HOB section's ${section.pages} pages.`)
    : undefined
}

function unknownPayload(measured: ReadonlySet<TdvfSection>, { fillsPayload }: Behaviour): Refused | undefined {
  const section = [...measured].find(({ type }) => type === 'Payload' || type === 'PayloadParam')
  return fillsPayload && section !== undefined
    ? refuse(
        'payload-unknown',
        `Section ${section.index} (${section.type}) is measured, and this VMM fills it from a file of its own.`,
      )
    : undefined
}
