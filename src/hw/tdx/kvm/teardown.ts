import * as PageMap from '../../shared/page-map.ts'
import type { Host } from '../data.ts'
import { PAGE_BITS } from '../module/geometry.ts'
import { LIFECYCLE } from '../module/op-states.ts'
import { freePages, ownerOf, removeOwner } from '../module/pamt.ts'
import { forget } from '../module/sept-ranges.ts'
import type { Td } from '../module/td.ts'
import { cacheWriteBack, mngKeyFreeId, mngVpFlushDone } from '../module/teardown.ts'
import { kickAll } from '../module/tracking.ts'
import { vpFlush } from '../module/vp.ts'

/**
 * Ends a TD as KVM does (intel-tdx.md a.5): vCPUs flushed where they are, key flushed and written back on every package,
 * freed, then every page reclaimed, the TDR last. Steps that raw calls have taken already are passed over.
 */
export function tearDown(host: Host, td: Td): void {
  const tdr = BigInt(td.tdr) << PAGE_BITS
  kickAll(td)
  if (td.lifecycle === LIFECYCLE.KEYS_CONFIGURED)
    for (const { tdvpr, lp } of td.vcpus.values()) if (lp >= 0) vpFlush(host, BigInt(tdvpr) << PAGE_BITS, lp)
  if (td.lifecycle < LIFECYCLE.BLOCKED) mngVpFlushDone(host, tdr)
  if (td.lifecycle === LIFECYCLE.BLOCKED) {
    for (let onPackage = 0; onPackage < host.data.kot.packages; onPackage++) cacheWriteBack(host, 0n, onPackage)
    mngKeyFreeId(host, tdr)
  }
  if (td.lifecycle !== LIFECYCLE.TEARDOWN) throw new Error(`the TD at frame ${td.tdr} cannot be torn down`)
  reclaimAll(host, td)
}

/** TDH.PHYMEM.PAGE.RECLAIM of everything that PAMT says is the TD's, run by run. */
function reclaimAll({ data, machine }: Host, td: Td): void {
  const { pamt } = data
  PageMap.forEachRun(pamt.types, 0, pamt.frames, (start, end, entry) => {
    if (ownerOf(entry) !== td.owner) return
    freePages(pamt, start, end - start)
    if (data.poisoned.size > 0) forget(data.poisoned, start, end - start)
    machine.clear(start, end - start)
  })
  freePages(pamt, td.tdr, 1)
  machine.clear(td.tdr, 1)
  removeOwner(pamt, td.owner)
  data.tds.delete(td.tdr)
}
