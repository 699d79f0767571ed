import * as PageMap from '../../shared/page-map.ts'
import { rsi } from './answer.ts'
import { addressOf, spanOf, startAt, tableEnd } from './geometry.ts'
import { answered, type GuestOutcome } from './guest.ts'
import { pageOf, protectedPage } from './operands.ts'
import type { Realm } from './realm.ts'
import type { Rec } from './rec.ts'
import { INPUT_OUTCOME } from './rsi.ts'
import { type Rtt, stateAt, tablesAt, walkLevel } from './rtt.ts'
import { RIPAS, type Ripas, ripasName, ripasOf } from './states.ts'

type Range = { readonly base: number; readonly top: number }

/** A range of pages that lies wholly in the protected half, undefined where it is not one. */
function protectedRange(rtt: Rtt, from: bigint, to: bigint): Range | undefined {
  const base = protectedPage(rtt, from)
  const top = pageOf(to)
  return base >= 0 && top > base && top <= rtt.unprotectedPage ? { base, top } : undefined
}

/** `ripas`: EMPTY or RAM as a number. */
export type IpaStateSet = {
  readonly base: bigint
  readonly top: bigint
  readonly ripas: bigint
  /** Bit 0: CHANGE_DESTROYED. */
  readonly flags: bigint
}

/**
 * RSI_IPA_STATE_SET (arm-cca.md 7): INPUT for another RIPAS, or a range that isn't aligned, not empty and protected; else
 * the request stays with the REC, and the host hears of it by an exit that doesn't show the flag.
 */
export function ipaStateSet(realm: Realm, rec: Rec, { base, top, ripas, flags }: IpaStateSet): GuestOutcome {
  const range = protectedRange(realm.rtt, base, top)
  if (range === undefined || ripas > BigInt(RIPAS.RAM)) return INPUT_OUTCOME
  const wanted: Ripas = ripas === 0n ? RIPAS.EMPTY : RIPAS.RAM
  rec.ripasChange = { ...range, ripas: wanted, changeDestroyed: (flags & 1n) === 1n, next: range.base }
  return { kind: 'exit', exit: { reason: 'RIPAS_CHANGE', ...range, ripas: wanted } }
}

/**
 * RSI_IPA_STATE_GET (7): INPUT as {@link ipaStateSet}; else the RIPAS at `start`, and in x1 how far it goes, at most to `end`
 * and to the end of one table.
 */
export function ipaStateGet(realm: Realm, start: bigint, end: bigint): GuestOutcome {
  const range = protectedRange(realm.rtt, start, end)
  if (range === undefined) return INPUT_OUTCOME
  const ripas = ripasOf(stateAt(realm.rtt, range.base))
  const reached = ripasEnd(realm.rtt, range, ripas)
  return answered(rsi('RSI_SUCCESS', { x1: addressOf(reached), ripas: ripasName(ripas) }))
}

function ripasEnd(rtt: Rtt, { base, top }: Range, ripas: Ripas): number {
  const level = walkLevel(rtt, base, 3)
  const limit = Math.min(top, tableEnd(base, level), level === 3 ? top : nextTable(rtt, base, level))
  let at = base
  while (at < limit && ripasOf(PageMap.get(rtt.entries, at)) === ripas) at = PageMap.nextRun(rtt.entries, at, limit)
  return at
}

/** Where the next entry of `level` in this table that is a TABLE begins. */
function nextTable(rtt: Rtt, page: number, level: number): number {
  const span = spanOf(level)
  const end = tableEnd(page, level) / span
  return PageMap.nextNonZero(tablesAt(rtt, level), startAt(page, level) / span, end) * span
}
