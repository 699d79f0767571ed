import type { Host } from '../data.ts'
import { type Answer, DONE, done, INPUT, INPUT_WITHOUT_TOP, rttError, top } from './answer.ts'
import { descriptorOf } from './descriptor.ts'
import { addressOf, hex, spanOf } from './geometry.ts'
import { GRANULE } from './granules.ts'
import { granuleIn, pageOf, realmAt, tablePage } from './operands.ts'
import {
  type Entry,
  hasLiveEntries,
  isHomogeneous,
  isLive,
  isProtected,
  isTable,
  nextLive,
  walk,
  walkLevel,
} from './rtt.ts'
import { addTable, destroyTable, foldTable } from './rtt-ranges.ts'
import { RIPAS, ripasName, ripasOf } from './states.ts'

/** A table that a command names: of entries of `level`, first page at `ipa`. */
export type TableCall = { readonly rd: bigint; readonly ipa: bigint; readonly level: number }

/** No block is larger than that of level 1, 1 GiB. */
const LARGEST_BLOCK_LEVEL = 1

/**
 * RTT_CREATE (arm-cca.md 4.2, 5), in any Realm: a DELEGATED granule becomes the table of entries of `level` at `ipa`, which
 * say what the entry above said. (RTT,level-1) if that is a TABLE already.
 */
export function rttCreate({ data }: Host, call: TableCall & { readonly rtt: bigint }): Answer {
  const { level } = call
  const frame = granuleIn(data, call.rtt, GRANULE.DELEGATED)
  const realm = realmAt(data, call.rd)
  if (frame < 0 || realm === undefined) return INPUT
  const page = tablePage(realm.rtt, call.ipa, level)
  if (page < 0) return INPUT
  const reached = walkLevel(realm.rtt, page, level - 1)
  if (reached < level - 1 || isTable(realm.rtt, page, level - 1)) return rttError(reached)
  addTable(data.granules, realm, page, level, frame)
  return DONE
}

/**
 * RTT_DESTROY (4.2, 5), in any Realm: a table without live entries becomes DELEGATED, and the entry above U/D or
 * UNASSIGNED_NS. (RTT,level) while it has live ones. `top` is where the next live entry is, on ERROR_RTT too.
 */
export function rttDestroy({ data }: Host, { rd, ipa, level }: TableCall): Answer {
  const realm = realmAt(data, rd)
  const page = realm === undefined ? -1 : tablePage(realm.rtt, ipa, level)
  if (realm === undefined || page < 0) return INPUT_WITHOUT_TOP
  const { rtt } = realm
  const reached = walkLevel(rtt, page, level - 1)
  if (!isTable(rtt, page, reached)) return rttError(reached, top(nextLive(rtt, page, reached)))
  if (hasLiveEntries(rtt, page, level)) return rttError(level, top(page))
  const frame = destroyTable(data.granules, realm, page, level)
  return done({ rtt: addressOf(frame), ...top(nextLive(rtt, page, level - 1)) })
}

/**
 * RTT_FOLD (4.2, 5), in any Realm: 512 entries that agree become the entry above. (RTT,level-1) where that is no TABLE,
 * or where a block would be larger than 1 GiB; (RTT,level) where the entries don't agree.
 */
export function rttFold({ data }: Host, { rd, ipa, level }: TableCall): Answer {
  const realm = realmAt(data, rd)
  const page = realm === undefined ? -1 : tablePage(realm.rtt, ipa, level)
  if (realm === undefined || page < 0) return INPUT
  const { rtt } = realm
  const reached = walkLevel(rtt, page, level - 1)
  if (!isTable(rtt, page, reached)) return rttError(reached)
  if (!isHomogeneous(rtt, page, level)) return rttError(level)
  if (level - 1 < LARGEST_BLOCK_LEVEL && isLive(rtt, page, 3)) return rttError(level - 1)
  return done({ rtt: addressOf(foldTable(data.granules, realm, page, level)) })
}

/**
 * RTT_READ_ENTRY (5), in any Realm: the entry where a walk to `level` ends. INPUT alone can fail; a walk that ends above is
 * success with the level it reached.
 */
export function rttReadEntry({ data }: Host, { rd, ipa, level }: TableCall): Answer {
  const realm = realmAt(data, rd)
  if (realm === undefined || level < realm.rtt.startLevel || level > 3) return INPUT
  const page = pageOf(ipa)
  if (page < 0 || page >= realm.rtt.endPage || page % spanOf(level) !== 0) return INPUT
  const entry = walk(realm.rtt, page, level)
  return done({
    level: entry.level,
    state: entry.state,
    desc: hex(shownDescriptor(entry, isProtected(realm.rtt, page), realm.lpa2)),
    ripas: ripasName(isProtected(realm.rtt, page) ? ripasOf(entry.word) : RIPAS.EMPTY),
  })
}

/** What the host is shown (5): no address where nothing is mapped, nor, by tf-rmm, of a page that is DESTROYED. */
export function shownDescriptor(entry: Entry, inProtected: boolean, lpa2: boolean): bigint {
  if (entry.frame < 0) return 0n
  if (entry.state === 'TABLE') return descriptorOf(entry.frame, 0, lpa2)
  if (inProtected) return ripasOf(entry.word) === RIPAS.DESTROYED ? 0n : descriptorOf(entry.frame, 0, lpa2)
  return descriptorOf(entry.frame, entry.word, lpa2)
}
