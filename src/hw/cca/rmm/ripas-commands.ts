import * as PageMap from '../../shared/page-map.ts'
import type { Host } from '../data.ts'
import { extendRipas } from '../measurement/rim.ts'
import { type Answer, done, INPUT, REC, realmError, rttError } from './answer.ts'
import { addressOf, PAGE_SIZE, spanOf, startAt, tableEnd } from './geometry.ts'
import { pageOf, protectedPage, realmAt, recAt } from './operands.ts'
import type { Realm } from './realm.ts'
import type { RipasChange } from './rec.ts'
import { type Rtt, tablesAt, walkLevel } from './rtt.ts'
import { setRipasRange } from './rtt-ranges.ts'
import { ENTRY, RIPAS, ripasOf } from './states.ts'

export type RipasCall = { readonly rd: bigint; readonly base: bigint; readonly top: bigint }

/**
 * RTT_INIT_RIPAS (arm-cca.md 5), in a NEW Realm: UNASSIGNED entries EMPTY or RAM from `base` become RAM, in one table, and
 * each extends the RIM. `out_top` is where it stopped; (RTT,reached) without any progress.
 */
export function rttInitRipas({ data }: Host, call: RipasCall): Answer {
  if (call.top <= call.base) return INPUT
  const realm = realmAt(data, call.rd)
  if (realm === undefined) return INPUT
  const base = protectedPage(realm.rtt, call.base)
  const end = endPage(realm.rtt, call.top)
  if (base < 0 || end < 0) return INPUT
  if (realm.state !== 'NEW') return realmError()
  const level = walkLevel(realm.rtt, base, 3)
  const stop = reachable(realm.rtt, base, end, level, isInitial)
  if (stop <= base) return rttError(level)
  initialise(realm, base, stop, spanOf(level))
  return done({ out_top: addressOf(stop) })
}

const isInitial = (entry: number): boolean => entry === ENTRY.UNASSIGNED_EMPTY || entry === ENTRY.UNASSIGNED_RAM

function initialise(realm: Realm, base: number, end: number, span: number): void {
  for (let page = base; page < end; page += span)
    realm.rim = extendRipas(realm.hashAlgo, realm.rim, bytesOf(page), bytesOf(page + span))
  setRipasRange(realm.rtt, base, end - base, RIPAS.RAM)
}

const bytesOf = (page: number): bigint => BigInt(page) * BigInt(PAGE_SIZE)

/** The page after the last of a protected range, -1 where `top` isn't aligned or protected as an end. */
function endPage(rtt: Rtt, top: bigint): number {
  const page = pageOf(top)
  return page <= rtt.unprotectedPage ? page : -1
}

/**
 * How far from `base` entries of `level` can be changed in one table: to where the range, the table or what `passes` ends, or
 * a TABLE begins. `base` itself where it isn't aligned to its entry or nothing can.
 */
function reachable(rtt: Rtt, base: number, end: number, level: number, passes: (entry: number) => boolean): number {
  if (startAt(base, level) !== base) return base
  const limit = Math.min(startAt(end, level), tableEnd(base, level))
  if (limit <= base) return base
  const changeable = passingEnd(rtt, base, limit, passes)
  const stop = changeable < limit ? startAt(changeable, level) : limit
  return level === 3 ? stop : Math.min(stop, firstTable(rtt, base, limit, level))
}

function passingEnd({ entries }: Rtt, from: number, end: number, passes: (entry: number) => boolean): number {
  let at = from
  while (at < end && passes(PageMap.get(entries, at))) at = PageMap.nextRun(entries, at, end)
  return at
}

function firstTable(rtt: Rtt, from: number, end: number, level: number): number {
  const span = spanOf(level)
  return PageMap.nextNonZero(tablesAt(rtt, level), from / span, end / span) * span
}

/**
 * RTT_SET_RIPAS (arm-cca.md 4.1, 5): what the REC asked for with RSI_IPA_STATE_SET, from where it has come, in one table.
 * Stops at a DESTROYED entry that the guest didn't give up. `out_top` is where it stopped, and the REC's next address.
 */
export function rttSetRipas({ data }: Host, call: RipasCall & { readonly rec: bigint }): Answer {
  if (call.top <= call.base) return INPUT
  const realm = realmAt(data, call.rd)
  const rec = recAt(data, call.rec)
  if (realm === undefined || rec === undefined) return INPUT
  if (rec.running || rec.rd !== realm.rd) return REC
  const change = rec.ripasChange
  const base = pageOf(call.base)
  const end = pageOf(call.top)
  if (change === undefined || base !== change.next || end < 0 || end > change.top) return INPUT
  const level = walkLevel(realm.rtt, base, 3)
  const stop = reachable(realm.rtt, base, end, level, mayChange(change))
  if (stop <= base) return rttError(level)
  setRipasRange(realm.rtt, base, stop - base, change.ripas)
  change.next = stop
  return done({ out_top: addressOf(stop) })
}

const mayChange = ({ changeDestroyed }: RipasChange): ((entry: number) => boolean) =>
  changeDestroyed ? () => true : (entry) => ripasOf(entry) !== RIPAS.DESTROYED
