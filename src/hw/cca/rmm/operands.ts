import type { CcaData } from '../data.ts'
import { PAGE_BITS, spanOf } from './geometry.ts'
import { type GranuleState, granuleState } from './granules.ts'
import type { Realm } from './realm.ts'
import type { Rec } from './rec.ts'
import { isProtected, type Rtt } from './rtt.ts'

const OFFSET = (1n << BigInt(PAGE_BITS)) - 1n

/** Frame or page of an aligned address, -1 of any other. Exact: addresses are below 2^64. */
export const pageOf = (address: bigint): number =>
  (address & OFFSET) === 0n ? Number(address >> BigInt(PAGE_BITS)) : -1

/** Frame of a granule in this state, -1 where the address isn't aligned, isn't tracked or is something else. */
export function granuleIn(data: CcaData, address: bigint, state: GranuleState): number {
  const frame = pageOf(address)
  return frame >= 0 && granuleState(data.granules, frame) === state ? frame : -1
}

/** The Realm whose RD is at this address. */
export const realmAt = (data: CcaData, rd: bigint): Realm | undefined => data.realms.get(pageOf(rd))

/** The REC at this address. */
export const recAt = (data: CcaData, rec: bigint): Rec | undefined => data.recs.get(pageOf(rec))

/** Page of an aligned protected IPA, -1 of any other. */
export function protectedPage(rtt: Rtt, ipa: bigint): number {
  const page = pageOf(ipa)
  return page >= 0 && isProtected(rtt, page) ? page : -1
}

/** Page of an unprotected IPA that is aligned to entries of `level`, -1 of any other. Precondition: a level there is. */
export function unprotectedPage(rtt: Rtt, ipa: bigint, level: number): number {
  const page = pageOf(ipa)
  return page >= rtt.unprotectedPage && page < rtt.endPage && page % spanOf(level) === 0 ? page : -1
}

/**
 * First page of a table of entries of `level` that a command names (arm-cca.md 5): below the root, aligned to what the
 * entry above covers. -1 where that is not so.
 */
export function tablePage(rtt: Rtt, ipa: bigint, level: number): number {
  if (level <= rtt.startLevel || level > 3) return -1
  const page = pageOf(ipa)
  return page >= 0 && page < rtt.endPage && page % spanOf(level - 1) === 0 ? page : -1
}
