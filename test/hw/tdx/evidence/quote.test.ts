import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { buildContents, buildQuote, type Quote } from '../../../../src/hw/tdx/evidence/quote.ts'
import { parseQuote } from '../../../../src/hw/tdx/evidence/quote-parser.ts'
import { describeQuote } from '../../../../src/hw/tdx/evidence/quote-view.ts'
import { anyQuote, QUOTE, QUOTE_V5, QUOTE_V5_TDX_1_0 } from './samples.ts'

const build = (quote: Quote): Buffer => buildQuote(buildContents(quote), quote)
const fieldRefused = (bytes: Uint8Array): string => {
  const parsed = parseQuote(bytes)
  return parsed.ok ? 'accepted' : parsed.refusal.field
}

const BODY_FIELDS: readonly (readonly [number, string])[] = [
  [0, '11'.repeat(16)],
  [16, '12'.repeat(48)],
  [64, '13'.repeat(48)],
  [112, '14'.repeat(8)],
  [120, '0000001000000000'],
  [128, 'e718060000000000'],
  [136, '21'.repeat(48)],
  [184, '22'.repeat(48)],
  [232, '23'.repeat(48)],
  [280, '24'.repeat(48)],
  [328, '30'.repeat(48)],
  [376, '31'.repeat(48)],
  [424, '32'.repeat(48)],
  [472, '33'.repeat(48)],
  [520, '02'.repeat(64)],
]
const TDX_1_5_FIELDS: readonly (readonly [number, string])[] = [
  [584, '15'.repeat(16)],
  [600, '16'.repeat(48)],
]
/** 650 bytes: after two of the type and four of the size, 384 + 64 + 2 + 32 + 2 + 4 + 100 of certification. */
const SIGNATURE_DATA = [
  '51'.repeat(64),
  '52'.repeat(64),
  `0600${'4c020000'}`,
  '53'.repeat(384),
  '54'.repeat(64),
  `2000${'55'.repeat(32)}`,
  '050064000000',
  '56'.repeat(100),
].join('')

for (const [name, quote, start, head, body, signed] of [
  ['v4', QUOTE, 48, '', BODY_FIELDS, 632],
  ['v5 with a body of type 2', QUOTE_V5_TDX_1_0, 54, '020048020000', BODY_FIELDS, 638],
  ['v5 with a body of type 3', QUOTE_V5, 54, '030088020000', [...BODY_FIELDS, ...TDX_1_5_FIELDS], 702],
] as const)
  test(`e.4: a ${name} quote lies in memory field by field, and ${signed} of its bytes are signed`, () => {
    const bytes = build(quote)
    const text = (from: number, to: number): string => bytes.subarray(from, to).toString('hex')
    assert.equal(text(0, 48), `0${quote.version}0002008100000000000000${'41'.repeat(16)}${'42'.repeat(20)}`)
    assert.equal(text(48, start), head)
    for (const [at, expected] of body)
      assert.equal(text(start + at, start + at + expected.length / 2), expected, `body at ${at}`)
    let end: number = start
    for (const [, expected] of body) end += expected.length / 2
    assert.equal(end, signed, 'the body has no gap')
    assert.equal(buildContents(quote).length, signed)
    assert.equal(bytes.readUInt32LE(signed), SIGNATURE_DATA.length / 2)
    assert.equal(text(signed + 4, bytes.length), SIGNATURE_DATA)

    const parsed = parseQuote(bytes)
    assert.ok(parsed.ok)
    assert.deepEqual([parsed.signedBytes, parsed.length], [signed, bytes.length])
  })

test('e.4: reading a quote is the inverse of building it', () => {
  fc.assert(
    fc.property(anyQuote, (quote) => {
      const bytes = build(quote)
      assert.deepEqual(parseQuote(bytes), {
        ok: true,
        quote,
        signedBytes: buildContents(quote).length,
        length: bytes.length,
      })
    }),
  )
})

test('e.4: what follows a quote in a driver’s buffer is not read', () => {
  for (const quote of [QUOTE, QUOTE_V5]) {
    const bytes = build(quote)
    const parsed = parseQuote(Buffer.concat([bytes, Buffer.alloc(39, 0xff)]))
    assert.deepEqual(parsed, parseQuote(bytes))
  }
})

