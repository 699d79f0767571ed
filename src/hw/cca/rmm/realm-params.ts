import { Buffer } from 'node:buffer'
import { FEATURE } from './features.ts'
import { PAGE_SIZE } from './geometry.ts'
import type { RealmParams } from './realm.ts'

export const REALM_FLAG = { LPA2: 1n, SVE: 2n, PMU: 4n } as const
const RPV_BYTES = 64

const MIN_S2SZ = 32
const MAX_S2SZ_WITHOUT_LPA2 = 48
/** Concatenation: at most 16 root tables, four bits more. */
const CONCATENATED_BITS = 4
const INDEX_BITS = 9
const PAGE_BITS = 12
const MAX_VMID = 0xffff

/** RmiRealmParams as it lies in memory (arm-cca.md 1). */
export function decodeRealmParams(bytes: Uint8Array): RealmParams {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, PAGE_SIZE)
  return {
    flags: view.readBigUInt64LE(0),
    s2sz: view.readUInt8(0x08),
    sveVl: view.readUInt8(0x10),
    numBps: view.readUInt8(0x18),
    numWps: view.readUInt8(0x20),
    pmuNumCtrs: view.readUInt8(0x28),
    hashAlgo: view.readUInt8(0x30),
    rpv: Uint8Array.from(view.subarray(0x400, 0x400 + RPV_BYTES)),
    vmid: view.readUInt16LE(0x800),
    rttBase: view.readBigUInt64LE(0x808),
    rttLevelStart: Number(view.readBigInt64LE(0x810)),
    rttNumStart: view.readUInt32LE(0x818),
  }
}

const has = (params: RealmParams, flag: bigint): boolean => (params.flags & flag) !== 0n
export const hasLpa2 = (params: RealmParams): boolean => has(params, REALM_FLAG.LPA2)

/**
 * Root tables that an IPA space of `s2sz` bits needs from `level` on (arm-cca.md 3), 0 where the pair isn't legal: root
 * entries of w bits give w+1 to w+9 with one table, and up to w+13 with concatenated ones, which level 0 has with LPA2 only.
 */
export function rootTables(s2sz: number, level: number, lpa2: boolean): number {
  if (level < (lpa2 ? -1 : 0) || level > 3) return 0
  const tableBits = INDEX_BITS * (3 - level) + PAGE_BITS + INDEX_BITS
  const widest = level > 0 || (level === 0 && lpa2) ? tableBits + CONCATENATED_BITS : tableBits
  if (s2sz <= tableBits - INDEX_BITS || s2sz > widest) return 0
  return Math.max(1, 2 ** (s2sz - tableBits))
}

/** Whether every field is one that this RMM supports (3). Fields of a feature that isn't asked for don't count. */
export function isSupported(params: RealmParams): boolean {
  const lpa2 = hasLpa2(params)
  return (
    params.s2sz >= MIN_S2SZ &&
    params.s2sz <= (lpa2 ? FEATURE.s2sz : MAX_S2SZ_WITHOUT_LPA2) &&
    areDebugRegisters(params.numBps, FEATURE.numBps) &&
    areDebugRegisters(params.numWps, FEATURE.numWps) &&
    (!has(params, REALM_FLAG.SVE) || params.sveVl <= FEATURE.sveVl) &&
    // Without FEAT_HPMN0 a PMU has a counter at least.
    (!has(params, REALM_FLAG.PMU) || (params.pmuNumCtrs > 0 && params.pmuNumCtrs <= FEATURE.pmuNumCtrs)) &&
    params.rttNumStart > 0 &&
    params.rttNumStart === rootTables(params.s2sz, params.rttLevelStart, lpa2) &&
    (params.hashAlgo === 0 || params.hashAlgo === 1) &&
    params.vmid <= MAX_VMID
  )
}

/** The number minus one: 0 would be a single one, which the architecture doesn't have. */
const areDebugRegisters = (given: number, most: number): boolean => given > 0 && given <= most
