import type { TdxData } from '../data.ts'
import { entryOutputs, type Outputs } from './answer.ts'
import { addressOf, type Level, SPAN } from './geometry.ts'
import { lifecycleName, opStateName } from './op-states.ts'
import { epochOf, ownerFrame, PAGE_TYPE, entryAt as pamtEntry, sizeOf, typeName, typeOf } from './pamt.ts'
import { entryAt, type Sept, walk } from './sept.ts'
import { isBlockedState, STATE, stateName } from './states.ts'
import { pendingExits, type Td } from './td.ts'
import { isTracked } from './tracking.ts'
import { vcpuStateName } from './vcpu.ts'

const SIZES = ['4K', '2M', '1G'] as const

/**
 * Every entry on the way from the root to `gfn`, as SEPT.RD would show it, down to where there is none; also what a
 * blocked table hides (intel-tdx.md c.1).
 */
export function explainWalk(sept: Sept, gfn: number): Outputs[] {
  const steps: Outputs[] = []
  for (let level: number = sept.top; level >= 0; level--) {
    const entry = entryAt(sept, gfn, level as Level)
    const table = entry.state === STATE.NL_MAPPED || entry.state === STATE.NL_BLOCKED
    steps.push({
      level,
      index: Math.floor(gfn / SPAN[level as Level]) % SPAN[1],
      state: stateName(entry.state),
      ...entryOutputs(entry),
      ...(table ? { table: addressOf(entry.frame) } : {}),
    })
    if (!table) break
  }
  return steps
}

/** The PAMT entry of a page: type, size, owner, and when it was blocked (b). */
export function explainPamt({ pamt, tds }: TdxData, frame: number): Outputs {
  if (frame >= pamt.frames) return { hpa: addressOf(frame), type: 'none' }
  const entry = pamtEntry(pamt, frame)
  const owner = ownerFrame(pamt, entry)
  const td = tds.get(owner)
  const type = typeOf(entry)
  const counted = td !== undefined && (type === PAGE_TYPE.REG || type === PAGE_TYPE.EPT)
  return {
    hpa: addressOf(frame),
    type: typeName(type),
    size: SIZES[sizeOf(entry)],
    ...(owner < 0 ? {} : { tdr: addressOf(owner) }),
    ...(counted ? { blockedEpoch: epochOf(pamt, frame, td.epoch) } : {}),
  }
}

/** What the guest's access meets, in a word: "accepted", "pending", "blocked", "free" (c.1, d.2). */
export function acceptance(sept: Sept, gfn: number): 'accepted' | 'pending' | 'blocked' | 'free' {
  const { state } = walk(sept, gfn, 0)
  if (state === STATE.MAPPED) return 'accepted'
  if (state === STATE.PENDING) return 'pending'
  return isBlockedState(state) ? 'blocked' : 'free'
}

/** All that is to be known of a guest page and the frame behind it: the walk, PAMT, acceptance, tracking. */
export function explainPage(data: TdxData, td: Td, gfn: number, frame: number | undefined): Outputs {
  const met = walk(td.sept, gfn, 0)
  return {
    sept: explainWalk(td.sept, gfn),
    acceptance: acceptance(td.sept, gfn),
    pendingAccess: pendingExits(td) ? 'TD exit' : '#VE',
    ...(isBlockedState(met.state)
      ? { tracked: isTracked(td, epochOf(data.pamt, met.frame, td.epoch)), tdEpoch: td.epoch }
      : {}),
    ...(frame === undefined ? {} : { pamt: explainPamt(data, frame), poisoned: data.poisoned.has(frame) }),
  }
}

/** A TD's own state (a.1, a.2, c.4). */
export const explainTd = (td: Td): Outputs => ({
  tdr: addressOf(td.tdr),
  hkid: td.hkid,
  lifecycle: lifecycleName(td.lifecycle),
  opState: opStateName(td.opState),
  fatal: td.fatal,
  childCount: td.childCount,
  tdEpoch: td.epoch,
  refcount: [...td.refcount],
  vcpus: [...td.vcpus.values()].map((vcpu) => ({
    tdvpr: addressOf(vcpu.tdvpr),
    index: vcpu.index,
    state: vcpuStateName(vcpu.state),
    lp: vcpu.lp,
    ...(vcpu.enteredEpoch < 0 ? {} : { enteredEpoch: vcpu.enteredEpoch }),
  })),
})
