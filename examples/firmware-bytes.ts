/** What firmware images are made of: little-endian numbers, GUIDs, and the table of GUIDed entries at the end of an image. */
export const PAGE = 4096
export const HLT = 0xf4

const FOOTER = '96b582de-1fb2-45f7-baea-a366c55a082d'
const RESET_VECTOR = 16
const AFTER_TABLE = 32
const TRAILER = 18

/** One entry: data, u16 length, GUID. */
export const tableEntry = (guid: string, data: Buffer): Buffer =>
  Buffer.concat([data, u16(data.length + TRAILER), guidBytes(guid)])

/** An image of pages of HLT whose last page is empty but for the table, which grows downwards, and the reset vector. */
export function imageWithTable(pages: number, entries: readonly Buffer[]): Buffer {
  const image = Buffer.alloc(pages * PAGE)
  image.fill(HLT, 0, image.length - PAGE)
  const table = Buffer.concat(entries)
  const footer = Buffer.concat([u16(table.length + TRAILER), guidBytes(FOOTER)])
  Buffer.concat([table, footer]).copy(image, image.length - AFTER_TABLE - footer.length - table.length)
  image.fill(HLT, image.length - RESET_VECTOR)
  return image
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return bytes
}

export function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(4 * values.length)
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, 4 * index)
  return bytes
}

export function u64(...values: number[]): Buffer {
  const bytes = Buffer.alloc(8 * values.length)
  for (const [index, value] of values.entries()) bytes.writeBigUInt64LE(BigInt(value), 8 * index)
  return bytes
}

/** The EFI form of a GUID: its first three groups are little-endian numbers. */
export function guidBytes(text: string): Buffer {
  const [a = '', b = '', c = '', ...rest] = text.split('-')
  const numbers = [a, b, c].map((group) => Buffer.from(group, 'hex').reverse())
  return Buffer.concat([...numbers, Buffer.from(rest.join(''), 'hex')])
}
