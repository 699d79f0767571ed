import type { Certificate, Verdict } from '../../contract.ts'
import { hexOf } from '../../shared/hex.ts'
import { once } from '../../shared/once.ts'
import { type PckChain, pckChain } from './certificates.ts'
import { type Platform, platform } from './platform.ts'
import type { QuoteVersion } from './quote.ts'
import { describeQuote } from './quote-view.ts'
import { type QuotingEnclave, quotingEnclave } from './quoting.ts'
import { buildTdReport, REPORT_DATA_BYTES, type TdInfo, type TdReportInput } from './tdreport.ts'

/** The evidence of one machine. What its keys and certificates cost to make is paid when they're first asked for. */
export type Evidence = {
  /** TDG.MR.REPORT: the TDREPORT, 1024 bytes, over 64 bytes of report data (intel-tdx.md e.3). */
  tdReport(td: TdInfo, reportData: Uint8Array): Buffer
  /** TDVMCALL<GetQuote>: a quote over a TDREPORT as a guest hands it out; see {@link QuotingEnclave}. */
  quote: QuotingEnclave['quote']
  /** TDREPORT and quote for a nonce of at most 64 bytes, padded with zeros; a longer one is EINVAL. */
  report(td: TdInfo, nonce: Uint8Array, version?: QuoteVersion): Verdict<Readonly<Record<string, unknown>>>
  /** PCK leaf, PCK Platform CA, Root CA. */
  certificates(): readonly Certificate[]
}

/** A pure function of the host's seed: nothing in it belongs into the host's data, for it can be made again. */
export function createEvidence(seed: string): Evidence {
  const machine = once(() => platform(seed))
  const chain = once(() => pckChain(machine()))
  const enclave = once(() => quotingEnclave(machine(), chain()))
  return {
    tdReport: (td, reportData) => buildTdReport(reportInput(machine(), td, reportData), machine().macKey),
    quote: (tdReport, version) => enclave().quote(tdReport, version),
    report: (td, nonce, version = 4) =>
      nonce.length > REPORT_DATA_BYTES ? NONCE_TOO_LONG : report(machine(), enclave(), td, nonce, version),
    certificates: () => certificatesOf(chain()),
  }
}

const NONCE_TOO_LONG: Verdict<never> = {
  ok: false,
  refusal: {
    errno: 'EINVAL',
    code: 'nonce-length',
    detail: `A nonce has at most ${REPORT_DATA_BYTES} bytes.`,
    pointer: '/nonce',
  },
}

function report(
  machine: Platform,
  enclave: QuotingEnclave,
  td: TdInfo,
  nonce: Uint8Array,
  version: QuoteVersion,
): Verdict<Readonly<Record<string, unknown>>> {
  const reportData = new Uint8Array(REPORT_DATA_BYTES)
  reportData.set(nonce)
  const input = reportInput(machine, td, reportData)
  const quote = enclave.sign(input, version)
  const described = describeQuote(quote)
  return {
    ok: true,
    value: {
      format: `intel-tdx-quote-v${version}`,
      simulated: true,
      tdreport: buildTdReport(input, machine.macKey).toString('base64'),
      quote: quote.toString('base64'),
      measurement: hexOf(td.mrtd),
      ...(described.ok && { fields: described.fields }),
    },
  }
}

const reportInput = ({ tcb, teeTcbInfo }: Platform, tdInfo: TdInfo, reportData: Uint8Array): TdReportInput => ({
  cpusvn: tcb.components,
  reportData,
  teeTcbInfo,
  tdInfo,
})

const certificatesOf = ({ pck, platformCa, root }: PckChain): readonly Certificate[] => [
  { name: 'PCK', subject: pck.subject, pem: pck.pem },
  { name: 'PCK Platform CA', subject: platformCa.subject, pem: platformCa.pem },
  { name: 'Root CA', subject: root.subject, pem: root.pem },
]
