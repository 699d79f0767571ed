import type { Mapping, Verdict } from '../../contract.ts'
import * as PageMap from '../../shared/page-map.ts'
import { type Host, realmOf, vmOf } from '../data.ts'
import { spanOf, startAt, tableEnd } from '../rmm/geometry.ts'
import { areAll, GRANULE } from '../rmm/granules.ts'
import type { Realm } from '../rmm/realm.ts'
import { frameAt, stateAt, walkLevel } from '../rmm/rtt.ts'
import { addTables, delegateRange, destroyRange, mapData, setRipasRange, undelegateRange } from '../rmm/rtt-ranges.ts'
import { isData, RIPAS, type Ripas } from '../rmm/states.ts'
import { keep, takeGranule } from './granule-pool.ts'
import { OK, refuse } from './refusal.ts'

const LEAF = 3

/**
 * KVM's private fault (arm-cca.md 7): the tables that are missing, DELEGATE, DATA_CREATE_UNKNOWN. RIPAS stays as it is.
 * Pages that are there already stay. Until the Realm is active KVM maps nothing: a page that fallocate has filled by then
 * waits for its fault.
 */
export function assign(host: Host, vm: string, gfn: number, frame: number, count: number): Verdict {
  const realm = realmOf(host.data, vm)
  if (realm === undefined) return refuse('ENXIO', 'no-realm', 'The Realm has been destroyed.')
  if (realm.state === 'NEW') return OK
  if (gfn + count > realm.rtt.unprotectedPage)
    return refuse('EFAULT', 'ipa-beyond-width', 'The address is not in the protected half of the IPA space.')
  if (!ensureTables(host, vm, realm, gfn, gfn + count))
    return refuse('ENOMEM', 'no-table-page', 'There is no memory for a translation table.')
  const end = gfn + count
  for (let at = gfn; at < end; ) {
    const next = count === 1 ? end : PageMap.nextRun(realm.rtt.entries, at, end)
    const verdict = assignRun(host, realm, at, next, frame + at - gfn)
    if (!verdict.ok) return verdict
    at = next
  }
  return OK
}

function assignRun(host: Host, realm: Realm, start: number, end: number, frame: number): Verdict {
  if (isData(stateAt(realm.rtt, start))) {
    for (let at = start; at < end; at = PageMap.nextRun(realm.rtt.frames, at, end))
      if (frameAt(realm.rtt, at) !== frame + at - start)
        return refuse('ENXIO', 'page-assigned', `Guest frame 0x${at.toString(16)} is assigned to another granule.`)
    return OK
  }
  if (!areAll(host.data.granules, frame, end - start, GRANULE.UNDELEGATED))
    return refuse('ENXIO', 'granule-not-delegable', 'A page the kernel holds for free is not UNDELEGATED.')
  delegateRange(host, frame, end - start)
  mapData(host.data.granules, realm, start, frame, end - start)
  return OK
}

/** RTT_CREATE of every table that level 3 entries of [start, end) need; false when memory is gone. */
export function ensureTables(host: Host, vm: string, realm: Realm, start: number, end: number): boolean {
  const { pages } = vmOf(host.data, vm)
  return addTables(host.data.granules, realm, start, end, LEAF, () => takeGranule(host, pages)) >= end
}

/**
 * KVM takes pages back: DATA_DESTROY, which leaves what was RAM as DESTROYED, then UNDELEGATE (4.1, 7). False when a
 * granule is still the RMM's: raw commands have put it elsewhere.
 */
export function release(host: Host, vm: string, gfn: number, frame: number, count: number): boolean {
  const realm = realmOf(host.data, vm)
  if (realm !== undefined && gfn >= 0) destroy(host, vm, realm, gfn, count)
  if (undelegateAll(host, frame, count)) return true
  keep(host, vm, frame, count)
  return false
}

