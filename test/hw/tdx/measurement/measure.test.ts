import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { measurer } from '../../../../src/hw/tdx/measurement/measure.ts'
import { addBlock, extendBlocks, extendPageBlocks, rehash, sha384 } from './naive-mrtd.ts'
import { STANDARD, type TestSection, TYPE, tdvfImage } from './tdvf-image.ts'

type Answer = ReturnType<typeof JSON.parse>

function measured(inputs: Readonly<Record<string, unknown>>): Answer {
  const answer = measurer.measure(inputs)
  assert.ok(answer.ok, answer.ok ? '' : answer.refusal.detail)
  return answer.value
}

function refusal(inputs: Readonly<Record<string, unknown>>): readonly unknown[] {
  const answer = measurer.measure(inputs)
  assert.ok(!answer.ok, 'the inputs are measured')
  const { errno, code, detail, pointer } = answer.refusal
  assert.equal(errno, 'EINVAL')
  return [code, detail, pointer]
}

const statuses = (gpaw: number, ops: readonly unknown[]) => {
  const { steps } = measured({ gpaw, ops })
  return steps.map(({ status, done }: Answer) => [status.name, status.code, done])
}

const OK = ['TDX_SUCCESS', '0x0', 1]
const INVALID = ['TDX_OPERAND_INVALID', '0xc000010000000001', 0]
const STATE = ['TDX_EPT_ENTRY_STATE_INCORRECT', '0xc0000b0d00000001', 0]
const ABSENT = ['TDX_EPT_ENTRY_NOT_PRESENT', '0xc0000b0300000001', 0]
const OP_STATE = ['TDX_OP_STATE_INCORRECT', '0xc000060800000000', 0]
const NOT_BLOCKED = ['TDX_GPA_RANGE_NOT_BLOCKED', '0xc0000b0600000001', 0]

const add = (gpa: string | number, more = {}) => ({ op: 'PAGE.ADD', gpa, ...more })
const extend = (gpa: string | number, chunks = 1) => ({ op: 'MR.EXTEND', gpa, chunks })
const remove = (gpa: string | number) => ({ op: 'PAGE.REMOVE', gpa })
const finalize = { op: 'MR.FINALIZE' }

test('intel-tdx.md c.3: PAGE.ADD takes a free, aligned, private page', () => {
  assert.deepEqual(statuses(48, [add('0x1000'), add('0x1000'), add('0x1800'), add('0x2001')]), [
    OK,
    STATE,
    INVALID,
    INVALID,
  ])
})

test('intel-tdx.md d.1: private addresses end at the shared bit', () => {
  assert.deepEqual(statuses(48, [add('0x7ffffffff000'), add('0x800000000000'), add('0x1000000000000')]), [
    OK,
    INVALID,
    INVALID,
  ])
  const wide = [add('0x7fffffffff000'), add('0x8000000000000'), add('0xfffffffffffff000'), extend('0xffffffffffffff00')]
  assert.deepEqual(statuses(52, wide), [OK, INVALID, INVALID, INVALID])
})

test('intel-tdx.md c.3: MR.EXTEND takes 256 aligned bytes of a page that is there', () => {
  const ops = [extend('0x1000'), add('0x1000'), extend('0x1f00'), extend('0x1f80'), extend('0x2000')]
  assert.deepEqual(statuses(48, ops), [ABSENT, OK, OK, INVALID, ABSENT])
})

test('intel-tdx.md c.3: PAGE.REMOVE takes a mapped page, and does not undo what it measured', () => {
  const ops = [remove('0x1000'), add('0x1000'), remove('0x1000'), remove('0x1000'), extend('0x1000'), add('0x1000')]
  assert.deepEqual(statuses(48, ops), [STATE, OK, OK, STATE, ABSENT, OK])
  const { mrtd } = measured({ gpaw: 48, ops })
  assert.equal(mrtd, sha384([addBlock(0x1000n), addBlock(0x1000n)]))
})

test('intel-tdx.md c.3: PAGE.REMOVE of a table, of a level that is none, and beside one', () => {
  const ops = [add('0x200000'), remove('0x200001'), remove('0x200003'), remove('0x1001'), remove('0x200008')]
  assert.deepEqual(statuses(48, ops), [OK, STATE, INVALID, INVALID, INVALID])
  assert.deepEqual(statuses(48, [remove('0x40000002'), remove('0x200002'), remove('0x800000000000')]), [
    STATE,
    INVALID,
    INVALID,
  ])
})

