/** Builds small firmware images with a GUIDed table and SEV metadata, for tests that must not need anyone's binaries. */
const PAGE = 4096

export type TestSection = { gpa: number; size: number; type: number }
export type OvmfImageOptions = {
  pages?: number
  fill?: (page: number) => number
  resetEip?: number | null
  sections?: TestSection[] | null
  hashTable?: { gpa: number; size: number } | null
  svsmLaunchOffset?: number | null
  /** Further entries, GUID text and data, placed nearest to the footer. */
  entries?: { guid: string; data: Buffer }[]
}

export const STANDARD_SECTIONS: TestSection[] = [
  { gpa: 0x800000, size: 0x9000, type: 1 },
  { gpa: 0x80a000, size: 0x3000, type: 1 },
  { gpa: 0x80d000, size: 0x1000, type: 2 },
  { gpa: 0x80e000, size: 0x1000, type: 3 },
  { gpa: 0x80f000, size: 0x1000, type: 4 },
  { gpa: 0x810000, size: 0x1000, type: 0x10 },
  { gpa: 0x811000, size: 0xf000, type: 1 },
]

export function ovmfImage(options: OvmfImageOptions = {}): Buffer {
  const { pages = 2, fill = (page) => (page * 37 + 11) & 0xff, resetEip = 0x80b004, svsmLaunchOffset = null } = options
  const { sections = STANDARD_SECTIONS, hashTable = { gpa: 0x810c00, size: 0x400 }, entries = [] } = options
  const image = Buffer.alloc(pages * PAGE)
  for (let page = 0; page < pages; page++) image.fill(fill(page), page * PAGE, (page + 1) * PAGE)
  image.fill(0, image.length - PAGE)

  const metadataAt = image.length - PAGE + 0x100
  const all = [...entries]
  if (resetEip !== null) all.push({ guid: '00f771de-1a7e-4fcb-890e-68c77e2fb44e', data: u32(resetEip) })
  if (hashTable !== null)
    all.push({ guid: '7255371f-3a3b-4b04-927b-1da6efa8d454', data: u32(hashTable.gpa, hashTable.size) })
  if (svsmLaunchOffset !== null) all.push({ guid: 'a789a612-0597-4c4b-a49f-cbb1fe9d1ddd', data: u32(svsmLaunchOffset) })
  if (sections !== null) {
    all.push({ guid: 'dc886566-984a-4798-a75e-5585a7bf67cc', data: u32(image.length - metadataAt) })
    u32(0x56455341, 16 + 12 * sections.length, 1, sections.length).copy(image, metadataAt)
    for (const [index, { gpa, size, type }] of sections.entries())
      u32(gpa, size, type).copy(image, metadataAt + 16 + 12 * index)
  }
  let end = image.length - 50
  for (const { guid, data } of all) {
    guidBytes(guid).copy(image, end - 16)
    image.writeUInt16LE(data.length + 18, end - 18)
    data.copy(image, end - 18 - data.length)
    end -= data.length + 18
  }
  image.writeUInt16LE(image.length - 32 - end, image.length - 50)
  guidBytes('96b582de-1fb2-45f7-baea-a366c55a082d').copy(image, image.length - 48)
  return image
}

function u32(...values: number[]): Buffer {
  const bytes = Buffer.alloc(values.length * 4)
  for (const [index, value] of values.entries()) bytes.writeUInt32LE(value, index * 4)
  return bytes
}

function guidBytes(text: string): Buffer {
  const [a = '', b = '', c = '', ...rest] = text.split('-')
  const swapped = [a, b, c].map((part) => Buffer.from(part, 'hex').reverse())
  return Buffer.concat([...swapped, Buffer.from(rest.join(''), 'hex')])
}
