import type { CcaData } from '../data.ts'
import type { Outputs } from './answer.ts'
import { addressOf, ENTRIES, hex, indexAt } from './geometry.ts'
import { granuleName, granuleState, ownerFrame, pasOf } from './granules.ts'
import type { Realm } from './realm.ts'
import { rimText } from './rsi.ts'
import { entryAt, isProtected, stateAt, walkLevel } from './rtt.ts'
import { shownDescriptor } from './rtt-commands.ts'
import { entryName, ripasName, ripasOf } from './states.ts'

/** Every entry on the way from the root to a page, as RTT_READ_ENTRY shows it, down to the first that is no TABLE. */
export function explainWalk({ rtt, lpa2 }: Realm, page: number): Outputs[] {
  const steps: Outputs[] = []
  const reached = walkLevel(rtt, page, 3)
  const inProtected = isProtected(rtt, page)
  for (let level = rtt.startLevel; level <= reached; level++) {
    const entry = entryAt(rtt, page, level)
    const isTable = entry.state === 'TABLE'
    steps.push({
      level,
      index: indexAt(page, level) % ENTRIES,
      state: isTable ? 'TABLE' : entryName(entry.word, inProtected),
      ...(isTable || !inProtected ? {} : { ripas: ripasName(ripasOf(entry.word)) }),
      desc: hex(shownDescriptor(entry, inProtected, lpa2)),
      ...(isTable ? { table: addressOf(entry.frame) } : {}),
    })
  }
  return steps
}

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

/** What an access of the Realm's data meets, in a word (6). */
function dataAccess({ rtt }: Realm, page: number): 'ok' | 'SEA' | 'exit' {
  const name = entryName(stateAt(rtt, page), isProtected(rtt, page))
  if (name === 'ASSIGNED/RAM' || name === 'ASSIGNED_NS') return 'ok'
  return name.endsWith('/EMPTY') ? 'SEA' : 'exit'
}

/** All that is to be known of an IPA page and the frame behind it: the walk, what an access meets, the granule. */
export const explainPage = (data: CcaData, realm: Realm, page: number, frame: number | undefined): Outputs => ({
  rtt: explainWalk(realm, page),
  half: isProtected(realm.rtt, page) ? 'protected' : 'unprotected',
  dataAccess: dataAccess(realm, page),
  ...(frame === undefined ? {} : { granule: explainGranule(data, frame) }),
})

/** A Realm's own state and its RECs' (3). */
export const explainRealm = ({ recs }: CcaData, realm: Realm): Outputs => ({
  rd: addressOf(realm.rd),
  state: realm.state,
  s2sz: realm.s2sz,
  rttLevelStart: realm.rtt.startLevel,
  rttNumStart: realm.rtt.rootTables,
  vmid: realm.vmid,
  rim: rimText(realm),
  recs: realm.recs.flatMap((frame, index) => {
    const rec = recs.get(frame)
    if (rec === undefined) return []
    const { runnable, running, lastExit, ripasChange } = rec
    return [
      {
        rec: addressOf(frame),
        index,
        runnable,
        running,
        lastExit: lastExit.reason,
        ...(ripasChange === undefined
          ? {}
          : {
              ripasChange: {
                base: addressOf(ripasChange.base),
                top: addressOf(ripasChange.top),
                next: addressOf(ripasChange.next),
                ripas: ripasName(ripasChange.ripas),
                changeDestroyed: ripasChange.changeDestroyed,
              },
            }),
      },
    ]
  }),
})
