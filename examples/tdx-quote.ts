import { createPublicKey, hash, type KeyObject, verify, X509Certificate } from 'node:crypto'

/** A quote of version 4: a header of 48 bytes and a body of 584 are signed, then comes what vouches for the signature. */
const SIGNED = 632
const BODY = 48
/** After the length of the rest: r and s, x and y of the attestation key, then the certification data. */
const SIGNATURE = SIGNED + 4
const KEY = SIGNATURE + 64
const QE_REPORT = KEY + 64 + 6
const QE_SIGNATURE = QE_REPORT + 384
const AUTH_LENGTH = QE_SIGNATURE + 64

export function parseQuote(quote: Buffer) {
  const register = (at: number): string => quote.toString('hex', BODY + at, BODY + at + 48)
  return {
    version: quote.readUInt16LE(0),
    mrtd: register(136),
    rtmrs: [328, 376, 424, 472].map(register),
    reportData: quote.subarray(BODY + 520, BODY + 584),
  }
}

/** The first link that breaks between the quote and its chain, of which the last certificate is to be trusted; or "none". */
export function brokenLink(quote: Buffer): 'QE report' | 'attestation key' | 'quote' | 'none' {
  const [leaf] = chainOf(quote)
  const qeReport = quote.subarray(QE_REPORT, QE_SIGNATURE)
  if (leaf === undefined || !isSigned(qeReport, quote.subarray(QE_SIGNATURE, AUTH_LENGTH), leaf.publicKey))
    return 'QE report'
  const bound = hash('sha256', Buffer.concat([quote.subarray(KEY, KEY + 64), authDataOf(quote)]), 'buffer')
  if (!bound.equals(qeReport.subarray(320, 352))) return 'attestation key'
  const signature = quote.subarray(SIGNATURE, KEY)
  return isSigned(quote.subarray(0, SIGNED), signature, attestationKey(quote)) ? 'none' : 'quote'
}

/** PCK certificate, its CA, the root: PEM, inside the quote. */
export function chainOf(quote: Buffer): X509Certificate[] {
  const blocks = quote.toString('latin1').match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g)
  return (blocks ?? []).map((block) => new X509Certificate(block))
}

const authDataOf = (quote: Buffer): Buffer =>
  quote.subarray(AUTH_LENGTH + 2, AUTH_LENGTH + 2 + quote.readUInt16LE(AUTH_LENGTH))

function attestationKey(quote: Buffer): KeyObject {
  const coordinate = (at: number): string => quote.toString('base64url', at, at + 32)
  const key = { kty: 'EC', crv: 'P-256', x: coordinate(KEY), y: coordinate(KEY + 32) }
  return createPublicKey({ key, format: 'jwk' })
}

const isSigned = (bytes: Buffer, signature: Buffer, key: KeyObject): boolean =>
  verify('sha256', bytes, { key, dsaEncoding: 'ieee-p1363' }, signature)

/** Where a TDREPORT has the hash over its second half, and that half: TDINFO. */
const TEE_INFO_HASH = 80
const TDINFO = 512

export const parseTdReport = (report: Buffer) => ({
  reportData: report.subarray(128, 192),
  mrtd: report.toString('hex', TDINFO + 16, TDINFO + 64),
  isWhole: hash('sha384', report.subarray(TDINFO), 'buffer').equals(report.subarray(TEE_INFO_HASH, TEE_INFO_HASH + 48)),
})
