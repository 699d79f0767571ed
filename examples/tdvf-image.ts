import { guidBytes, imageWithTable, PAGE, tableEntry, u32, u64 } from './firmware-bytes.ts'

/**
 * The smallest TDVF image: no code worth the name, but everything that a VMM reads in a real OVMF build for TDX. It ends
 * at 4 GiB. Its first page are the variables, the others the code, and its last page holds, from the top down:
 *
 *   size - 16    the reset vector
 *   size - 50    the footer of a table of GUIDed entries, with one entry: where the descriptor is, from the end of the image
 *   page + 0x100 the TDVF descriptor: memory that a TD is made of, section by section
 */
const PAGES = 4
const END = 2 ** 32

const GUID = {
  descriptorOffset: 'e47a6535-984a-4798-865e-4685a7bf8ec2',
  descriptor: 'e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae',
} as const

const TYPE = { BFV: 0, CFV: 1, TD_HOB: 2, TempMem: 3 } as const
const MR_EXTEND = 1

/** `bytes` of a section are in the image, at `offset`; the rest of its memory is zero. */
type Section = {
  readonly type: number
  readonly offset: number
  readonly bytes: number
  readonly gpa: number
  readonly size: number
  readonly attributes: number
}

const inImage = (type: number, offset: number, size: number, attributes: number): Section => ({
  type,
  offset,
  bytes: size,
  gpa: END - PAGES * PAGE + offset,
  size,
  attributes,
})
const empty = (type: number, gpa: number, size: number): Section => ({
  type,
  offset: 0,
  bytes: 0,
  gpa,
  size,
  attributes: 0,
})

/** As in OVMF: the code is measured, everything else only added. */
const SECTIONS: readonly Section[] = [
  inImage(TYPE.BFV, PAGE, (PAGES - 1) * PAGE, MR_EXTEND),
  inImage(TYPE.CFV, 0, PAGE, 0),
  empty(TYPE.TempMem, 0x810000, 0x10000),
  empty(TYPE.TempMem, 0x80b000, 0x2000),
  empty(TYPE.TD_HOB, 0x809000, 0x2000),
]

export function tdvfImage(): Buffer {
  const descriptor = descriptorBlock()
  const descriptorAt = (PAGES - 1) * PAGE + 0x100
  const image = imageWithTable(PAGES, [tableEntry(GUID.descriptorOffset, u32(PAGES * PAGE - descriptorAt))])
  guidBytes(GUID.descriptor).copy(image, descriptorAt - 16)
  descriptor.copy(image, descriptorAt)
  return image
}

/** "TDVF", length, version 1, number of sections, then each section. */
function descriptorBlock(): Buffer {
  const sections = SECTIONS.map(({ type, offset, bytes, gpa, size, attributes }) =>
    Buffer.concat([u32(offset, bytes), u64(gpa, size), u32(type, attributes)]),
  )
  const header = Buffer.concat([Buffer.from('TDVF'), u32(16 + 32 * sections.length, 1, sections.length)])
  return Buffer.concat([header, ...sections])
}

if (import.meta.main) process.stdout.write(tdvfImage())
