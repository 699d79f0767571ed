import fc from 'fast-check'
import type { Quote, QuoteBody } from '../../../../src/hw/tdx/evidence/quote.ts'
import type { TdInfo, TdReportInput, TeeTcbInfo } from '../../../../src/hw/tdx/evidence/tdreport.ts'

/** `length` bytes of one value: a field that is easy to find again. */
export const filled = (length: number, value: number): Uint8Array => new Uint8Array(length).fill(value)

export const SEED = 'a host of the test'

export const TD: TdInfo = {
  attributes: 0x10000000n,
  xfam: 0x618e7n,
  mrtd: filled(48, 0x21),
  mrconfigid: filled(48, 0x22),
  mrowner: filled(48, 0x23),
  mrownerconfig: filled(48, 0x24),
  rtmrs: [filled(48, 0x30), filled(48, 0x31), filled(48, 0x32), filled(48, 0x33)],
  servtdHash: filled(48, 0),
}

const TEE_TCB_INFO: TeeTcbInfo = {
  valid: 0x301ffn,
  teeTcbSvn: filled(16, 0x11),
  mrseam: filled(48, 0x12),
  mrsignerseam: filled(48, 0x13),
  seamAttributes: 0x1414141414141414n,
  teeTcbSvn2: filled(16, 0x15),
}

export const REPORT: TdReportInput = {
  cpusvn: filled(16, 0x01),
  reportData: filled(64, 0x02),
  teeTcbInfo: TEE_TCB_INFO,
  tdInfo: TD,
}

const { valid: _, teeTcbSvn2, ...seam } = TEE_TCB_INFO
const { servtdHash: __, ...measurements } = TD

export const BODY: QuoteBody = { ...seam, ...measurements, reportData: filled(64, 0x02) }

export const QUOTE: Quote = {
  version: 4,
  qeVendorId: filled(16, 0x41),
  userData: filled(20, 0x42),
  body: BODY,
  signature: filled(64, 0x51),
  attestationKey: filled(64, 0x52),
  qeReport: filled(384, 0x53),
  qeReportSignature: filled(64, 0x54),
  authData: filled(32, 0x55),
  pckChain: filled(100, 0x56),
}
export const QUOTE_V5_TDX_1_0: Quote = { ...QUOTE, version: 5 }
export const QUOTE_V5: Quote = {
  ...QUOTE_V5_TDX_1_0,
  body: { ...BODY, tdx15: { teeTcbSvn2, mrservicetd: filled(48, 0x16) } },
}

const bytes = (length: number) => fc.uint8Array({ minLength: length, maxLength: length })
const word = fc.bigInt({ min: 0n, max: 0xffffffffffffffffn })
/** Records with the prototype that parsed objects have. */
const plain = <T>(fields: { [name in keyof T]: fc.Arbitrary<T[name]> }): fc.Arbitrary<T> =>
  fc.record(fields, { noNullPrototype: true })
const seamIdentity = { teeTcbSvn: bytes(16), mrseam: bytes(48), mrsignerseam: bytes(48), seamAttributes: word }
const tdMeasurements = {
  attributes: word,
  xfam: word,
  mrtd: bytes(48),
  mrconfigid: bytes(48),
  mrowner: bytes(48),
  mrownerconfig: bytes(48),
  rtmrs: fc.tuple(bytes(48), bytes(48), bytes(48), bytes(48)),
}

export const anyReport: fc.Arbitrary<TdReportInput> = plain({
  cpusvn: bytes(16),
  reportData: bytes(64),
  teeTcbInfo: plain({ valid: word, teeTcbSvn2: bytes(16), ...seamIdentity }),
  tdInfo: plain({ servtdHash: fc.oneof(bytes(48), fc.constant(filled(48, 0))), ...tdMeasurements }),
})

const anyBody = plain({ ...seamIdentity, ...tdMeasurements, reportData: bytes(64) })
const anyTdx15 = plain({ teeTcbSvn2: bytes(16), mrservicetd: bytes(48) })
const anyContents = fc.oneof(
  plain({ version: fc.constantFrom(4 as const, 5 as const), body: anyBody }),
  plain({ version: fc.constant(5 as const), body: fc.tuple(anyBody, anyTdx15) }).map(({ version, body }) => ({
    version,
    body: { ...body[0], tdx15: body[1] },
  })),
)
export const anyQuote: fc.Arbitrary<Quote> = fc
  .tuple(
    anyContents,
    plain({
      qeVendorId: bytes(16),
      userData: bytes(20),
      signature: bytes(64),
      attestationKey: bytes(64),
      qeReport: bytes(384),
      qeReportSignature: bytes(64),
      authData: fc.uint8Array({ maxLength: 100 }),
      pckChain: fc.uint8Array({ maxLength: 300 }),
    }),
  )
  .map(([contents, parts]) => ({ ...contents, ...parts }))
