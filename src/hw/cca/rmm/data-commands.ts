import type { Host } from '../data.ts'
import { extendData } from '../measurement/rim.ts'
import {
  type Answer,
  type Checked,
  DONE,
  done,
  fail,
  INPUT,
  INPUT_WITHOUT_TOP,
  pass,
  realmError,
  rttError,
  top,
} from './answer.ts'
import { addressOf, PAGE_SIZE } from './geometry.ts'
import { GRANULE } from './granules.ts'
import { granuleIn, protectedPage, realmAt } from './operands.ts'
import type { Realm } from './realm.ts'
import { isLive, nextLive, stateAt, walkLevel } from './rtt.ts'
import { destroyPage, mapData, mapRamPage } from './rtt-ranges.ts'
import { isData } from './states.ts'

const ZERO_PAGE = new Uint8Array(PAGE_SIZE)

export type DataCall = { readonly rd: bigint; readonly data: bigint; readonly ipa: bigint }
/** `flags`: 1 is MEASURE_CONTENT. */
export type DataCreateCall = DataCall & { readonly src: bigint; readonly flags: bigint }

type Place = { readonly realm: Realm; readonly frame: number }

/**
 * DATA_CREATE (arm-cca.md 5), in a NEW Realm: copies a host page into a DELEGATED granule, which becomes A/R whatever RIPAS
 * was, and extends the RIM. Granules end below 2^43, so none needs LPA2.
 */
export function dataCreate(host: Host, call: DataCreateCall): Answer {
  const { data, machine } = host
  if (call.flags !== 0n && call.flags !== 1n) return INPUT
  const src = granuleIn(data, call.src, GRANULE.UNDELEGATED)
  if (src < 0) return INPUT
  const place = findPlace(host, call)
  if (!place.ok) return place.answer
  const { realm, frame } = place.value
  if (realm.state !== 'NEW') return realmError()
  const page = freePage(realm, call.ipa)
  if (!page.ok) return page.answer
  const bytes = machine.read(src)
  const flags = call.flags === 1n ? 1 : 0
  realm.rim = extendData(realm.hashAlgo, realm.rim, call.ipa, flags, bytes ?? ZERO_PAGE)
  machine.write(frame, bytes)
  mapRamPage(data.granules, realm, page.value, frame)
  return DONE
}

/** DATA_CREATE_UNKNOWN (5), in any Realm: the page is ASSIGNED and zero, and its RIPAS what it was. */
export function dataCreateUnknown(host: Host, call: DataCall): Answer {
  const place = findPlace(host, call)
  if (!place.ok) return place.answer
  const { realm, frame } = place.value
  const page = freePage(realm, call.ipa)
  if (!page.ok) return page.answer
  mapData(host.data.granules, realm, page.value, frame, 1)
  return DONE
}

function findPlace({ data }: Host, call: DataCall): Checked<Place> {
  const frame = granuleIn(data, call.data, GRANULE.DELEGATED)
  const realm = realmAt(data, call.rd)
  return frame < 0 || realm === undefined ? fail(INPUT) : pass({ realm, frame })
}

/** The page of a protected IPA that is UNASSIGNED at level 3. */
function freePage({ rtt }: Realm, ipa: bigint): Checked<number> {
  const page = protectedPage(rtt, ipa)
  if (page < 0) return fail(INPUT)
  const level = walkLevel(rtt, page, 3)
  return level < 3 || isData(stateAt(rtt, page)) ? fail(rttError(level)) : pass(page)
}

/**
 * DATA_DESTROY (arm-cca.md 4.1, 5), in any Realm: A/R and A/D → U/D, A/E → U/E, the granule DELEGATED and wiped. `top` is
 * where the next live entry is, on ERROR_RTT too.
 */
export function dataDestroy(host: Host, rd: bigint, ipa: bigint): Answer {
  const realm = realmAt(host.data, rd)
  const page = realm === undefined ? -1 : protectedPage(realm.rtt, ipa)
  if (realm === undefined || page < 0) return INPUT_WITHOUT_TOP
  const level = walkLevel(realm.rtt, page, 3)
  if (level < 3 || !isLive(realm.rtt, page, 3)) return rttError(level, top(nextLive(realm.rtt, page, level)))
  const frame = destroyPage(host, realm, page)
  return done({ pa: addressOf(frame), ...top(nextLive(realm.rtt, page, 3)) })
}
