import type { PageDescription } from '../contract.ts'
import * as PageMap from '../shared/page-map.ts'
import { type Host, realmOf } from './data.ts'
import { explainGranule, explainPage, explainRealm } from './rmm/explain.ts'
import { granuleName, granuleState, pasOf } from './rmm/granules.ts'
import { stateAt } from './rmm/rtt.ts'
import { ENTRY, isData, ripasName, ripasOf } from './rmm/states.ts'

export type Emit = (count: number, state: PageDescription) => void

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

/** Both halves' walks, the granule behind the page and the Realm's own state, for a person to read (arm-cca.md 2 to 4). */
export function explain(
  { data }: Host,
  vm: string,
  gfn: number,
  frame: number | undefined,
): Readonly<Record<string, unknown>> {
  const realm = realmOf(data, vm)
  if (realm === undefined) return frame === undefined ? {} : { granule: explainGranule(data, frame) }
  return { ...explainPage(data, realm, gfn, frame), realm: explainRealm(data, realm) }
}
