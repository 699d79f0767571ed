import { type FieldReader, fieldReader, type Refused } from './field-reader.ts'
import { QE_REPORT_BYTES } from './qe-report.ts'
import {
  ATTESTATION_KEY_ECDSA_P256,
  BODY_TDX_1_0,
  BODY_TDX_1_5,
  CERTIFICATION_PCK_CHAIN,
  CERTIFICATION_QE_REPORT,
  type Quote,
  type QuoteContents,
  type QuoteSignature,
  readBody,
} from './quote.ts'
import { TEE_TYPE_TDX } from './tdreport.ts'

/** `signedBytes` of the input are signed; the quote has `length` bytes, and what follows in a driver's buffer isn't its own. */
export type ParsedQuote = {
  readonly ok: true
  readonly quote: Quote
  readonly signedBytes: number
  readonly length: number
}

const SIGNATURE_BYTES = 64
const KEY_BYTES = 64
/** A type (2 bytes) and a size (4). */
const DATA_HEAD = 6
const BEFORE_CERTIFICATION = SIGNATURE_BYTES + KEY_BYTES + DATA_HEAD
const BESIDE_AUTH_DATA = QE_REPORT_BYTES + SIGNATURE_BYTES + 2 + DATA_HEAD

/**
 * Reads a quote of version 4, or 5 with a body of type 2 or 3 (intel-tdx.md e.4). Any bytes are safe: what is truncated, of an unknown
 * kind or of sizes that don't fit each other is refused with the field's name. Checks no signature and no certificate.
 */
export function parseQuote(buffer: Uint8Array): ParsedQuote | Refused {
  const reader = fieldReader(buffer)
  const header = readHeader(reader)
  const body = header.version === 4 ? reader.take('body', BODY_TDX_1_0.size) : readTypedBody(reader)
  const signedBytes = reader.position
  const signature = readSignatureData(reader)
  const { refusal, position: length } = reader
  if (refusal !== undefined) return { ok: false, refusal }
  return { ok: true, quote: { ...header, body: readBody(body), ...signature }, signedBytes, length }
}

function readHeader(reader: FieldReader): Omit<QuoteContents, 'body'> {
  const version = reader.u16('header.version')
  reader.require('header.version', version === 4 || version === 5, `Quotes of version ${version} are not known.`)
  const keyType = reader.u16('header.attestationKeyType')
  reader.require(
    'header.attestationKeyType',
    keyType === ATTESTATION_KEY_ECDSA_P256,
    `Attestation key type ${keyType} is not ECDSA P-256, ${ATTESTATION_KEY_ECDSA_P256}.`,
  )
  const teeType = reader.u32('header.teeType')
  reader.require('header.teeType', teeType === TEE_TYPE_TDX, `TEE type ${teeType} is not TDX, ${TEE_TYPE_TDX}.`)
  reader.take('header.reserved', 4)
  return {
    version: version === 4 ? 4 : 5,
    qeVendorId: reader.take('header.qeVendorId', 16),
    userData: reader.take('header.userData', 20),
  }
}

function readTypedBody(reader: FieldReader): Uint8Array {
  const type = reader.u16('body.type')
  const kind = [BODY_TDX_1_0, BODY_TDX_1_5].find((known) => known.type === type)
  reader.require('body.type', kind !== undefined, `Body type ${type} is not a TD's.`)
  const size = reader.u32('body.size')
  reader.require('body.size', size === kind?.size, `A body of type ${type} does not have ${size} bytes.`)
  return reader.take('body', size)
}

function readSignatureData(reader: FieldReader): QuoteSignature {
  const length = reader.u32('signatureData.length')
  const signature = reader.take('signature', SIGNATURE_BYTES)
  const attestationKey = reader.take('attestationKey', KEY_BYTES)
  const type = reader.u16('certificationData.type')
  reader.require(
    'certificationData.type',
    type === CERTIFICATION_QE_REPORT,
    `Certification data of type ${type} is not a QE report's, ${CERTIFICATION_QE_REPORT}.`,
  )
  const size = reader.u32('certificationData.size')
  requireSize(reader, 'certificationData.size', size, length - BEFORE_CERTIFICATION)
  return { signature, attestationKey, ...readCertification(reader, size) }
}

function readCertification(reader: FieldReader, size: number): Omit<QuoteSignature, 'signature' | 'attestationKey'> {
  const qeReport = reader.take('qeReport', QE_REPORT_BYTES)
  const qeReportSignature = reader.take('qeReportSignature', SIGNATURE_BYTES)
  const authLength = reader.u16('authData.length')
  const authData = reader.take('authData', authLength)
  const type = reader.u16('pckChain.type')
  reader.require(
    'pckChain.type',
    type === CERTIFICATION_PCK_CHAIN,
    `Certification data of type ${type} is not a PCK chain in PEM, ${CERTIFICATION_PCK_CHAIN}.`,
  )
  const chainSize = reader.u32('pckChain.size')
  requireSize(reader, 'pckChain.size', chainSize, size - BESIDE_AUTH_DATA - authLength)
  return { qeReport, qeReportSignature, authData, pckChain: reader.take('pckChain', chainSize) }
}

function requireSize(reader: FieldReader, field: string, size: number, room: number): void {
  reader.require(field, size === room, `${size} bytes do not fill the ${room} that the length before leaves.`)
}
