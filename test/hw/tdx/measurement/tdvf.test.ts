import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { parseTdvf, type TdvfSection } from '../../../../src/hw/tdx/measurement/tdvf.ts'
import { FOOTER, STANDARD, type TdvfOptions, type TestSection, TYPE, tdvfImage } from './tdvf-image.ts'

function parsed(image: Uint8Array): readonly TdvfSection[] {
  const answer = parseTdvf(image)
  assert.ok(answer.ok, answer.ok ? '' : answer.refusal.detail)
  return answer.sections
}

function refusal(image: Uint8Array): readonly [string, string] {
  const answer = parseTdvf(image)
  assert.ok(!answer.ok, 'the image is taken')
  assert.equal(answer.refusal.errno, 'EINVAL')
  return [answer.refusal.code, answer.refusal.detail]
}

const broken = (options: TdvfOptions) => refusal(tdvfImage(options))
/** The standard image with one more section. */
const with1 = (section: TestSection) => broken({ sections: [...STANDARD, section] })

for (const form of ['guid-table', 'file-offset'] as const) {
  test(`intel-tdx.md f.1: sections are read through the ${form}`, () => {
    const image = tdvfImage({ form })
    const answer = parseTdvf(image)
    assert.ok(answer.ok)
    assert.equal(answer.form, form)
    assert.deepEqual(answer.sections, [
      {
        index: 0,
        type: 'BFV',
        gfn: 0xffffe,
        pages: 2,
        attributes: 1,
        dataOffset: 0x2000,
        data: image.subarray(0x2000, 0x4000),
      },
      {
        index: 1,
        type: 'CFV',
        gfn: 0xffffc,
        pages: 1,
        attributes: 0,
        dataOffset: 0,
        data: image.subarray(0, 0x800),
      },
      { index: 2, type: 'TempMem', gfn: 0x810, pages: 2, attributes: 0, dataOffset: 0, data: new Uint8Array(0) },
      { index: 3, type: 'TD_HOB', gfn: 0x809, pages: 1, attributes: 0, dataOffset: 0, data: new Uint8Array(0) },
    ])
  })
}

test('intel-tdx.md f.1: other entries of the GUID table are walked over', () => {
  const image = tdvfImage()
  // The TDX entry goes below one of 26 bytes whose GUID is the footer's, and the table's length says so.
  const entry = image.subarray(image.length - 0x30 - 2 - 22, image.length - 0x30 - 2)
  const moved = Buffer.from(entry)
  entry.fill(0x55)
  moved.copy(image, image.length - 0x30 - 2 - 26 - 22)
  image.copy(image, image.length - 0x30 - 2 - 16, image.length - 0x30, image.length - 0x20)
  image.writeUInt16LE(26, image.length - 0x30 - 2 - 18)
  image.writeUInt16LE(18 + 26 + 22, image.length - 0x30 - 2)
  assert.equal(parsed(image).length, 4)
})

test('intel-tdx.md f.1: where the pointer or its table is wrong', () => {
  assert.deepEqual(refusal(new Uint8Array(49)), [
    'image-too-small',
    'An image of 49 bytes has no room for a pointer to TDX metadata.',
  ])
  assert.deepEqual(broken({ withEntry: false }), [
    'image-no-metadata',
    'The GUID table of the image has no entry for TDX metadata: it is no TDVF.',
  ])
  assert.deepEqual(broken({ tableLength: 17 }), ['image-table', "The image's GUID table claims 17 bytes."])
  assert.deepEqual(broken({ tableLength: 0xffff }), ['image-table', "The image's GUID table claims 65535 bytes."])
  const entry = 'e47a6535-984a-4798-865e-4685a7bf8ec2'
  for (const entryLength of [17, 23])
    assert.deepEqual(broken({ entryLength }), [
      'image-table-entry',
      `Entry ${entry} of the image's GUID table claims ${entryLength} bytes.`,
    ])
  assert.deepEqual(broken({ entryLength: 21 }), [
    'image-table-entry',
    'The entry for TDX metadata has 3 bytes of data, not 4.',
  ])
})