test('intel-tdx.md a.3, c.4: after MR.FINALIZE nothing is measured, and removing needs blocking', () => {
  const ops = [add('0x1000'), finalize, add('0x2001'), extend('0x80'), finalize, remove('0x1000'), remove('0x2000')]
  assert.deepEqual(statuses(48, ops), [OK, OK, OP_STATE, OP_STATE, OP_STATE, NOT_BLOCKED, STATE])
  const { mrtd, finalized, statuses: names } = measured({ gpaw: 48, ops })
  assert.deepEqual([mrtd, finalized], [sha384([addBlock(0x1000n)]), true])
  assert.deepEqual(names.slice(4), [
    'TDX_OP_STATE_INCORRECT',
    'TDX_GPA_RANGE_NOT_BLOCKED|RCX',
    'TDX_EPT_ENTRY_STATE_INCORRECT|RCX',
  ])
})

test('an op of many pages or chunks stops at the first that is refused, and keeps what it did', () => {
  const ops = [add('0x3000'), add('0x1000', { pages: 4, content: { fill: 9 } }), extend('0x2f00', 20)]
  assert.deepEqual(statuses(48, ops), [OK, [STATE[0], STATE[1], 2], [ABSENT[0], ABSENT[1], 17]])
  const nine = Buffer.alloc(256, 9)
  const blocks = [addBlock(0x3000n), addBlock(0x1000n), addBlock(0x2000n), extendBlocks(0x2f00n, nine)]
  const zeros = extendPageBlocks(0x3000n, Buffer.alloc(4096))
  const { mrtd, finalized } = measured({ gpaw: 48, ops })
  assert.deepEqual([mrtd, finalized], [sha384([...blocks, zeros]), false])
})

test('what a page of an op may hold', () => {
  const digestOf = (content: unknown) =>
    measured({ gpaw: 48, ops: [add(0, content === undefined ? {} : { content }), extend(0, 16)] }).mrtd
  const of = (bytes: Uint8Array) => sha384([addBlock(0n), extendPageBlocks(0n, bytes)])
  assert.equal(digestOf(undefined), of(Buffer.alloc(0)))
  assert.equal(digestOf({ fill: 7 }), of(Buffer.alloc(4096, 7)))
  assert.equal(digestOf({ hex: '0005ff' }), of(Buffer.from([0, 5, 255])))
  assert.equal(digestOf({ counter: 250 }), of(Buffer.from(Array.from({ length: 4096 }, (_, n) => (250 + n) & 0xff))))
  assert.equal(digestOf(Buffer.alloc(4096, 1)), of(Buffer.alloc(4096, 1)))
  const tooLong = { gpaw: 48, ops: [finalize, add(0, { content: new Uint8Array(4097) })] }
  assert.deepEqual(refusal(tooLong), ['content-too-long', 'A page holds 4096 bytes.', '/inputs/ops/1/content'])
})

test('how much one measurement of ops may ask for', () => {
  const pages = (count: number) => ({
    gpaw: 48,
    ops: [add(0, { pages: 65536 }), add('0x7ffffff00000', { pages: count })],
  })
  assert.deepEqual(refusal(pages(1)), [
    'ops-too-many',
    'The ops add 65537 pages; at most 65536 are measured at once.',
    '/inputs/ops',
  ])
  assert.deepEqual(refusal({ gpaw: 48, ops: [extend(0, 131072), extend(0)] }), [
    'ops-too-many',
    'The ops extend 131073 chunks; at most 131072 are measured at once.',
    '/inputs/ops',
  ])
  const seeds = Array.from({ length: 513 }, () => add(0, { content: { seed: '' } }))
  assert.deepEqual(refusal({ gpaw: 48, ops: seeds }), [
    'ops-too-many',
    'The ops give 513 seeds; at most 512 are measured at once.',
    '/inputs/ops',
  ])
  assert.equal(measured({ gpaw: 48, ops: seeds.slice(1) }).steps.length, 512)
})

