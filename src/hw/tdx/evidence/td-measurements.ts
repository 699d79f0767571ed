import { type ByteField, type ByteFields, readFields, writeFields } from './byte-fields.ts'

const RTMR_BYTES = 48

/** What a TD is: as MNG.INIT configured it, its launch measured it and it extended itself. Byte strings have 48 bytes. */
export type TdMeasurements = {
  readonly attributes: bigint
  readonly xfam: bigint
  /** RTMR0 to RTMR3. */
  readonly rtmrs: Rtmrs
} & ByteFields<Register>
export type Rtmrs = readonly [Uint8Array, Uint8Array, Uint8Array, Uint8Array]

type Register = 'mrtd' | 'mrconfigid' | 'mrowner' | 'mrownerconfig'

/** The same 400 bytes stand at the start of TDINFO and in a quote's body at 120 (intel-tdx.md e.3, e.4). */
export const TD_MEASUREMENTS_BYTES = 400
const XFAM_AT = 8
const RTMR_AT = 208
const REGISTERS: readonly ByteField<Register>[] = [
  ['mrtd', 16, 48],
  ['mrconfigid', 64, 48],
  ['mrowner', 112, 48],
  ['mrownerconfig', 160, 48],
]

export function writeTdMeasurements(target: Buffer, at: number, measurements: TdMeasurements): void {
  target.writeBigUInt64LE(measurements.attributes, at)
  target.writeBigUInt64LE(measurements.xfam, at + XFAM_AT)
  writeFields(target, at, REGISTERS, measurements)
  for (const [index, rtmr] of measurements.rtmrs.entries())
    writeFields(target, at, [['rtmr', RTMR_AT + index * RTMR_BYTES, RTMR_BYTES]], { rtmr })
}

export function readTdMeasurements(source: Buffer, at: number): TdMeasurements {
  const rtmr = (index: number): Uint8Array =>
    readFields(source, at, [['rtmr', RTMR_AT + index * RTMR_BYTES, RTMR_BYTES]]).rtmr
  return {
    attributes: source.readBigUInt64LE(at),
    xfam: source.readBigUInt64LE(at + XFAM_AT),
    ...readFields(source, at, REGISTERS),
    rtmrs: [rtmr(0), rtmr(1), rtmr(2), rtmr(3)],
  }
}