test('intel-tdx.md f.1: where the descriptor is wrong', () => {
  const bad = (options: TdvfOptions, what: string) =>
    assert.deepEqual(broken(options), ['tdvf-descriptor', `bad TDVF descriptor: ${what}`])
  for (const form of ['guid-table', 'file-offset'] as const)
    for (const pointer of [0, 15, 0x4001, 0xffffffff]) bad({ form, pointer }, 'it stands outside the image')
  bad({ form: 'file-offset', pointer: 0x3ff1 }, 'it stands outside the image')
  bad({ signature: 'TDVG' }, 'no "TDVF" where the image points to')
  bad({ guid: FOOTER }, 'GUID e9eaf9f3-168e-44d5-a8eb-7f4d8738f6ae does not precede it')
  bad({ version: 2 }, 'version 2, and only 1 exists')
  bad({ length: 143 }, 'length 143 is not that of 4 sections')
  bad({ count: 3 }, 'length 144 is not that of 3 sections')
  bad({ count: 1025, length: 16 + 32 * 1025 }, '1025 sections, and at most 1024 are read')
  bad({ count: 0xffffffff, length: 0 }, 'length 0 is not that of 4294967295 sections')
  bad({ count: 120, length: 16 + 32 * 120 }, 'its sections reach beyond the image')
})

test('intel-tdx.md f.1: sections are whole pages of private memory', () => {
  assert.deepEqual(with1({ type: TYPE.TempMem, gpa: 0x1800, memorySize: 0x1000 }), [
    'section-unaligned',
    'Section 4 (TempMem): section not page aligned: 0x1000 bytes at 0x1800',
  ])
  assert.deepEqual(with1({ type: TYPE.TempMem, gpa: 0x1000, memorySize: 0x1001 }), [
    'section-unaligned',
    'Section 4 (TempMem): section not page aligned: 0x1001 bytes at 0x1000',
  ])
  const edge = 2n ** 51n
  const last = { type: TYPE.PermMem, gpa: edge - 0x1000n, memorySize: 0x1000n, attributes: 2 }
  assert.equal(parsed(tdvfImage({ sections: [...STANDARD, last] })).at(-1)?.gfn, 2 ** 39 - 1)
  for (const [gpa, memorySize] of [
    [edge, 0x1000n],
    [edge - 0x1000n, 0x2000n],
    [2n ** 64n - 0x1000n, 0x1000n],
    [0x1000n, 2n ** 64n - 0x1000n],
  ] as const)
    assert.deepEqual(with1({ type: TYPE.TempMem, gpa, memorySize }), [
      'section-range',
      `Section 4 (TempMem): 0x${memorySize.toString(16)} bytes at 0x${gpa.toString(16)} reach beyond the private memory of a TD`,
    ])
})

test('intel-tdx.md f.1: what raw sizes may be', () => {
  const bfv = { type: TYPE.BFV, gpa: 0x100000 }
  assert.deepEqual(with1({ ...bfv, dataSize: 0x1001, memorySize: 0x1000 }), [
    'section-size',
    'Section 4 (BFV): 4097 bytes of data in 4096 bytes of memory',
  ])
  assert.deepEqual(with1({ ...bfv, memorySize: 0x1000 }), [
    'section-no-data',
    'Section 4 (BFV): raw size 0 in a boot firmware volume',
  ])
  for (const type of ['TempMem', 'PermMem'] as const)
    assert.deepEqual(with1({ type: TYPE[type], gpa: 0x1000, memorySize: 0x1000, dataSize: 8 }), [
      'section-data',
      `Section 4 (${type}): raw size is to be zero, not 8`,
    ])
  assert.deepEqual(with1({ type: TYPE.TempMem, gpa: 0x1000, memorySize: 0x1000, dataOffset: 8 }), [
    'section-data',
    'Section 4 (TempMem): data offset is to be zero, not 0x8',
  ])
  const withHob = STANDARD.map((one) => (one.type === TYPE.TD_HOB ? { ...one, dataSize: 1 } : one))
  assert.deepEqual(broken({ sections: withHob }), ['section-data', 'Section 3 (TD_HOB): raw size is to be zero, not 1'])
  for (const dataOffset of [0x3001, 0xfffff000])
    assert.deepEqual(with1({ ...bfv, dataOffset, dataSize: 0x1000, memorySize: 0x1000 }), [
      'section-data-outside',
      `Section 4 (BFV): section data outside the image: 0x1000 bytes at 0x${dataOffset.toString(16)} of 0x4000`,
    ])
})

