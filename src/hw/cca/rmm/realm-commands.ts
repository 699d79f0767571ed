import type { Host } from '../data.ts'
import { initialRem, REM_COUNT } from '../measurement/rem.ts'
import { initialRim } from '../measurement/rim.ts'
import { type Answer, type Checked, DONE, fail, INPUT, pass, realmError } from './answer.ts'
import { PAGE_SIZE } from './geometry.ts'
import { addOwner, areAll, GRANULE, isHostMemory, removeOwner, setGranules } from './granules.ts'
import { granuleIn, pageOf, realmAt } from './operands.ts'
import type { Realm, RealmParams } from './realm.ts'
import { decodeRealmParams, hasLpa2, isSupported } from './realm-params.ts'
import { createRtt, isRootLive } from './rtt.ts'

const ZERO_PAGE = new Uint8Array(PAGE_SIZE)

/** The parameters in the page the host names (arm-cca.md 3): INPUT where that isn't an aligned NS granule. */
export function readRealmParams({ data, machine }: Host, address: bigint): Checked<RealmParams> {
  const frame = pageOf(address)
  if (frame < 0 || !isHostMemory(data.granules, frame)) return fail(INPUT)
  return pass(decodeRealmParams(machine.read(frame) ?? ZERO_PAGE))
}

/**
 * REALM_CREATE (arm-cca.md 3): a NEW Realm with an RD, its root tables and its RIM. All failures are INPUT: a field that
 * isn't supported, an RD among the root tables, granules that aren't DELEGATED. Root tables are aligned to their size.
 */
export function realmCreate({ data }: Host, rd: bigint, params: RealmParams): Answer {
  if (!isSupported(params) || data.vmids.has(params.vmid)) return INPUT
  const root = pageOf(params.rttBase)
  const count = params.rttNumStart
  const frame = granuleIn(data, rd, GRANULE.DELEGATED)
  if (frame < 0 || root < 0 || root % count !== 0) return INPUT
  if (frame >= root && frame < root + count) return INPUT
  if (!areAll(data.granules, root, count, GRANULE.DELEGATED)) return INPUT
  const owner = addOwner(data.granules, frame)
  setGranules(data.granules, frame, 1, GRANULE.RD, owner)
  setGranules(data.granules, root, count, GRANULE.RTT, owner)
  data.vmids.add(params.vmid)
  data.realms.set(frame, newRealm(frame, owner, root, params))
  return DONE
}

function newRealm(rd: number, owner: number, root: number, params: RealmParams): Realm {
  const hashAlgo = params.hashAlgo === 0 ? 0 : 1
  return {
    rd,
    owner,
    vmid: params.vmid,
    s2sz: params.s2sz,
    lpa2: hasLpa2(params),
    hashAlgo,
    rpv: params.rpv,
    rtt: createRtt(params.s2sz, params.rttLevelStart, root, params.rttNumStart),
    state: 'NEW',
    rim: initialRim({ ...params, hashAlgo }),
    rems: Array.from({ length: REM_COUNT }, initialRem),
    recs: [],
    recCount: 0,
  }
}

/** REALM_ACTIVATE (3): INPUT without a Realm, REALM of one that isn't NEW. */
export function realmActivate({ data }: Host, rd: bigint): Answer {
  const realm = realmAt(data, rd)
  if (realm === undefined) return INPUT
  if (realm.state !== 'NEW') return realmError()
  realm.state = 'ACTIVE'
  return DONE
}

/** REALM_DESTROY (3), in any state: INPUT without a Realm, REALM while a REC exists or a root table has a live entry. */
export function realmDestroy({ data }: Host, rd: bigint): Answer {
  const realm = realmAt(data, rd)
  if (realm === undefined) return INPUT
  if (realm.recCount > 0 || isRootLive(realm.rtt)) return realmError()
  setGranules(data.granules, realm.rd, 1, GRANULE.DELEGATED, 0)
  setGranules(data.granules, realm.rtt.rootFrame, realm.rtt.rootTables, GRANULE.DELEGATED, 0)
  removeOwner(data.granules, realm.owner)
  data.vmids.delete(realm.vmid)
  data.realms.delete(realm.rd)
  return DONE
}
