import { type HexOrInteger, toHex } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'
import { type HashAlgo, PAGE_BYTES } from './digest.ts'
import { deepestRootLevel, isRootLevel } from './entries.ts'
import type { MeasuredRealmParams } from './rim.ts'

/** RmiRealmParams as inputs give them: the raw fields, in the structure's own names. */
export type RealmInputs = {
  readonly flags: HexOrInteger
  readonly s2sz: number
  readonly sve_vl: number
  readonly num_bps: number
  readonly num_wps: number
  readonly pmu_num_ctrs: number
  readonly hash_algo: HashAlgo
  readonly rtt_level_start?: number
}

/** What of a Realm's parameters its measurement depends on: also where its tables start, for the sizes of entries. */
export type RealmShape = {
  readonly params: MeasuredRealmParams
  readonly rootLevel: number
  /** Pages of the protected half of the IPA space (arm-cca.md 4). */
  readonly protectedPages: number
}

const FLAG = { lpa2: 1n, sve: 2n, pmu: 4n } as const
const MAX_SVE_VL = 15
const MAX_PMU_COUNTERS = 31
const MAX_S2SZ = 48

/** Refuses what no RMM takes (arm-cca.md 3, REALM_CREATE): fields of a feature count only where its flag is set. */
export function realmShape(inputs: RealmInputs): { readonly ok: true; readonly shape: RealmShape } | Refused {
  const { s2sz, sve_vl: sveVl, num_bps: numBps, num_wps: numWps, pmu_num_ctrs: pmuNumCtrs } = inputs
  const flags = BigInt(inputs.flags)
  const rootLevel = inputs.rtt_level_start ?? deepestRootLevel(s2sz)
  if (s2sz > MAX_S2SZ && (flags & FLAG.lpa2) === 0n)
    return refuse('realm-params', `More than ${MAX_S2SZ} bits need LPA2, bit 0 of flags.`, '/s2sz')
  if ((flags & FLAG.sve) !== 0n && sveVl > MAX_SVE_VL)
    return refuse('realm-params', `The largest vector length is ${MAX_SVE_VL}.`, '/sve_vl')
  if ((flags & FLAG.pmu) !== 0n && pmuNumCtrs > MAX_PMU_COUNTERS)
    return refuse('realm-params', `There are at most ${MAX_PMU_COUNTERS} counters.`, '/pmu_num_ctrs')
  if (!isRootLevel(rootLevel, s2sz))
    return refuse('realm-params', `No root tables of level ${rootLevel} give ${s2sz} bits.`, '/rtt_level_start')
  return {
    ok: true,
    shape: {
      params: { flags, s2sz, sveVl, numBps, numWps, pmuNumCtrs, hashAlgo: inputs.hash_algo },
      rootLevel,
      protectedPages: 2 ** (s2sz - 1) / PAGE_BYTES,
    },
  }
}

/** The frame of a page-aligned address, or what is wrong with it. */
export function frameOf(address: HexOrInteger, pointer: string): { readonly ok: true; readonly gfn: number } | Refused {
  const value = BigInt(address)
  if (value % BigInt(PAGE_BYTES) !== 0n)
    return refuse('ipa-unaligned', `${toHex(value)} is no multiple of 4096.`, pointer)
  return { ok: true, gfn: Number(value / BigInt(PAGE_BYTES)) }
}
