/** Builds small TDVF images by intel-tdx.md f.1, and broken ones, for tests that must not need anyone's binaries. */

export type TestSection = {
  dataOffset?: number
  dataSize?: number
  gpa?: number | bigint
  memorySize?: number | bigint
  type?: number
  attributes?: number
}
export type TdvfOptions = {
  bytes?: number
  sections?: readonly TestSection[]
  form?: 'guid-table' | 'file-offset'
  /** File offset of the descriptor. */
  at?: number
  version?: number
  length?: number
  count?: number
  signature?: string
  guid?: string
  /** What the pointer says, where it is not the truth. */
  pointer?: number
  /** Bytes of the pointer's entry after its data: u16 length, GUID. */
  entryLength?: number
  tableLength?: number
  withEntry?: boolean
}

export const FOOTER = '96b582de-1fb2-45f7-baea-a366c55a082d'
const OFFSET = 'e47a6535-984a-4798-865e-4685a7bf8ec2'
const DESCRIPTOR = 'e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae'

export const TYPE = { BFV: 0, CFV: 1, TD_HOB: 2, TempMem: 3, PermMem: 4, Payload: 5, PayloadParam: 6, TD_INFO: 7 }

/** Two pages of measured firmware, a page of variables, a page for the TD_HOB and two of stack. */
export const STANDARD: readonly TestSection[] = [
  { type: TYPE.BFV, dataOffset: 0x2000, dataSize: 0x2000, gpa: 0xffffe000, memorySize: 0x2000, attributes: 1 },
  { type: TYPE.CFV, dataOffset: 0, dataSize: 0x800, gpa: 0xffffc000, memorySize: 0x1000 },
  { type: TYPE.TempMem, gpa: 0x810000, memorySize: 0x2000 },
  { type: TYPE.TD_HOB, gpa: 0x809000, memorySize: 0x1000 },
]

export function tdvfImage(options: TdvfOptions = {}): Buffer {
  const { bytes = 0x4000, sections = STANDARD, form = 'guid-table', at = bytes - 0x1000 + 0x100 } = options
  const image = Buffer.alloc(bytes)
  for (let i = 0; i < bytes - 0x1000; i++) image[i] = (i * 31 + (i >> 8)) & 0xff
  guidBytes(options.guid ?? DESCRIPTOR).copy(image, at - 16)
  image.write(options.signature ?? 'TDVF', at, 'latin1')
  image.writeUInt32LE(options.length ?? 16 + 32 * sections.length, at + 4)
  image.writeUInt32LE(options.version ?? 1, at + 8)
  image.writeUInt32LE(options.count ?? sections.length, at + 12)
  for (const [index, section] of sections.entries()) writeSection(image, at + 16 + 32 * index, section)
  if (form === 'file-offset') {
    image.writeUInt32LE(options.pointer ?? at, bytes - 0x20)
    return image
  }
  return withTable(image, options, bytes - at)
}

function withTable(image: Buffer, options: TdvfOptions, fromEnd: number): Buffer {
  const footer = image.length - 0x30
  guidBytes(FOOTER).copy(image, footer)
  const withEntry = options.withEntry ?? true
  image.writeUInt16LE(options.tableLength ?? 18 + (withEntry ? 22 : 0), footer - 2)
  if (!withEntry) return image
  guidBytes(OFFSET).copy(image, footer - 18)
  image.writeUInt16LE(options.entryLength ?? 22, footer - 20)
  image.writeUInt32LE(options.pointer ?? fromEnd, footer - 24)
  return image
}

function writeSection(image: Buffer, at: number, section: TestSection): void {
  const { dataOffset = 0, dataSize = 0, gpa = 0, memorySize = 0, type = 0, attributes = 0 } = section
  image.writeUInt32LE(dataOffset, at)
  image.writeUInt32LE(dataSize, at + 4)
  image.writeBigUInt64LE(BigInt(gpa), at + 8)
  image.writeBigUInt64LE(BigInt(memorySize), at + 16)
  image.writeUInt32LE(type, at + 24)
  image.writeUInt32LE(attributes, at + 28)
}

function guidBytes(text: string): Buffer {
  const [a = '', b = '', c = '', ...rest] = text.split('-')
  const swapped = [a, b, c].map((part) => Buffer.from(part, 'hex').reverse())
  return Buffer.concat([...swapped, Buffer.from(rest.join(''), 'hex')])
}