test('intel-tdx.md e.1: the ops of a loader with a page of our own in place of its reset page', () => {
  const parameters = Buffer.from([0, 5])
  const reset = Buffer.alloc(4096, 0x90)
  const ops: unknown[] = []
  const blocks: Buffer[] = []
  for (const [gpa, bytes] of [
    [0n, parameters],
    [0x1000n, Buffer.alloc(0)],
    [0xfffff000n, reset],
  ] as const) {
    ops.push(add(`0x${gpa.toString(16)}`, { content: bytes }), extend(`0x${gpa.toString(16)}`, 16))
    blocks.push(addBlock(gpa), extendPageBlocks(gpa, bytes))
  }
  assert.equal(measured({ gpaw: 48, ops: [...ops, finalize] }).mrtd, sha384(blocks))
})

test('intel-tdx.md e.1: the block of one call', () => {
  assert.equal(measured({ op: 'MEM.PAGE.ADD', gpa: '0xffffffffff000' }).hex, addBlock(0xffffffffff000n).toString('hex'))
  assert.deepEqual(refusal({ op: 'MEM.PAGE.ADD', gpa: '0x100' }), [
    'gpa',
    'MEM.PAGE.ADD takes an aligned address below 2^52.',
    '/inputs/gpa',
  ])
  assert.equal(refusal({ op: 'MR.EXTEND', gpa: '0x80' })[0], 'gpa')
  assert.equal(refusal({ op: 'MR.EXTEND', gpa: '0x10000000000000' })[0], 'gpa')
})

test('intel-tdx.md e.2: a register replayed from a value, or not at all', () => {
  const start = '11'.repeat(48)
  assert.deepEqual(measured({ digests: [], start }), { rtmr: start, steps: [] })
  const after = sha384([Buffer.alloc(48, 0x11), Buffer.alloc(48, 0x22)])
  const digest = '22'.repeat(48)
  assert.deepEqual(measured({ digests: [digest], start }), { rtmr: after, steps: [{ digest, rtmrAfter: after }] })
})

test('an image is measured as QEMU does it where nothing is said', () => {
  const image = tdvfImage()
  const answer = measured({ image })
  const { order, extend: extends_, vmm, tdHobGpa, pageAdds, extends: calls, warnings } = answer
  assert.deepEqual([order, extends_, vmm, tdHobGpa], ['interleaved', 'flagged', 'qemu', '0x809000'])
  assert.deepEqual([pageAdds, calls, warnings], [6, 32, []])
  assert.equal(rehash(answer.steps, { image }), answer.mrtd)
  assert.equal(measured({ image, vmm: 'kvm' }).mrtd, answer.mrtd)
  assert.equal(measured({ image, order: 'interleaved' }).mrtd, answer.mrtd)
  assert.equal(measured({ image, extend: 'flagged' }).vmm, undefined)
  assert.deepEqual(answer.sections[1], {
    type: 'CFV',
    gpa: '0xffffc000',
    pages: 1,
    attributes: '0x0',
    dataOffset: 0,
    dataLength: 2048,
  })
})

test('intel-tdx.md f.2: the TD_HOB that was measured by mistake', () => {
  const image = tdvfImage()
  const tdHob = Buffer.from('a hand-off block')
  const answer = measured({ image, tdHob, vmm: 'google-cloud-2024-tdhob-bug' })
  assert.deepEqual(answer.steps.at(-1).contents, { from: 'tdHob', offset: 0, length: 16 })
  assert.equal(rehash(answer.steps, { image, tdHob }), answer.mrtd)
  const zeros = measured({ image, extend: 'all' })
  assert.notEqual(zeros.mrtd, answer.mrtd)
  assert.match(zeros.warnings.at(-1), /^Section 3 \(TD_HOB\) is measured as zeros/)
  const missing = refusal({ image, vmm: 'google-cloud-2024-tdhob-bug' })
  assert.deepEqual([missing[0], missing[2]], ['td-hob-missing', '/inputs/tdHob'])
})

test('intel-tdx.md f.2: padding that calculators disagree on is warned of', () => {
  const [code, ...rest] = STANDARD
  const image = tdvfImage({ sections: [{ ...code, dataSize: 0x1801 }, ...rest] })
  assert.deepEqual(measured({ image }).warnings, [
    'Section 0 (BFV) is padded with zeros, as a VMM does it; some calculators read on into the file.',
  ])
})