test('intel-tdx.md f.1: TD_INFO and TD_PARAMS take no memory, and may have data', () => {
  const info = { type: TYPE.TD_INFO, dataOffset: 0x1000, dataSize: 0x400 }
  assert.equal(parsed(tdvfImage({ sections: [...STANDARD, info] })).at(-1)?.data.length, 0x400)
  assert.deepEqual(with1({ ...info, memorySize: 0x1000 }), [
    'section-address',
    'Section 4 (TD_INFO): address and memory size are to be zero, not 0x0 and 0x1000',
  ])
  assert.deepEqual(with1({ ...info, type: 8, gpa: 0x1000 }), [
    'section-address',
    'Section 4 (TD_PARAMS): address and memory size are to be zero, not 0x1000 and 0x0',
  ])
})

test('intel-tdx.md f.1: which sections there must be, may be, and may not', () => {
  assert.deepEqual(with1({ type: 9 }), ['section-type', 'Section 4: unsupported section type 9'])
  assert.deepEqual(with1({ type: 0xffffffff }), ['section-type', 'Section 4: unsupported section type 4294967295'])
  const none = ['tdvf-no-bfv', 'The metadata has no boot firmware volume (section type 0).']
  assert.deepEqual(broken({ sections: STANDARD.slice(1) }), none)
  assert.deepEqual(broken({ sections: [] }), none)
  assert.deepEqual(with1({ type: TYPE.CFV, gpa: 0x100000, dataSize: 1, memorySize: 0x1000 }), [
    'section-repeated',
    'The metadata has more than one CFV section.',
  ])
  assert.deepEqual(with1({ type: TYPE.TD_HOB, gpa: 0x100000, memorySize: 0x1000 }), [
    'section-repeated',
    'The metadata has more than one TD_HOB section.',
  ])
})

test('intel-tdx.md f.1: sections do not overlap', () => {
  const stack = { type: TYPE.TempMem, gpa: 0x811000, memorySize: 0x1000 }
  assert.deepEqual(with1(stack), ['section-overlap', 'Sections 2 and 4 overlap.'])
  const around = { type: TYPE.TempMem, gpa: 0x800000, memorySize: 0x100000 }
  assert.equal(with1(around)[0], 'section-overlap')
  assert.equal(parsed(tdvfImage({ sections: [...STANDARD, { ...stack, gpa: 0x812000 }] })).length, 5)
  assert.equal(parsed(tdvfImage({ sections: [...STANDARD, { ...stack, memorySize: 0 }] })).length, 5)
})

test('the parser never throws, whatever the bytes', () => {
  const total = (image: Uint8Array) => assert.equal(typeof parseTdvf(image).ok, 'boolean')
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (bytes) => total(bytes)),
    { numRuns: 500 },
  )
  const small = { bytes: 0x1000, at: 0x400, sections: STANDARD }
  const change = fc.tuple(fc.integer({ min: 0x3f0, max: 0x4a0 }), fc.integer({ min: 0, max: 255 }))
  const tail = fc.tuple(fc.integer({ min: 0xfb0, max: 0xfff }), fc.integer({ min: 0, max: 255 }))
  const form = fc.constantFrom('guid-table' as const, 'file-offset' as const)
  fc.assert(
    fc.property(form, fc.array(fc.oneof(change, tail), { maxLength: 6 }), (one, changes) => {
      const image = tdvfImage({ ...small, form: one })
      for (const [at, byte] of changes) image[at] = byte
      total(image)
    }),
    { numRuns: 1000 },
  )
})

test('a truncated image is refused or read, at every length', () => {
  const image = tdvfImage({ bytes: 0x1000, at: 0x400, sections: [{ ...STANDARD[0], dataOffset: 0, dataSize: 1 }] })
  for (let length = 0; length < image.length; length += 7) assert.equal(parseTdvf(image.subarray(0, length)).ok, false)
  assert.equal(parseTdvf(image).ok, true)
})

test('as many sections as are read take no time to speak of', () => {
  const sections = Array.from(
    { length: 1024 },
    (_, n): TestSection => (n === 0 ? { ...STANDARD[0] } : { type: TYPE.TempMem, gpa: n * 0x2000, memorySize: 0x2000 }),
  )
  assert.equal(parsed(tdvfImage({ bytes: 0x10000, at: 0x4000, sections })).length, 1024)
})
