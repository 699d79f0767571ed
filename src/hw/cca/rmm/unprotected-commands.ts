import type { Host } from '../data.ts'
import { type Answer, DONE, done, INPUT, INPUT_WITHOUT_TOP, rttError, top } from './answer.ts'
import { readDescriptor } from './descriptor.ts'
import { spanOf } from './geometry.ts'
import { realmAt, unprotectedPage } from './operands.ts'
import type { Realm } from './realm.ts'
import { isLive, isTable, nextLive, walkLevel } from './rtt.ts'
import type { TableCall } from './rtt-commands.ts'
import { mapHostRange, unmapHostRange } from './rtt-ranges.ts'

const SMALLEST_BLOCK_LEVEL = 1

/** Entries that map host memory are of levels 1 to 3, below the root or at it. */
const isMappable = ({ rtt }: Realm, level: number): boolean =>
  level >= SMALLEST_BLOCK_LEVEL && level >= rtt.startLevel && level <= 3

/**
 * RTT_MAP_UNPROTECTED (arm-cca.md 5), in any Realm: an UNASSIGNED_NS entry of `level` maps the host memory of `desc`, which
 * need not be a granule there is. (RTT,reached) where the walk ends above, (RTT,level) where something is there.
 */
export function rttMapUnprotected({ data }: Host, call: TableCall & { readonly desc: bigint }): Answer {
  const { level } = call
  const realm = realmAt(data, call.rd)
  if (realm === undefined || !isMappable(realm, level)) return INPUT
  const host = readDescriptor(call.desc, level, realm.lpa2)
  if (host === undefined) return INPUT
  const page = unprotectedPage(realm.rtt, call.ipa, level)
  if (page < 0) return INPUT
  const reached = walkLevel(realm.rtt, page, level)
  if (reached < level || isLive(realm.rtt, page, level)) return rttError(reached)
  mapHostRange(realm.rtt, page, host.frame, spanOf(level), host.attributes)
  return DONE
}

/** RTT_UNMAP_UNPROTECTED (5), in any Realm: ASSIGNED_NS → UNASSIGNED_NS. `top` as DATA_DESTROY's, on ERROR_RTT too. */
export function rttUnmapUnprotected({ data }: Host, { rd, ipa, level }: TableCall): Answer {
  const realm = realmAt(data, rd)
  if (realm === undefined || !isMappable(realm, level)) return INPUT_WITHOUT_TOP
  const { rtt } = realm
  const page = unprotectedPage(rtt, ipa, level)
  if (page < 0) return INPUT_WITHOUT_TOP
  const reached = walkLevel(rtt, page, level)
  const isMapped = reached === level && isLive(rtt, page, level) && !isTable(rtt, page, level)
  if (!isMapped) return rttError(reached, top(nextLive(rtt, page, reached)))
  unmapHostRange(rtt, page, spanOf(level))
  return done(top(nextLive(rtt, page, level)))
}
