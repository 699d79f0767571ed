import { p256, type Signature } from '../../shared/ecdsa.ts'
import type { PckChain } from './certificates.ts'
import { type Refused, refused } from './field-reader.ts'
import type { Platform } from './platform.ts'
import { buildQeReport, qeBinding } from './qe-report.ts'
import { buildContents, buildQuote, type QuoteBody, type QuoteSignature, type QuoteVersion } from './quote.ts'
import { parseTdReport, type TdReportInput, verifyMac } from './tdreport.ts'

/** Turns the TDREPORTs of its own machine into quotes. */
export type QuotingEnclave = {
  /**
   * A quote over the bytes of a TDREPORT. Refuses what {@link parseTdReport} refuses and, naming `mac`, a TDREPORT that another
   * machine made or that was changed.
   */
  quote(tdReport: Uint8Array, version: QuoteVersion): { readonly ok: true; readonly quote: Buffer } | Refused
  /** The quote over what is known to be in a TDREPORT of this machine: v4, or v5 with a body of type 3 (intel-tdx.md e.4). */
  sign(report: TdReportInput, version: QuoteVersion): Buffer
}

/** Intel's quoting enclave. */
const QE_VENDOR_ID = Buffer.from('939a7233f79c4ca9940a0db3957f0607', 'hex')
const USER_DATA_BYTES = 20
/** 32 bytes, 00 to 1f, as real quoting enclaves have them. */
const AUTH_DATA = Uint8Array.from({ length: 32 }, (_, index) => index)

/** Its keys are the machine's; its own certification is made here, once. */
export function quotingEnclave(machine: Platform, chain: PckChain): QuotingEnclave {
  const certification = certify(machine, chain)
  const userData = Buffer.alloc(USER_DATA_BYTES)
  userData.set(machine.qe.id)
  const sign = (report: TdReportInput, version: QuoteVersion): Buffer => {
    const signed = buildContents({ version, qeVendorId: QE_VENDOR_ID, userData, body: bodyOf(report) })
    return buildQuote(signed, {
      ...certification,
      signature: joined(p256.sign(signed, machine.attestationKey.privateKey)),
    })
  }
  return {
    sign,
    quote(tdReport, version) {
      const parsed = parseTdReport(tdReport)
      if (!parsed.ok) return parsed
      if (!verifyMac(tdReport, machine.macKey)) return refused('mac', 'The TDREPORT is not one of this machine.')
      return { ok: true, quote: sign(parsed.report, version) }
    },
  }
}

/** What vouches for the attestation key: the QE's report over it, signed by the PCK. */
function certify(machine: Platform, { pck, platformCa, root }: PckChain): Omit<QuoteSignature, 'signature'> {
  const { id: _, ...identity } = machine.qe
  const { qx, qy } = machine.attestationKey.publicKey
  const attestationKey = Buffer.concat([qx, qy])
  const reportData = qeBinding(attestationKey, AUTH_DATA)
  const qeReport = buildQeReport({ ...identity, cpusvn: machine.tcb.components, reportData })
  return {
    attestationKey,
    qeReport,
    qeReportSignature: joined(p256.sign(qeReport, machine.pck.privateKey)),
    authData: AUTH_DATA,
    pckChain: Buffer.from(pck.pem + platformCa.pem + root.pem, 'latin1'),
  }
}

function bodyOf({ reportData, teeTcbInfo, tdInfo }: TdReportInput): QuoteBody {
  const { valid: _, teeTcbSvn2, ...seam } = teeTcbInfo
  const { servtdHash: mrservicetd, ...measurements } = tdInfo
  return { ...seam, ...measurements, reportData, tdx15: { teeTcbSvn2, mrservicetd } }
}

const joined = ({ r, s }: Signature): Buffer => Buffer.concat([r, s])
