import { createPublicKey, hash, type KeyObject, verify, X509Certificate } from 'node:crypto'
import { parseQuote } from '../../../../src/hw/tdx/evidence/quote-parser.ts'

/** What a verifier checks of a quote, in its order (intel-tdx.md e.4); the first that fails, or "verified". */
export type Verdict =
  | 'verified'
  | 'root'
  | 'chain'
  | 'qe-report-signature'
  | 'qe-binding'
  | 'signature'
  | `parse: ${string}`

/** Verifies with Node's own cryptography, which shares nothing with what signs. `root` is the trusted one, DER. */
export function verifyQuote(bytes: Uint8Array, root: Uint8Array): Verdict {
  const parsed = parseQuote(bytes)
  if (!parsed.ok) return `parse: ${parsed.refusal.field}`
  const { quote, signedBytes } = parsed
  const [leaf, authority, anchor] = chainOf(quote.pckChain)
  if (leaf === undefined || authority === undefined || anchor === undefined) return 'chain'
  if (!anchor.raw.equals(root)) return 'root'
  if (!isIssuedBy(leaf, authority) || !isIssuedBy(authority, anchor) || !isIssuedBy(anchor, anchor)) return 'chain'
  if (!isSigned(quote.qeReport, quote.qeReportSignature, leaf.publicKey)) return 'qe-report-signature'
  const bound = hash('sha256', Buffer.concat([quote.attestationKey, quote.authData]), 'buffer')
  if (!Buffer.concat([bound, Buffer.alloc(32)]).equals(quote.qeReport.subarray(320))) return 'qe-binding'
  const key = attestationKey(quote.attestationKey)
  return isSigned(bytes.subarray(0, signedBytes), quote.signature, key) ? 'verified' : 'signature'
}

export function chainOf(pem: Uint8Array): X509Certificate[] {
  const blocks = Buffer.from(pem)
    .toString('latin1')
    .match(/-----BEGIN CERTIFICATE-----[^-]*-----END CERTIFICATE-----/g)
  try {
    return (blocks ?? []).map((block) => new X509Certificate(block))
  } catch {
    return []
  }
}

const isIssuedBy = (certificate: X509Certificate, issuer: X509Certificate): boolean =>
  certificate.checkIssued(issuer) && certificate.verify(issuer.publicKey)

const isSigned = (message: Uint8Array, signature: Uint8Array, key: KeyObject): boolean =>
  verify('sha256', message, { key, dsaEncoding: 'ieee-p1363' }, signature)

function attestationKey(point: Uint8Array): KeyObject {
  const text = (from: number, to: number): string => Buffer.from(point.subarray(from, to)).toString('base64url')
  return createPublicKey({ key: { kty: 'EC', crv: 'P-256', x: text(0, 32), y: text(32, 64) }, format: 'jwk' })
}
