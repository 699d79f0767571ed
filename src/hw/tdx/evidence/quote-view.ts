import { hexOf, toHex } from '../../shared/hex.ts'
import type { Refused } from './field-reader.ts'
import { readQeReport } from './qe-report.ts'
import { ATTESTATION_KEY_ECDSA_P256, type QuoteBody } from './quote.ts'
import { parseQuote } from './quote-parser.ts'
import { TEE_TYPE_TDX } from './tdreport.ts'

/** A quote's fields as JSON: 64-bit words as hex strings with 0x, byte strings as plain hex in memory order. */
export function describeQuote(
  bytes: Uint8Array,
): { readonly ok: true; readonly fields: Readonly<Record<string, unknown>> } | Refused {
  const parsed = parseQuote(bytes)
  if (!parsed.ok) return parsed
  const { quote } = parsed
  const qe = readQeReport(quote.qeReport)
  return {
    ok: true,
    fields: {
      version: quote.version,
      attestationKeyType: ATTESTATION_KEY_ECDSA_P256,
      teeType: toHex(TEE_TYPE_TDX),
      qeVendorId: hexOf(quote.qeVendorId),
      userData: hexOf(quote.userData),
      ...describeBody(quote.body),
      signature: hexOf(quote.signature),
      attestationKey: hexOf(quote.attestationKey),
      qe: {
        cpusvn: hexOf(qe.cpusvn),
        attributes: hexOf(qe.attributes),
        mrenclave: hexOf(qe.mrenclave),
        mrsigner: hexOf(qe.mrsigner),
        isvProdId: qe.isvProdId,
        isvSvn: qe.isvSvn,
        reportData: hexOf(qe.reportData),
      },
      qeReportSignature: hexOf(quote.qeReportSignature),
      authData: hexOf(quote.authData),
    },
  }
}

const describeBody = (body: QuoteBody): Readonly<Record<string, unknown>> => ({
  teeTcbSvn: hexOf(body.teeTcbSvn),
  mrseam: hexOf(body.mrseam),
  mrsignerseam: hexOf(body.mrsignerseam),
  seamAttributes: toHex(body.seamAttributes),
  tdAttributes: toHex(body.attributes),
  xfam: toHex(body.xfam),
  mrtd: hexOf(body.mrtd),
  mrconfigid: hexOf(body.mrconfigid),
  mrowner: hexOf(body.mrowner),
  mrownerconfig: hexOf(body.mrownerconfig),
  rtmrs: body.rtmrs.map(hexOf),
  reportData: hexOf(body.reportData),
  ...(body.tdx15 && { teeTcbSvn2: hexOf(body.tdx15.teeTcbSvn2), mrservicetd: hexOf(body.tdx15.mrservicetd) }),
})
