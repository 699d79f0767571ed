import type { CcaData } from '../data.ts'
import { access } from './access.ts'
import type { Outputs } from './answer.ts'
import { addressOf, ENTRIES, hex, indexAt, PAGE_BITS } from './geometry.ts'
import { granuleName, granuleState, ownerFrame, pasOf } from './granules.ts'
import type { Realm } from './realm.ts'
import type { Rec, RipasChange } from './rec.ts'
import { rimText } from './rsi.ts'
import { entryAt, isProtected, walkLevel } from './rtt.ts'
import { shownDescriptor } from './rtt-commands.ts'
import { entryName, RIPAS, type Ripas, ripasName, ripasOf } from './states.ts'

/** Every entry on the way from the root to a page, as RTT_READ_ENTRY shows it, down to the first that is no TABLE. */
export function explainWalk({ rtt, lpa2 }: Realm, page: number): Outputs[] {
  if (page >= rtt.endPage) return []
  const steps: Outputs[] = []
  const reached = walkLevel(rtt, page, 3)
  const inProtected = isProtected(rtt, page)
  for (let level = rtt.startLevel; level <= reached; level++) {
    const entry = entryAt(rtt, page, level)
    const isTable = entry.state === 'TABLE'
    steps.push({
      level,
      index: indexAt(page, level) % ENTRIES,
      ipa: addressOf(entry.page),
      state: isTable ? 'TABLE' : entryName(entry.word, inProtected),
      ...(isTable || !inProtected ? {} : explainRipas(ripasOf(entry.word))),
      desc: hex(shownDescriptor(entry, inProtected, lpa2)),
      ...(isTable ? { table: addressOf(entry.frame) } : {}),
    })
  }
  return steps
}

/** `acknowledged`: the guest may use the address, or knows that it may not; a DESTROYED one it has to give up first. */
const explainRipas = (ripas: Ripas): Outputs => ({
  ripas: ripasName(ripas),
  acknowledged: ripas !== RIPAS.DESTROYED,
})

/** What the RMM and the granule protection table say of a frame (arm-cca.md 2). */
export function explainGranule({ granules }: CcaData, frame: number): Outputs {
  const state = granuleState(granules, frame)
  const owner = frame < granules.frames ? ownerFrame(granules, frame) : -1
  return {
    pa: addressOf(frame),
    state: granuleName(state),
    pas: pasOf(state),
    ...(owner < 0 ? {} : { rd: addressOf(owner) }),
  }
}

/** All that is to be known of a guest page and the frame behind it: both halves' walks, what a load meets, the granule. */
export const explainPage = (data: CcaData, realm: Realm, page: number, frame: number | undefined): Outputs => ({
  protected: explainWalk(realm, page),
  unprotected: explainWalk(realm, page + realm.rtt.unprotectedPage),
  load: {
    protected: loadAt(data, realm, page),
    unprotected: loadAt(data, realm, page + realm.rtt.unprotectedPage),
  },
  ...(frame === undefined ? {} : { granule: explainGranule(data, frame) }),
})

const loadAt = (data: CcaData, realm: Realm, page: number): string =>
  access({ data }, realm, { ipa: BigInt(page) << BigInt(PAGE_BITS), kind: 'read' }).kind

/** A Realm's own state and its RECs' (3). */
export const explainRealm = ({ recs }: CcaData, realm: Realm): Outputs => ({
  rd: addressOf(realm.rd),
  state: realm.state,
  s2sz: realm.s2sz,
  rttLevelStart: realm.rtt.startLevel,
  rttNumStart: realm.rtt.rootTables,
  vmid: realm.vmid,
  rim: rimText(realm),
  recs: realm.recs.flatMap((frame) => {
    const rec = recs.get(frame)
    return rec === undefined ? [] : [explainRec(rec)]
  }),
})

const explainRec = ({ frame, index, runnable, running, lastExit, ripasChange }: Rec): Outputs => ({
  rec: addressOf(frame),
  index,
  runnable,
  running,
  lastExit: lastExit.reason,
  ...(ripasChange === undefined ? {} : { ripasChange: explainChange(ripasChange) }),
})

const explainChange = ({ base, top, next, ripas, changeDestroyed }: RipasChange): Outputs => ({
  base: addressOf(base),
  top: addressOf(top),
  next: addressOf(next),
  ripas: ripasName(ripas),
  changeDestroyed,
})