test('e.4: a quote cut anywhere is refused with the name of the field that is cut', () => {
  const cut = (bytes: Buffer, length: number): string => fieldRefused(bytes.subarray(0, length))
  for (const quote of [QUOTE, QUOTE_V5_TDX_1_0, QUOTE_V5]) {
    const bytes = build(quote)
    for (let length = 0; length < bytes.length; length++) assert.notEqual(cut(bytes, length), 'accepted', `${length}`)
  }
  const v4 = build(QUOTE)
  const ends: [number, string][] = [
    [2, 'header.version'],
    [4, 'header.attestationKeyType'],
    [8, 'header.teeType'],
    [12, 'header.reserved'],
    [28, 'header.qeVendorId'],
    [48, 'header.userData'],
    [632, 'body'],
    [636, 'signatureData.length'],
    [700, 'signature'],
    [764, 'attestationKey'],
    [766, 'certificationData.type'],
    [770, 'certificationData.size'],
    [1154, 'qeReport'],
    [1218, 'qeReportSignature'],
    [1220, 'authData.length'],
    [1252, 'authData'],
    [1254, 'pckChain.type'],
    [1258, 'pckChain.size'],
    [1358, 'pckChain'],
  ]
  assert.equal(v4.length, 1358)
  for (const [end, field] of ends) assert.equal(cut(v4, end - 1), field)
  const v5 = build(QUOTE_V5)
  assert.deepEqual(
    [49, 53, 701].map((length) => cut(v5, length)),
    ['body.type', 'body.size', 'body'],
  )
})

test('e.4: a quote of another kind, or whose sizes do not fit each other, is refused with the field’s name', () => {
  const changed = (quote: Quote, at: number, ...values: number[]): Buffer => {
    const bytes = build(quote)
    bytes.set(values, at)
    return bytes
  }
  const wrong: [Quote, number, number[], string][] = [
    [QUOTE, 0, [3, 0], 'header.version'],
    [QUOTE, 0, [6, 0], 'header.version'],
    [QUOTE, 2, [3, 0], 'header.attestationKeyType'],
    [QUOTE, 4, [0, 0, 0, 0], 'header.teeType'],
    [QUOTE_V5, 48, [1, 0], 'body.type'],
    [QUOTE_V5, 48, [4, 0], 'body.type'],
    [QUOTE_V5, 48, [2, 0], 'body.size'],
    [QUOTE_V5_TDX_1_0, 48, [3, 0], 'body.size'],
    [QUOTE_V5, 50, [0xff, 0xff, 0xff, 0xff], 'body.size'],
    [QUOTE, 632, [0, 0, 0, 0], 'certificationData.size'],
    [QUOTE, 632, [0xff, 0xff, 0xff, 0xff], 'certificationData.size'],
    [QUOTE, 764, [1, 0], 'certificationData.type'],
    [QUOTE, 766, [0xff, 0xff, 0xff, 0xff], 'certificationData.size'],
    [QUOTE, 766, [0x4b], 'certificationData.size'],
    [QUOTE, 1218, [0xff, 0xff], 'authData'],
    [QUOTE, 1218, [0, 0], 'pckChain.type'],
    [QUOTE, 1252, [1, 0], 'pckChain.type'],
    [QUOTE, 1254, [0xff, 0xff, 0xff, 0xff], 'pckChain.size'],
    [QUOTE, 1254, [99, 0, 0, 0], 'pckChain.size'],
  ]
  for (const [quote, at, values, field] of wrong)
    assert.equal(fieldRefused(changed(quote, at, ...values)), field, `${values} at ${at} of v${quote.version}`)
})

test('e.4: no bytes make the parser throw', () => {
  const quotes = [QUOTE, QUOTE_V5_TDX_1_0, QUOTE_V5].map(build)
  const mutation = fc.record({ at: fc.nat({ max: 1430 }), value: fc.nat({ max: 255 }) })
  fc.assert(
    fc.property(
      fc.constantFrom(...quotes),
      fc.array(mutation, { maxLength: 8 }),
      fc.nat({ max: 1430 }),
      (quote, some, length) => {
        const bytes = Buffer.from(quote)
        for (const { at, value } of some) bytes[at] = value
        const described = describeQuote(bytes.subarray(0, length))
        assert.ok(described.ok || described.refusal.detail.length > 0)
      },
    ),
    { numRuns: 500 },
  )
  fc.assert(fc.property(fc.uint8Array({ maxLength: 2000 }), (noise) => void describeQuote(noise)))
})

test('a quote’s fields are described as text', () => {
  const described = describeQuote(build(QUOTE_V5))
  assert.ok(described.ok)
  const { fields } = described
  assert.equal(fields.version, 5)
  assert.equal(fields.teeType, '0x81')
  assert.equal(fields.tdAttributes, '0x10000000')
  assert.equal(fields.xfam, '0x618e7')
  assert.equal(fields.seamAttributes, '0x1414141414141414')
  assert.equal(fields.mrtd, '21'.repeat(48))
  assert.deepEqual(
    fields.rtmrs,
    [0x30, 0x31, 0x32, 0x33].map((value) => Buffer.alloc(48, value).toString('hex')),
  )
  assert.equal(fields.mrservicetd, '16'.repeat(48))
  assert.deepEqual(fields.qe, {
    cpusvn: '53'.repeat(16),
    attributes: '53'.repeat(16),
    mrenclave: '53'.repeat(32),
    mrsigner: '53'.repeat(32),
    isvProdId: 0x5353,
    isvSvn: 0x5353,
    reportData: '53'.repeat(64),
  })
  const v4 = describeQuote(build(QUOTE))
  assert.equal(v4.ok && 'mrservicetd' in v4.fields, false)
})
