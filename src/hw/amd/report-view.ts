import { hash } from 'node:crypto'
import { hexOf, toHex } from '../shared/hex.ts'
import type { Refused } from './fault.ts'
import { type FirmwareVersion, keyInfo, parseReport, reportSignature, SIGNED_BYTES } from './report.ts'
import { encodeTcb, type Tcb, type TcbLayout, tcbLayout, tcbRaw } from './tcb.ts'

export type TcbView = Tcb & { readonly raw: string }
export type ReportView = Readonly<Record<string, unknown>> & {
  readonly version: number
  readonly policy: string
  readonly measurement: string
  readonly reportData: string
  readonly reportedTcb: TcbView
}

/** A report's fields as JSON: numbers as hex strings, byte strings in memory order, R and S as big-endian integers. */
export function describeReport(bytes: Uint8Array): { readonly ok: true; readonly fields: ReportView } | Refused {
  const parsed = parseReport(bytes)
  if (!parsed.ok) return parsed
  const { report } = parsed
  const layout = tcbLayout(report.cpuid?.familyExt)
  const signature = reportSignature(bytes)
  const bit = (number: number): boolean => ((report.policy >> BigInt(number)) & 1n) === 1n
  return {
    ok: true,
    fields: {
      version: report.version,
      guestSvn: report.guestSvn,
      policy: toHex(report.policy),
      policyBits: {
        abiMinor: Number(report.policy & 0xffn),
        abiMajor: Number((report.policy >> 8n) & 0xffn),
        smt: bit(16),
        reservedMbo: bit(17),
        migrateMa: bit(18),
        debug: bit(19),
        singleSocket: bit(20),
      },
      familyId: hexOf(report.familyId),
      imageId: hexOf(report.imageId),
      vmpl: report.vmpl,
      signatureAlgo: report.signatureAlgo,
      currentTcb: describeTcb(report.currentTcb, layout),
      platformInfo: toHex(report.platformInfo),
      keyInfo: toHex(keyInfo(report)),
      signingKey: report.signingKey,
      authorKeyEn: report.authorKeyEnabled,
      maskChipKey: report.maskChipKey,
      reportData: hexOf(report.reportData),
      measurement: hexOf(report.measurement),
      hostData: hexOf(report.hostData),
      idKeyDigest: hexOf(report.idKeyDigest),
      authorKeyDigest: hexOf(report.authorKeyDigest),
      reportId: hexOf(report.reportId),
      reportIdMa: hexOf(report.reportIdMa),
      reportedTcb: describeTcb(report.reportedTcb, layout),
      chipId: hexOf(report.chipId),
      committedTcb: describeTcb(report.committedTcb, layout),
      currentVersion: versionText(report.currentVersion),
      committedVersion: versionText(report.committedVersion),
      launchTcb: describeTcb(report.launchTcb, layout),
      signatureR: signature === undefined ? null : hexOf(signature.r),
      signatureS: signature === undefined ? null : hexOf(signature.s),
      signedPartSha384: hash('sha384', bytes.subarray(0, SIGNED_BYTES)),
      ...(report.cpuid && { cpuid: report.cpuid }),
      ...(report.launchMitVector !== undefined && { launchMitVector: toHex(report.launchMitVector) }),
      ...(report.currentMitVector !== undefined && { currentMitVector: toHex(report.currentMitVector) }),
    },
  }
}

const describeTcb = (tcb: Tcb, layout: TcbLayout): TcbView => ({ ...tcb, raw: tcbRaw(encodeTcb(tcb, layout)) })
const versionText = ({ major, minor, build }: FirmwareVersion): string => `${major}.${minor}.${build}`
