import type { PageDescription } from '../contract.ts'
import * as PageMap from '../shared/page-map.ts'
import { type Host, tdOf } from './data.ts'
import { explainPamt, explainPage as explainSept, explainTd } from './module/explain.ts'
import { SPAN } from './module/geometry.ts'
import { entryAt, typeName, typeOf } from './module/pamt.ts'
import { leafAt, levelOfLeaf, stateOfLeaf } from './module/sept.ts'
import { isBlockedState, STATE, stateName } from './module/states.ts'
import type { Td } from './module/td.ts'

export type Emit = (count: number, state: PageDescription) => void

const SIZES = ['4K', '2M', '1G', '512G', '256T'] as const
const ACCEPTED = { [STATE.MAPPED]: true, [STATE.PENDING]: false } as Readonly<Partial<Record<number, boolean>>>

/** Describes private pages run by run, by Secure EPT and PAMT; equal states give one and the same object. */
export function createDescriber(): (
  host: Host,
  vm: string,
  gfn: number,
  frame: number,
  count: number,
  emit: Emit,
) => void {
  const known = new Map<number, PageDescription>()
  const description = (leaf: number, pamtType: number): PageDescription => {
    const key = leaf * 16 + pamtType
    const found = known.get(key) ?? present(leaf, pamtType)
    known.set(key, found)
    return found
  }
  return ({ data }, vm, gfn, frame, count, emit) => {
    const td = tdOf(data, vm)
    const end = gfn + count
    for (let at = gfn; at < end; ) {
      const host = frame + at - gfn
      const type = typeOf(entryAt(data.pamt, host))
      const pamtEnd = at + PageMap.nextRun(data.pamt.types, host, host + end - at) - host
      const next = td === undefined ? pamtEnd : PageMap.nextRun(td.sept.entries, at, visibleEnd(td, at, pamtEnd))
      emit(next - at, description(td === undefined ? 0 : leafAt(td.sept, at), type))
      at = next
    }
  }
}

/** A table that raw calls have blocked hides its leafs, so that pages agree at most as far as one table goes. */
const visibleEnd = ({ sept }: Td, gfn: number, end: number): number =>
  sept.blockedTables === 0 ? end : Math.min(end, gfn - (gfn % SPAN[1]) + SPAN[1])

function present(leaf: number, pamtType: number): PageDescription {
  const state = stateOfLeaf(leaf)
  const accepted = ACCEPTED[state]
  const hardware = {
    sept: stateName(state),
    ...(leaf === 0 ? {} : { pageSize: SIZES[levelOfLeaf(leaf)] ?? '4K' }),
    ...(accepted === undefined ? {} : { accepted }),
    pamt: typeName(pamtType),
  }
  const owner = leaf === 0 ? (pamtType === 0 ? 'host' : 'module') : isBlockedState(state) ? 'nobody' : 'guest'
  return { owner, hardware }
}

/** The Secure EPT's walk, the page's PAMT entry and the TD's own state, for a person to read. */
export function explain(
  { data }: Host,
  vm: string,
  gfn: number,
  frame: number | undefined,
): Readonly<Record<string, unknown>> {
  const td = tdOf(data, vm)
  if (td === undefined) return frame === undefined ? {} : { pamt: explainPamt(data, frame) }
  return { ...explainSept(data, td, gfn, frame), td: explainTd(td) }
}
