import { createHmac, hash } from 'node:crypto'
import { view } from '../../shared/hex.ts'
import { type ByteField, readFields, writeFields } from './byte-fields.ts'
import { type Refused, refused } from './field-reader.ts'
import { readSeamIdentity, SEAM_IDENTITY_BYTES, type SeamIdentity, writeSeamIdentity } from './seam-identity.ts'
import {
  readTdMeasurements,
  TD_MEASUREMENTS_BYTES,
  type TdMeasurements,
  writeTdMeasurements,
} from './td-measurements.ts'

export const TDREPORT_BYTES = 1024
export const REPORT_DATA_BYTES = 64
/** The report type of a TD, and the TEE type in its quote. */
export const TEE_TYPE_TDX = 0x81

/** `servtdHash`: SERVTD_HASH, 48 bytes, zero where no service TD is bound. */
export type TdInfo = TdMeasurements & { readonly servtdHash: Uint8Array }
/** `teeTcbSvn2`: 16 bytes, the security version of the module that runs now. */
export type TeeTcbInfo = SeamIdentity & { readonly valid: bigint; readonly teeTcbSvn2: Uint8Array }

/** `cpusvn` has 16 bytes, `reportData` 64. */
export type TdReportInput = {
  readonly cpusvn: Uint8Array
  readonly reportData: Uint8Array
  readonly teeTcbInfo: TeeTcbInfo
  readonly tdInfo: TdInfo
}
/** `version` is 1 where service TDs are bound, otherwise 0. */
export type TdReport = TdReportInput & { readonly version: number; readonly mac: Uint8Array }

const VERSION_AT = 2
const MAC_AT = 224
const MAC_BYTES = 32
const HEAD: readonly ByteField<'cpusvn' | 'teeTcbInfoHash' | 'teeInfoHash' | 'reportData' | 'mac'>[] = [
  ['cpusvn', 16, 16],
  ['teeTcbInfoHash', 32, 48],
  ['teeInfoHash', 80, 48],
  ['reportData', 128, REPORT_DATA_BYTES],
  ['mac', MAC_AT, MAC_BYTES],
]
const TEE_TCB_INFO_AT = 256
const TEE_TCB_INFO_BYTES = 239
const SEAM_IDENTITY_AT = TEE_TCB_INFO_AT + 8
const TEE_TCB_SVN2: readonly ByteField<'teeTcbSvn2'>[] = [['teeTcbSvn2', SEAM_IDENTITY_AT + SEAM_IDENTITY_BYTES, 16]]
const TD_INFO_AT = 512
const SERVTD_HASH: readonly ByteField<'servtdHash'>[] = [['servtdHash', TD_INFO_AT + TD_MEASUREMENTS_BYTES, 48]]

/** The 1024 bytes that TDG.MR.REPORT gives, sealed with the CPU's MAC key (intel-tdx.md e.3). */
export function buildTdReport({ cpusvn, reportData, teeTcbInfo, tdInfo }: TdReportInput, macKey: Uint8Array): Buffer {
  const bytes = Buffer.alloc(TDREPORT_BYTES)
  bytes[0] = TEE_TYPE_TDX
  bytes[VERSION_AT] = tdInfo.servtdHash.some((byte) => byte !== 0) ? 1 : 0
  bytes.writeBigUInt64LE(teeTcbInfo.valid, TEE_TCB_INFO_AT)
  writeSeamIdentity(bytes, SEAM_IDENTITY_AT, teeTcbInfo)
  writeFields(bytes, 0, TEE_TCB_SVN2, teeTcbInfo)
  writeTdMeasurements(bytes, TD_INFO_AT, tdInfo)
  writeFields(bytes, 0, SERVTD_HASH, tdInfo)
  writeFields(bytes, 0, HEAD, { cpusvn, reportData, ...infoHashes(bytes), mac: new Uint8Array(MAC_BYTES) })
  macOf(bytes, macKey).copy(bytes, MAC_AT)
  return bytes
}

/**
 * Reads a TDREPORT (intel-tdx.md e.3). Refused by `length`, `type`, `subtype`, `version`, and by `teeTcbInfoHash` or `teeInfoHash`
 * where that is not the hash of its structure. Reserved bytes aren't judged, nor is the MAC: see {@link verifyMac}.
 */
export function parseTdReport(input: Uint8Array): { readonly ok: true; readonly report: TdReport } | Refused {
  if (input.length !== TDREPORT_BYTES) return refused('length', `A TDREPORT has ${TDREPORT_BYTES} bytes.`)
  const bytes = view(input)
  const [type, subtype, version] = [bytes.readUInt8(0), bytes.readUInt8(1), bytes.readUInt8(VERSION_AT)]
  if (type !== TEE_TYPE_TDX) return refused('type', `Report type ${type} is not a TD's, ${TEE_TYPE_TDX}.`)
  if (subtype !== 0) return refused('subtype', `Subtype ${subtype} is not known.`)
  if (version > 1) return refused('version', `TDREPORTs of version ${version} are not known.`)
  const { cpusvn, teeTcbInfoHash, teeInfoHash, reportData, mac } = readFields(bytes, 0, HEAD)
  const hashes = infoHashes(bytes)
  if (!hashes.teeTcbInfoHash.equals(teeTcbInfoHash))
    return refused('teeTcbInfoHash', 'TEE_TCB_INFO_HASH is not the hash of TEE_TCB_INFO.')
  if (!hashes.teeInfoHash.equals(teeInfoHash)) return refused('teeInfoHash', 'TEE_INFO_HASH is not the hash of TDINFO.')
  const report = { version, cpusvn, reportData, mac, teeTcbInfo: readTeeTcbInfo(bytes), tdInfo: readTdInfo(bytes) }
  return { ok: true, report }
}

/** Whether the CPU with this key made the TDREPORT (intel-tdx.md e.3); false for another length. */
export const verifyMac = (report: Uint8Array, macKey: Uint8Array): boolean =>
  report.length === TDREPORT_BYTES && macOf(report, macKey).equals(report.subarray(MAC_AT, MAC_AT + MAC_BYTES))

const macOf = (report: Uint8Array, macKey: Uint8Array): Buffer =>
  createHmac('sha256', macKey).update(report.subarray(0, MAC_AT)).digest()

/** TEE_TCB_INFO is hashed without its padding, TDINFO whole. */
const infoHashes = (report: Buffer): { readonly teeTcbInfoHash: Buffer; readonly teeInfoHash: Buffer } => ({
  teeTcbInfoHash: hash('sha384', report.subarray(TEE_TCB_INFO_AT, TEE_TCB_INFO_AT + TEE_TCB_INFO_BYTES), 'buffer'),
  teeInfoHash: hash('sha384', report.subarray(TD_INFO_AT), 'buffer'),
})

const readTeeTcbInfo = (bytes: Buffer): TeeTcbInfo => ({
  valid: bytes.readBigUInt64LE(TEE_TCB_INFO_AT),
  ...readSeamIdentity(bytes, SEAM_IDENTITY_AT),
  ...readFields(bytes, 0, TEE_TCB_SVN2),
})

const readTdInfo = (bytes: Buffer): TdInfo => ({
  ...readTdMeasurements(bytes, TD_INFO_AT),
  ...readFields(bytes, 0, SERVTD_HASH),
})
