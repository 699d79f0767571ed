import { Buffer } from 'node:buffer'
import type { OperandName } from '../status.ts'
import { type Checked, fail, pass, refuse, refuseOperand } from './answer.ts'

/** What MNG.INIT takes from TD_PARAMS (intel-tdx.md a.4). Digests are of 48 bytes. */
export type TdParams = {
  readonly attributes: bigint
  readonly xfam: bigint
  readonly maxVcpus: number
  readonly l2Vms: number
  readonly eptpControls: number
  readonly configFlags: number
  /** In units of 25 MHz. */
  readonly tscFrequency: number
  readonly mrconfigid: Uint8Array
  readonly mrowner: Uint8Array
  readonly mrownerconfig: Uint8Array
}

export const TD_PARAMS_BYTES = 1024
const DIGEST_BYTES = 48

export const ATTRIBUTE = {
  DEBUG: 1n << 0n,
  SEPT_VE_DISABLE: 1n << 28n,
  MIGRATABLE: 1n << 29n,
  PKS: 1n << 30n,
  KL: 1n << 31n,
  PERFMON: 1n << 63n,
} as const
export const ALL_ATTRIBUTES = Object.values(ATTRIBUTE).reduce((all, bit) => all | bit, 0n)

export const CONFIG_FLAG = { GPAW: 1, FLEXIBLE_PENDING_VE: 2, NO_RBP_MOD: 4 } as const
const ALL_CONFIG_FLAGS = 7n

/** XFAM bits a TD may have, and those it must: x87 and SSE. */
export const XFAM_ALLOWED = 0x6dbe7n
export const XFAM_REQUIRED = 3n
/** Features whose bits go together (AVX-512, CET, AMX), with what the first of them needs beside (AVX). */
const XFAM_GROUPS: readonly { readonly bits: bigint; readonly needs: bigint }[] = [
  { bits: 0xe0n, needs: 4n },
  { bits: 0x1800n, needs: 0n },
  { bits: 0x60000n, needs: 0n },
]

const MAX_L2_VMS = 3
const WRITE_BACK = 6n
const LOWEST_FREQUENCY = 4
const HIGHEST_FREQUENCY = 400

/** Width of a guest physical address; its highest bit is the shared bit (d.1). */
export const gpaw = (params: TdParams): 48 | 52 => (params.configFlags & CONFIG_FLAG.GPAW ? 52 : 48)

/** Levels of the Secure EPT: 4 or 5. */
export const pageWalkLevels = (eptpControls: number): number => ((eptpControls >>> 3) & 7) + 1

const AT = {
  attributes: 0,
  xfam: 8,
  maxVcpus: 16,
  l2Vms: 18,
  reserved1: 20,
  eptpControls: 24,
  configFlags: 32,
  tscFrequency: 40,
  reserved2: 42,
  mrconfigid: 80,
  mrowner: 128,
  mrownerconfig: 176,
  reserved3: 232,
  cpuid: 256,
} as const

/**
 * TD_PARAMS, checked in MNG.INIT's order (a.4); `l2Pages` are the TDCX pages beyond the first 6. CPUID values are not
 * looked at: which of them are configurable is a machine's own, and this one has no CPUID.
 */
