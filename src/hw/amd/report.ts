import { type PublicKey, p384, type Signature } from '../shared/ecdsa.ts'
import { view } from '../shared/hex.ts'
import { type Refused, refused } from './fault.ts'
import { readSignature, writeSignature } from './signature-field.ts'
import { decodeTcb, encodeTcb, type Tcb, type TcbLayout, tcbLayout } from './tcb.ts'

export const REPORT_BYTES = 0x4a0
/** Bytes 000..29F are signed (amd-sev-snp.md e). */
export const SIGNED_BYTES = 0x2a0
const SIGNATURE_AT = 0x2a0

export const SIGNING_KEYS = ['VCEK', 'VLEK', 'NONE'] as const
export type SigningKeyName = (typeof SIGNING_KEYS)[number]
const SIGNING_KEY_NUMBER: Record<SigningKeyName, number> = { VCEK: 0, VLEK: 1, NONE: 7 }

export type FirmwareVersion = { readonly major: number; readonly minor: number; readonly build: number }
export type CpuId = { readonly familyExt: number; readonly model: number; readonly stepping: number }

/** The fields of an attestation report (amd-sev-snp.md e). */
export type Report = {
  readonly version: number
  readonly guestSvn: number
  readonly policy: bigint
  readonly familyId: Uint8Array
  readonly imageId: Uint8Array
  readonly vmpl: number
  readonly signatureAlgo: number
  readonly currentTcb: Tcb
  readonly platformInfo: bigint
  readonly signingKey: SigningKeyName | number
  readonly authorKeyEnabled: boolean
  readonly maskChipKey: boolean
  readonly reportData: Uint8Array
  readonly measurement: Uint8Array
  readonly hostData: Uint8Array
  readonly idKeyDigest: Uint8Array
  readonly authorKeyDigest: Uint8Array
  readonly reportId: Uint8Array
  readonly reportIdMa: Uint8Array
  readonly reportedTcb: Tcb
  /** Version 3 and later. */
  readonly cpuid?: CpuId
  readonly chipId: Uint8Array
  readonly committedTcb: Tcb
  readonly currentVersion: FirmwareVersion
  readonly committedVersion: FirmwareVersion
  readonly launchTcb: Tcb
  /** Version 5. */
  readonly launchMitVector?: bigint
  readonly currentMitVector?: bigint
}

const ARRAYS = [
  ['familyId', 0x10, 16],
  ['imageId', 0x20, 16],
  ['reportData', 0x50, 64],
  ['measurement', 0x90, 48],
  ['hostData', 0xc0, 32],
  ['idKeyDigest', 0xe0, 48],
  ['authorKeyDigest', 0x110, 48],
  ['reportId', 0x140, 32],
  ['reportIdMa', 0x160, 32],
  ['chipId', 0x1a0, 64],
] as const
const TCBS = [
  ['currentTcb', 0x38],
  ['reportedTcb', 0x180],
  ['committedTcb', 0x1e0],
  ['launchTcb', 0x1f0],
] as const
const CPUID_AT = 0x188
const LAUNCH_MIT_AT = 0x1f8
const CURRENT_MIT_AT = 0x200

/** Writes a report, unsigned: bytes 2A0 to the end are zero. */
export function buildReport(report: Report): Buffer {
  const bytes = Buffer.alloc(REPORT_BYTES)
  const layout = tcbLayout(report.version >= 3 ? report.cpuid?.familyExt : undefined)
  bytes.writeUInt32LE(report.version, 0)
  bytes.writeUInt32LE(report.guestSvn, 4)
  bytes.writeBigUInt64LE(report.policy, 8)
  bytes.writeUInt32LE(report.vmpl, 0x30)
  bytes.writeUInt32LE(report.signatureAlgo, 0x34)
  bytes.writeBigUInt64LE(report.platformInfo, 0x40)
  bytes.writeUInt32LE(keyInfo(report), 0x48)
  for (const [name, at, length] of ARRAYS) bytes.set(report[name].subarray(0, length), at)
  for (const [name, at] of TCBS) encodeTcb(report[name], layout).copy(bytes, at)
  if (report.version >= 3 && report.cpuid !== undefined)
    bytes.set([report.cpuid.familyExt, report.cpuid.model, report.cpuid.stepping], CPUID_AT)
  writeVersion(bytes, 0x1e8, report.currentVersion)
  writeVersion(bytes, 0x1ec, report.committedVersion)
  if (report.version >= 5) {
    bytes.writeBigUInt64LE(report.launchMitVector ?? 0n, LAUNCH_MIT_AT)
    bytes.writeBigUInt64LE(report.currentMitVector ?? 0n, CURRENT_MIT_AT)
  }
  return bytes
}

