import type { PageDescription } from '../contract.ts'
import { addressOf } from '../shared/address-schema.ts'
import * as PageMap from '../shared/page-map.ts'
import { type Host, realmOf } from './data.ts'
import { descriptorOf } from './rmm/descriptor.ts'
import { hex, indexAt } from './rmm/geometry.ts'
import { granuleName, granuleState, ownerFrame, pasOf } from './rmm/granules.ts'
import { entryAt, isProtected, isTable, type Rtt, stateAt, walkLevel } from './rmm/rtt.ts'
import { ENTRY, entryName, isData, RIPAS, ripasName, ripasOf } from './rmm/states.ts'

export type Emit = (count: number, state: PageDescription) => void

const LEAF = 3
const STATES = 256

/** Describes private pages run by run, by HIPAS, RIPAS and granule; equal states give one and the same object. */
export function createDescriber(): (
  host: Host,
  vm: string,
  gfn: number,
  frame: number,
  count: number,
  emit: Emit,
) => void {
  const known = new Map<number, PageDescription>()
  const description = (entry: number, granule: number): PageDescription => {
    const key = entry * STATES + granule
    const found = known.get(key) ?? present(entry, granule)
    known.set(key, found)
    return found
  }
  return ({ data }, vm, gfn, frame, count, emit) => {
    const realm = realmOf(data, vm)
    const end = gfn + count
    for (let at = gfn; at < end; ) {
      const host = frame + at - gfn
      const granule = granuleState(data.granules, host)
      const granuleEnd = at + PageMap.nextRun(data.granules.words, host, host + end - at) - host
      const next = realm === undefined ? granuleEnd : PageMap.nextRun(realm.rtt.entries, at, granuleEnd)
      emit(next - at, description(realm === undefined ? 0 : stateAt(realm.rtt, at), granule))
      at = next
    }
  }
}

function present(entry: number, granule: number): PageDescription {
  const ripas = ripasName(ripasOf(entry))
  const hardware = {
    hipas: isData(entry) ? 'ASSIGNED' : 'UNASSIGNED',
    ripas,
    granule: granuleName(granule),
    pas: pasOf(granule),
  }
  const owner = pasOf(granule) === 'NS' ? 'host' : entry === ENTRY.ASSIGNED_RAM ? 'guest' : 'rmm'
  return { owner, hardware }
}

/** Both halves' walks, the granules behind the page and the Realm's own state, for a person to read (arm-cca.md 2 to 4). */
export function explain(
  { data }: Host,
  vm: string,
  gfn: number,
  frame: number | undefined,
): Readonly<Record<string, unknown>> {
  const realm = realmOf(data, vm)
  const granule = frame === undefined ? {} : { granule: explainGranule({ data }, frame) }
  if (realm === undefined) return granule
  const { rtt, state, s2sz, rd } = realm
  return {
    ...granule,
    protected: explainWalk(rtt, gfn, realm.lpa2),
    unprotected: explainWalk(rtt, gfn + rtt.unprotectedPage, realm.lpa2),
    realm: {
      rd: addressOf(rd),
      state,
      s2sz,
      startLevel: rtt.startLevel,
      rootTables: rtt.rootTables,
      recs: realm.recs.map(addressOf),
    },
  }
}

function explainGranule({ data }: Pick<Host, 'data'>, frame: number): Readonly<Record<string, unknown>> {
  const state = granuleState(data.granules, frame)
  const owner = frame < data.granules.frames ? ownerFrame(data.granules, frame) : -1
  return {
    pa: addressOf(frame),
    state: granuleName(state),
    pas: pasOf(state),
    ...(owner < 0 ? {} : { rd: addressOf(owner) }),
  }
}

/** Every entry from the root to where the walk ends. */
function explainWalk(rtt: Rtt, page: number, lpa2: boolean): Readonly<Record<string, unknown>>[] {
  if (page >= rtt.endPage) return []
  const steps: Readonly<Record<string, unknown>>[] = []
  const last = walkLevel(rtt, page, LEAF)
  for (let level = rtt.startLevel; level <= last; level++) {
    const entry = entryAt(rtt, page, level)
    const step = { level, index: indexAt(page, level) % 512, ipa: addressOf(entry.page), state: entry.state }
    if (isTable(rtt, page, level)) steps.push({ ...step, table: addressOf(entry.frame) })
    else steps.push({ ...step, ...explainLeaf(rtt, page, entry.word, entry.frame, lpa2) })
  }
  return steps
}

function explainLeaf(
  rtt: Rtt,
  page: number,
  word: number,
  frame: number,
  lpa2: boolean,
): Readonly<Record<string, unknown>> {
  const inProtected = isProtected(rtt, page)
  return {
    entry: entryName(word, inProtected),
    ...(inProtected ? { ripas: ripasName(ripasOf(word)), acknowledged: ripasOf(word) !== RIPAS.DESTROYED } : {}),
    ...(frame < 0 ? {} : { pa: addressOf(frame), desc: hex(descriptorOf(frame, inProtected ? 0 : word, lpa2)) }),
  }
}
