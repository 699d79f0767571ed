import { view } from '../../shared/hex.ts'
import { type ByteField, readFields, writeFields } from './byte-fields.ts'
import { readSeamIdentity, SEAM_IDENTITY_BYTES, type SeamIdentity, writeSeamIdentity } from './seam-identity.ts'
import {
  readTdMeasurements,
  TD_MEASUREMENTS_BYTES,
  type TdMeasurements,
  writeTdMeasurements,
} from './td-measurements.ts'
import { REPORT_DATA_BYTES, TEE_TYPE_TDX } from './tdreport.ts'

export type QuoteVersion = 4 | 5

/** The only attestation key type there is: ECDSA P-256. */
export const ATTESTATION_KEY_ECDSA_P256 = 2
/** Certification data: the QE's report with its own certification data, and in that a PEM chain. */
export const CERTIFICATION_QE_REPORT = 6
export const CERTIFICATION_PCK_CHAIN = 5

const HEADER_BYTES = 48
/** A v5 body's type and size by whether it carries what TDX 1.5 added; v4 bodies are always of the first size. */
export const BODY_TDX_1_0 = { type: 2, size: 584 } as const
export const BODY_TDX_1_5 = { type: 3, size: 648 } as const

/** Header and body: all that is signed. */
export type QuoteContents = {
  readonly version: QuoteVersion
  /** 16 bytes. */
  readonly qeVendorId: Uint8Array
  /** 20 bytes. */
  readonly userData: Uint8Array
  readonly body: QuoteBody
}

/** `reportData` has 64 bytes. `tdx15` makes a v5 body type 3 instead of 2; a v4 quote has no place for it. */
export type QuoteBody = SeamIdentity &
  TdMeasurements & { readonly reportData: Uint8Array; readonly tdx15?: Tdx15Fields | undefined }
/** 16 and 48 bytes. */
export type Tdx15Fields = { readonly teeTcbSvn2: Uint8Array; readonly mrservicetd: Uint8Array }

export type QuoteSignature = {
  /** r ‖ s by the attestation key over the contents; 64 bytes. */
  readonly signature: Uint8Array
  /** x ‖ y, 64 bytes. */
  readonly attestationKey: Uint8Array
  /** 384 bytes. */
  readonly qeReport: Uint8Array
  /** r ‖ s by the PCK leaf key over the QE report; 64 bytes. */
  readonly qeReportSignature: Uint8Array
  /** 32 bytes as a rule, 65535 at most. */
  readonly authData: Uint8Array
  /** PEM text, leaf first. */
  readonly pckChain: Uint8Array
}
export type Quote = QuoteContents & QuoteSignature

const HEADER: readonly ByteField<'qeVendorId' | 'userData'>[] = [
  ['qeVendorId', 12, 16],
  ['userData', 28, 20],
]
const REPORT_DATA_AT = SEAM_IDENTITY_BYTES + TD_MEASUREMENTS_BYTES
const REPORT_DATA: readonly ByteField<'reportData'>[] = [['reportData', REPORT_DATA_AT, REPORT_DATA_BYTES]]
const TDX_1_5: readonly ByteField<keyof Tdx15Fields>[] = [
  ['teeTcbSvn2', BODY_TDX_1_0.size, 16],
  ['mrservicetd', BODY_TDX_1_0.size + 16, 48],
]

/** The signed bytes of a quote: 632 for v4, 702 for v5 with a body of type 3, 638 of type 2 (intel-tdx.md e.4). */
export function buildContents(contents: QuoteContents): Buffer {
  const { version, body } = contents
  const header = Buffer.alloc(HEADER_BYTES)
  header.writeUInt16LE(version, 0)
  header.writeUInt16LE(ATTESTATION_KEY_ECDSA_P256, 2)
  header.writeUInt32LE(TEE_TYPE_TDX, 4)
  writeFields(header, 0, HEADER, contents)
  if (version === 4) return Buffer.concat([header, buildBody(body, BODY_TDX_1_0.size)])
  const { type, size } = body.tdx15 === undefined ? BODY_TDX_1_0 : BODY_TDX_1_5
  return Buffer.concat([header, u16(type), u32(size), buildBody(body, size)])
}

/** A whole quote from its signed bytes and their signature (intel-tdx.md e.4). */
export function buildQuote(signed: Uint8Array, parts: QuoteSignature): Buffer {
  const certification = Buffer.concat([
    parts.qeReport,
    parts.qeReportSignature,
    u16(parts.authData.length),
    parts.authData,
    u16(CERTIFICATION_PCK_CHAIN),
    u32(parts.pckChain.length),
    parts.pckChain,
  ])
  const data = Buffer.concat([
    parts.signature,
    parts.attestationKey,
    u16(CERTIFICATION_QE_REPORT),
    u32(certification.length),
    certification,
  ])
  return Buffer.concat([signed, u32(data.length), data])
}

/** Reads the 584 or 648 bytes of a body. */
export const readBody = (bytes: Uint8Array): QuoteBody => ({
  ...readSeamIdentity(view(bytes), 0),
  ...readTdMeasurements(view(bytes), SEAM_IDENTITY_BYTES),
  ...readFields(bytes, 0, REPORT_DATA),
  ...(bytes.length === BODY_TDX_1_5.size && { tdx15: readFields(bytes, 0, TDX_1_5) }),
})

function buildBody(body: QuoteBody, size: number): Buffer {
  const bytes = Buffer.alloc(size)
  writeSeamIdentity(bytes, 0, body)
  writeTdMeasurements(bytes, SEAM_IDENTITY_BYTES, body)
  writeFields(bytes, 0, REPORT_DATA, body)
  if (size === BODY_TDX_1_5.size && body.tdx15 !== undefined) writeFields(bytes, 0, TDX_1_5, body.tdx15)
  return bytes
}

function u16(value: number): Buffer {
  const bytes = Buffer.alloc(2)
  bytes.writeUInt16LE(value)
  return bytes
}

function u32(value: number): Buffer {
  const bytes = Buffer.alloc(4)
  bytes.writeUInt32LE(value)
  return bytes
}