/** Reads a report of version 2 to 5. Reserved bits aren't judged: real ones are set in the field (amd-sev-snp.md e). */
export function parseReport(input: Uint8Array): { readonly ok: true; readonly report: Report } | Refused {
  if (input.length !== REPORT_BYTES) return refused('report-length', `A report has ${REPORT_BYTES} bytes.`)
  const bytes = view(input)
  const version = bytes.readUInt32LE(0)
  if (version < 2 || version > 5) return refused('report-version', `Reports of version ${version} are not known.`)
  const cpuid =
    version >= 3
      ? { familyExt: bytes.readUInt8(CPUID_AT), model: bytes.readUInt8(0x189), stepping: bytes.readUInt8(0x18a) }
      : undefined
  const layout = tcbLayout(cpuid?.familyExt)
  const info = bytes.readUInt32LE(0x48)
  const key = (info >>> 2) & 7
  return {
    ok: true,
    report: {
      version,
      guestSvn: bytes.readUInt32LE(4),
      policy: bytes.readBigUInt64LE(8),
      vmpl: bytes.readUInt32LE(0x30),
      signatureAlgo: bytes.readUInt32LE(0x34),
      platformInfo: bytes.readBigUInt64LE(0x40),
      signingKey: SIGNING_KEYS.find((name) => SIGNING_KEY_NUMBER[name] === key) ?? key,
      authorKeyEnabled: (info & 1) !== 0,
      maskChipKey: (info & 2) !== 0,
      ...arraysOf(bytes),
      ...tcbsOf(bytes, layout),
      currentVersion: readVersion(bytes, 0x1e8),
      committedVersion: readVersion(bytes, 0x1ec),
      ...(cpuid && { cpuid }),
      ...(version >= 5 && {
        launchMitVector: bytes.readBigUInt64LE(LAUNCH_MIT_AT),
        currentMitVector: bytes.readBigUInt64LE(CURRENT_MIT_AT),
      }),
    },
  }
}

/** Bits 0 author key, 1 masked chip key, 4:2 signing key. */
export function keyInfo(report: Pick<Report, 'authorKeyEnabled' | 'maskChipKey' | 'signingKey'>): number {
  const { signingKey } = report
  const key = typeof signingKey === 'number' ? signingKey : SIGNING_KEY_NUMBER[signingKey]
  return (report.authorKeyEnabled ? 1 : 0) | (report.maskChipKey ? 2 : 0) | (key << 2)
}

/** A signed copy. With signing key NONE the signature stays zero (amd-sev-snp.md e). */
export function signReport(report: Uint8Array, privateKey: Uint8Array): Buffer {
  const signed = Buffer.from(report)
  writeSignature(signed, SIGNATURE_AT, p384.sign(signed.subarray(0, SIGNED_BYTES), privateKey))
  return signed
}

export const reportSignature = (report: Uint8Array): Signature | undefined =>
  report.length === REPORT_BYTES ? readSignature(view(report), SIGNATURE_AT) : undefined

export const verifyReport = (report: Uint8Array, key: PublicKey): boolean =>
  p384.verify(report.subarray(0, SIGNED_BYTES), reportSignature(report), key)

type ArrayName = (typeof ARRAYS)[number][0]
type TcbName = (typeof TCBS)[number][0]

const arraysOf = (bytes: Buffer): { [name in ArrayName]: Uint8Array } =>
  Object.fromEntries(ARRAYS.map(([name, at, length]) => [name, Uint8Array.from(bytes.subarray(at, at + length))])) as {
    [name in ArrayName]: Uint8Array
  }

const tcbsOf = (bytes: Buffer, layout: TcbLayout): { [name in TcbName]: Tcb } =>
  Object.fromEntries(TCBS.map(([name, at]) => [name, decodeTcb(bytes.subarray(at, at + 8), layout)])) as {
    [name in TcbName]: Tcb
  }

function writeVersion(bytes: Buffer, at: number, { major, minor, build }: FirmwareVersion): void {
  bytes.set([build, minor, major], at)
}

const readVersion = (bytes: Buffer, at: number): FirmwareVersion => ({
  build: bytes.readUInt8(at),
  minor: bytes.readUInt8(at + 1),
  major: bytes.readUInt8(at + 2),
})