/** Undelegates what of a run is DELEGATED; pages that were never mapped are UNDELEGATED beside it. Says whether all are now. */
function undelegateAll(host: Host, frame: number, count: number): boolean {
  const { granules } = host.data
  const end = frame + count
  if (areAll(granules, frame, count, GRANULE.DELEGATED)) undelegateRange(host, frame, count)
  else
    for (let at = frame; at < end; ) {
      const next = PageMap.nextRun(granules.words, at, end)
      if (areAll(granules, at, next - at, GRANULE.DELEGATED)) undelegateRange(host, at, next - at)
      at = next
    }
  return areAll(granules, frame, count, GRANULE.UNDELEGATED)
}

/** The same where the pages stay in their memfile: they are the host's again, and empty. */
export function unmapPrivate(host: Host, vm: string, gfn: number, count: number): void {
  const realm = realmOf(host.data, vm)
  if (realm !== undefined) destroy(host, vm, realm, gfn, count, true)
}

function destroy(host: Host, vm: string, realm: Realm, gfn: number, count: number, undelegate = false): void {
  const { rtt } = realm
  const end = Math.min(gfn + count, rtt.unprotectedPage)
  for (let at = PageMap.nextNonZero(rtt.frames, gfn, end); at < end; at = PageMap.nextNonZero(rtt.frames, at, end)) {
    const next = end - at === 1 ? end : PageMap.nextRun(rtt.frames, at, end)
    // A block that raw commands have folded is unfolded first, as KVM does on (RTT,2).
    if (!ensureTables(host, vm, realm, at, next)) return
    const frame = frameAt(rtt, at)
    destroyRange(host, realm, at, next - at)
    if (undelegate) undelegateRange(host, frame, next - at)
    at = next
  }
}

/** What a private access is translated to, whatever its RIPAS says of it (arm-cca.md 6). */
export function translatePrivate(host: Host, vm: string, gfn: number): Mapping | undefined {
  const realm = realmOf(host.data, vm)
  if (realm === undefined || gfn >= realm.rtt.unprotectedPage || !isData(stateAt(realm.rtt, gfn))) return undefined
  return { frame: frameAt(realm.rtt, gfn), span: spanOf(walkLevel(realm.rtt, gfn, LEAF)), private: true }
}

/** The guest frame that an unprotected IPA is an alias of, or -1 (4). */
export function sharedAlias(host: Host, vm: string, gfn: number): number {
  const rtt = realmOf(host.data, vm)?.rtt
  return rtt !== undefined && gfn >= rtt.unprotectedPage && gfn < rtt.endPage ? gfn - rtt.unprotectedPage : -1
}

/**
 * RTT_SET_RIPAS over the whole range that the guest asked for, with the tables where a block is larger than the rest of it
 * (5, 7); the guest has given up what is DESTROYED, and KVM takes back what is EMPTY. False when there is no memory for a
 * table.
 */
export function setRipas(host: Host, vm: string, realm: Realm, start: number, end: number, ripas: Ripas): boolean {
  if (!splitAt(host, vm, realm, start, end)) return false
  setRipasRange(realm.rtt, start, end - start, ripas)
  if (ripas === RIPAS.EMPTY) unmapPrivate(host, vm, start, end - start)
  return true
}

/** Tables for the entries that reach over the borders of [start, end). */
export function splitAt(host: Host, vm: string, realm: Realm, start: number, end: number): boolean {
  for (let at = start; at < end; ) {
    const level = walkLevel(realm.rtt, at, LEAF)
    if (level === LEAF) {
      at = Math.min(end, tableEnd(at, LEAF))
      continue
    }
    const next = startAt(at, level) + spanOf(level)
    if (startAt(at, level) !== at || next > end) {
      if (!addOne(host, vm, realm, at, level + 1)) return false
    } else at = next
  }
  return true
}

function addOne(host: Host, vm: string, realm: Realm, page: number, level: number): boolean {
  const { pages } = vmOf(host.data, vm)
  return addTables(host.data.granules, realm, page, page + 1, level, () => takeGranule(host, pages)) > page
}
