import { hash } from 'node:crypto'
import { view } from '../../shared/hex.ts'
import { type ByteField, type ByteFields, readFields, writeFields } from './byte-fields.ts'

export const QE_REPORT_BYTES = 384

/** The SGX report body of the quoting enclave. `attributes`: FLAGS then XFRM, 8 bytes each. */
export type QeReport = {
  readonly isvProdId: number
  readonly isvSvn: number
} & ByteFields<Field>

type Field = 'cpusvn' | 'attributes' | 'mrenclave' | 'mrsigner' | 'reportData'

const ISV_PROD_ID_AT = 256
const ISV_SVN_AT = 258
const FIELDS: readonly ByteField<Field>[] = [
  ['cpusvn', 0, 16],
  ['attributes', 48, 16],
  ['mrenclave', 64, 32],
  ['mrsigner', 128, 32],
  ['reportData', 320, 64],
]

/** 384 bytes: an SGX report without its key id and MAC. MISCSELECT and the CONFIG and FAMILY ids are zero. */
export function buildQeReport(report: QeReport): Buffer {
  const bytes = Buffer.alloc(QE_REPORT_BYTES)
  writeFields(bytes, 0, FIELDS, report)
  bytes.writeUInt16LE(report.isvProdId, ISV_PROD_ID_AT)
  bytes.writeUInt16LE(report.isvSvn, ISV_SVN_AT)
  return bytes
}

/** The inverse of {@link buildQeReport} on exactly 384 bytes. */
export function readQeReport(input: Uint8Array): QeReport {
  const bytes = view(input)
  return {
    ...readFields(bytes, 0, FIELDS),
    isvProdId: bytes.readUInt16LE(ISV_PROD_ID_AT),
    isvSvn: bytes.readUInt16LE(ISV_SVN_AT),
  }
}

/** The QE's report data binds the attestation key: SHA-256(x ‖ y ‖ auth data), then 32 zeros (intel-tdx.md e.4). */
export const qeBinding = (attestationKey: Uint8Array, authData: Uint8Array): Buffer =>
  Buffer.concat([hash('sha256', Buffer.concat([attestationKey, authData]), 'buffer'), Buffer.alloc(32)])
