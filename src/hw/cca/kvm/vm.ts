import type { Verdict, VmOptions } from '../../contract.ts'
import * as PageMap from '../../shared/page-map.ts'
import { returnPages } from '../calls/aux-granules.ts'
import { type Config, DEFAULTS } from '../config.ts'
import { type Host, realmOf, vmOf } from '../data.ts'
import { deepestRootLevel } from '../measurement/entries.ts'
import { areAll, GRANULE, setGranules } from '../rmm/granules.ts'
import type { Realm, RealmParams } from '../rmm/realm.ts'
import { realmCreate } from '../rmm/realm-commands.ts'
import { isSupported, REALM_FLAG, rootTables } from '../rmm/realm-params.ts'
import { delegateRange, undelegateRange } from '../rmm/rtt-ranges.ts'
import { LENT, takeGranule } from './granule-pool.ts'
import { OK, refuse } from './refusal.ts'

const PAGE_BYTES = 4096n
const RPV_BYTES = 64
export const MAX_VMID = 0xffff

/**
 * KVM_CAP_ARM_RME's CONFIG_REALM and CREATE_REALM (arm-cca.md 3, 9): an RD and the root tables are delegated, then
 * REALM_CREATE. RECs come with the launch, since they belong to its measurement.
 */
export function createVm(host: Host, { vm, vcpus, config: given }: VmOptions): Verdict {
  const config = given as Config
  const vmid = freeVmid(host.data.vmids)
  if (vmid < 0) return refuse('ENOSPC', 'no-vmid', 'All VMIDs of Realms are in use.')
  const params = paramsOf(config, vmid)
  if (!isSupported(params))
    return refuse('EINVAL', 'realm-params', 'The RMM supports no Realm with these parameters.', '/config')
  const root = host.machine.allocateBlock(params.rttNumStart)
  if (root < 0) return refuse('ENOMEM', 'no-realm-page', "There is no memory for the Realm's root tables.")
  const pages = PageMap.create()
  const rd = takeGranule(host, pages)
  if (rd < 0 || !areAll(host.data.granules, root, params.rttNumStart, GRANULE.UNDELEGATED)) {
    giveBack(host, pages, root, params.rttNumStart)
    return refuse('ENOMEM', 'no-realm-page', 'There is no memory for the Realm that can be delegated.')
  }
  delegateRange(host, root, params.rttNumStart)
  PageMap.setRange(pages, root, root + params.rttNumStart, LENT)
  const answer = realmCreate(host, addressOf(rd), { ...params, rttBase: addressOf(root) })
  if (answer.status.code !== 0) throw new Error(`REALM_CREATE refused what was checked before: ${answer.status.name}`)
  host.data.vms.set(vm, { rd, vcpus, pages, steps: [] })
  return OK
}

const addressOf = (frame: number): bigint => BigInt(frame) * PAGE_BYTES

function giveBack(host: Host, pages: PageMap.PageMap, root: number, count: number): void {
  for (let frame = root; frame < root + count; frame++) host.machine.freeFrame(frame)
  freeLent(host, pages)
}

function freeVmid(used: ReadonlySet<number>): number {
  for (let vmid = 1; vmid <= MAX_VMID; vmid++) if (!used.has(vmid)) return vmid
  return -1
}

function paramsOf(config: Config, vmid: number): RealmParams {
  const s2sz = config.s2sz ?? DEFAULTS.s2sz
  const level = config.rttLevelStart ?? deepestRootLevel(s2sz)
  const lpa2 = config.lpa2 ?? false
  const rpv = new Uint8Array(RPV_BYTES)
  rpv.set(Buffer.from(config.rpv ?? '', 'hex'))
  return {
    flags:
      (lpa2 ? REALM_FLAG.LPA2 : 0n) |
      (config.sveVl === undefined ? 0n : REALM_FLAG.SVE) |
      (config.pmuNumCtrs === undefined ? 0n : REALM_FLAG.PMU),
    s2sz,
    sveVl: config.sveVl ?? 0,
    numBps: config.numBps ?? DEFAULTS.numBps,
    numWps: config.numWps ?? DEFAULTS.numWps,
    pmuNumCtrs: config.pmuNumCtrs ?? 0,
    hashAlgo: config.hash === 'sha-512' ? 1 : 0,
    rpv,
    vmid,
    rttBase: 0n,
    rttLevelStart: level,
    rttNumStart: rootTables(s2sz, level, lpa2),
  }
}

/** A Realm that is off, or that raw commands have destroyed, never runs again (arm-cca.md 3). */
export function vmState({ data }: Host, vm: string): 'launching' | 'running' | 'dead' {
  const state = realmOf(data, vm)?.state
  if (state === undefined || state === 'SYSTEM_OFF') return 'dead'
  return state === 'NEW' ? 'launching' : 'running'
}

/**
 * Tears the Realm down (arm-cca.md 2, 3): RECs, data and tables go back to DELEGATED and the Realm is destroyed; then what
 * is the kernel's is undelegated and freed. Granules that raw commands had delegated stay so.
 */
export function destroyVm(host: Host, vm: string): void {
  const { data } = host
  const realm = realmOf(data, vm)
  if (realm !== undefined) destroyRealm(host, realm)
  freeLent(host, vmOf(data, vm).pages)
  data.vms.delete(vm)
}

function destroyRealm(host: Host, realm: Realm): void {
  const { data, machine } = host
  const { granules } = data
  PageMap.forEachRun(granules.words, 0, granules.frames, (start, end, word) => {
    if (word >>> 8 !== realm.owner) return
    machine.clear(start, end - start)
    setGranules(granules, start, end - start, GRANULE.DELEGATED, 0)
  })
  for (const frame of realm.recs) {
    const rec = data.recs.get(frame)
    if (rec?.auxLent === true) returnPages(host, rec.aux)
    data.recs.delete(frame)
  }
  granules.owners[realm.owner] = -1
  data.vmids.delete(realm.vmid)
  data.realms.delete(realm.rd)
}

/** Undelegates what the kernel has lent, and frees it. What can't be undelegated is leaked on purpose (9): another Realm has it. */
function freeLent(host: Host, pages: PageMap.PageMap): void {
  const { granules } = host.data
  PageMap.forEachRun(pages, 0, granules.frames, (start, end, lent) => {
    if (lent !== LENT) return
    for (let frame = start; frame < end; frame++) {
      if (areAll(granules, frame, 1, GRANULE.DELEGATED)) undelegateRange(host, frame, 1)
      if (areAll(granules, frame, 1, GRANULE.UNDELEGATED)) host.machine.freeFrame(frame)
    }
  })
}