test('what an image may not be, and where the refusal points', () => {
  const image = tdvfImage({ version: 2 })
  const detail = 'bad TDVF descriptor: version 2, and only 1 exists'
  assert.deepEqual(refusal({ image }), ['tdvf-descriptor', detail, '/inputs/image'])
  const patches = [[0, 'base64', image.toString('base64')]]
  assert.deepEqual(refusal({ imageSize: image.length, patches }), ['tdvf-descriptor', detail, '/inputs/patches'])
  assert.deepEqual(refusal({ image: tdvfImage(), vmm: 'qemu', order: 'interleaved' }), [
    'vmm-or-order',
    'A VMM has an order of its own: give vmm, or order and extend.',
    '/inputs/vmm',
  ])
})

test('a sparse image is zeros with patches over them', () => {
  const image = tdvfImage()
  const patches = [
    [0, 'hex', 'ff'.repeat(16)],
    [0, 'hex', image.subarray(0, 0x1000).toString('hex')],
    [0x1000, 'base64', image.subarray(0x1000).toString('base64')],
  ]
  assert.equal(measured({ imageSize: image.length, patches }).mrtd, measured({ image }).mrtd)
  const one = (patch: unknown[]) => refusal({ imageSize: 4096, patches: [patch] }).slice(0, 3)
  const wrong = ['patch', 'A patch is [offset, "hex" or "base64", data].', '/inputs/patches/0']
  for (const patch of [
    [0, 'hex', 'f'],
    [0, 'base64', 'A==='],
    [0, 'utf8', 'x'],
    [0, 'constructor', 'x'],
    ['0', 'hex', ''],
    [0, 'hex', 5],
    [0, 7, ''],
  ])
    assert.deepEqual(one(patch), wrong)
  assert.deepEqual(one([4096, 'hex', '00']), [
    'patch-outside',
    "The patch ends beyond the image's 4096 bytes.",
    '/inputs/patches/0',
  ])
})

const section = fc.record({
  pages: fc.integer({ min: 1, max: 3 }),
  gap: fc.integer({ min: 0, max: 2 ** 27 }),
  dataPages: fc.integer({ min: 0, max: 3 }),
  cut: fc.integer({ min: 0, max: 4095 }),
  measured: fc.boolean(),
})

test('intel-tdx.md e.1, f.2: every order of any sections hashes as the calls written out do', () => {
  fc.assert(
    fc.property(fc.array(section, { minLength: 1, maxLength: 6 }), (drawn) => {
      const sections: TestSection[] = []
      let gpa = 0
      for (const { pages, gap, dataPages, cut, measured: flagged } of drawn) {
        gpa += gap * 4096
        const dataSize = Math.max(1, Math.min(pages, dataPages) * 4096 - cut)
        sections.push({ type: TYPE.BFV, gpa, memorySize: pages * 4096, dataSize, attributes: flagged ? 1 : 0 })
        gpa += pages * 4096
      }
      const image = tdvfImage({ sections })
      for (const [order, calls] of Object.entries(callsOf(sections, image)))
        assert.equal(measured({ image, order }).mrtd, sha384(calls), order)
    }),
    { numRuns: 60 },
  )
})

/** The blocks of each order, page by page, out of sections that all start at the beginning of the image. */
function callsOf(sections: readonly TestSection[], image: Buffer): Readonly<Record<string, Buffer[]>> {
  const pagesOf = ({ gpa = 0, memorySize = 0, dataSize, attributes }: TestSection) =>
    Array.from({ length: Number(memorySize) / 4096 }, (_, page) => {
      const at = BigInt(gpa) + BigInt(page * 4096)
      const extension = attributes === 1 ? [extendPageBlocks(at, image.subarray(page * 4096, dataSize))] : []
      return { added: addBlock(at), extension }
    })
  const all = sections.map(pagesOf)
  return {
    interleaved: all.flat().flatMap(({ added, extension }) => [added, ...extension]),
    'two-pass-section': all.flatMap((pages) => [
      ...pages.map(({ added }) => added),
      ...pages.flatMap(({ extension }) => extension),
    ]),
    'two-pass-image': [...all.flat().map(({ added }) => added), ...all.flat().flatMap(({ extension }) => extension)],
  }
}