export function parseTdParams(input: Uint8Array, l2Pages: number): Checked<TdParams> {
  const bytes = Buffer.from(input.buffer, input.byteOffset, input.byteLength)
  const attributes = bytes.readBigUInt64LE(AT.attributes)
  const xfam = bytes.readBigUInt64LE(AT.xfam)
  const maxVcpus = bytes.readUInt16LE(AT.maxVcpus)
  const l2Vms = bytes.readUInt8(AT.l2Vms)
  const eptpControls = bytes.readBigUInt64LE(AT.eptpControls)
  const configFlags = bytes.readBigUInt64LE(AT.configFlags)
  const tscFrequency = bytes.readUInt16LE(AT.tscFrequency)
  const invalid = (operand: OperandName): Checked<TdParams> => fail(refuseOperand('TDX_OPERAND_INVALID', operand))
  if ((attributes & ~ALL_ATTRIBUTES) !== 0n) return invalid('ATTRIBUTES')
  if (!isLegalXfam(xfam)) return invalid('XFAM')
  if (maxVcpus === 0) return invalid('MAX_VCPUS')
  if (l2Vms > MAX_L2_VMS) return invalid('NUM_L2_VMS')
  if (l2Pages < l2Vms) return fail(refuse('TDX_TDCS_NOT_ALLOCATED'))
  if (!isZero(bytes, AT.reserved1, AT.eptpControls)) return invalid('RDX')
  if ((configFlags & ~ALL_CONFIG_FLAGS) !== 0n) return invalid('CONFIG_FLAGS')
  if (!isLegalEptp(eptpControls, (configFlags & BigInt(CONFIG_FLAG.GPAW)) !== 0n)) return invalid('EPTP_CONTROLS')
  if (tscFrequency < LOWEST_FREQUENCY || tscFrequency > HIGHEST_FREQUENCY) return invalid('TSC_FREQUENCY')
  if (!isZero(bytes, AT.reserved2, AT.mrconfigid) || !isZero(bytes, AT.reserved3, AT.cpuid)) return invalid('RDX')
  const digest = (at: number): Uint8Array => Uint8Array.from(bytes.subarray(at, at + DIGEST_BYTES))
  return pass({
    attributes,
    xfam,
    maxVcpus,
    l2Vms,
    eptpControls: Number(eptpControls),
    configFlags: Number(configFlags),
    tscFrequency,
    mrconfigid: digest(AT.mrconfigid),
    mrowner: digest(AT.mrowner),
    mrownerconfig: digest(AT.mrownerconfig),
  })
}

const isZero = (bytes: Uint8Array, from: number, to: number): boolean =>
  bytes.subarray(from, to).every((byte) => byte === 0)

const isLegalXfam = (xfam: bigint): boolean =>
  (xfam & ~XFAM_ALLOWED) === 0n &&
  (xfam & XFAM_REQUIRED) === XFAM_REQUIRED &&
  XFAM_GROUPS.every(({ bits, needs }) => (xfam & bits) === 0n || ((xfam & bits) === bits && (xfam & needs) === needs))

/** Write-back, 4 or 5 levels, no other bit; a 52-bit GPA needs 5. */
const isLegalEptp = (controls: bigint, wide: boolean): boolean =>
  controls === (WRITE_BACK | (4n << 3n)) || (!wide && controls === (WRITE_BACK | (3n << 3n)))

/** EPTP_CONTROLS as KVM sets it: 5 levels for a 52-bit GPA. */
export const eptpControlsFor = (wide: boolean): number => 6 | ((wide ? 4 : 3) << 3)

/** The 1024 bytes of TD_PARAMS with these fields and zeros elsewhere. */
export function encodeTdParams(params: TdParams): Buffer {
  const bytes = Buffer.alloc(TD_PARAMS_BYTES)
  bytes.writeBigUInt64LE(params.attributes, AT.attributes)
  bytes.writeBigUInt64LE(params.xfam, AT.xfam)
  bytes.writeUInt16LE(params.maxVcpus, AT.maxVcpus)
  bytes.writeUInt8(params.l2Vms, AT.l2Vms)
  bytes.writeBigUInt64LE(BigInt(params.eptpControls), AT.eptpControls)
  bytes.writeBigUInt64LE(BigInt(params.configFlags), AT.configFlags)
  bytes.writeUInt16LE(params.tscFrequency, AT.tscFrequency)
  bytes.set(params.mrconfigid, AT.mrconfigid)
  bytes.set(params.mrowner, AT.mrowner)
  bytes.set(params.mrownerconfig, AT.mrownerconfig)
  return bytes
}
