import type { GuestContext } from '../contract.ts'
import * as PageMap from '../shared/page-map.ts'
import type { Host } from './data.ts'
import { pageUnsmash } from './firmware-pages.ts'
import { smashAround, updateEntry } from './instructions-host.ts'
import { BLOCK, changeEntries, entryOf, gfnOf, type Rmp } from './rmp.ts'
import { ASSIGNED, asidOf, IMMUTABLE, LARGE, VMSA } from './states.ts'
import { FW } from './status.ts'

/** PSMASH hint: every 2M entry under the range becomes 4K entries. What isn't mapped, or is 4K already, stays. */
export function smashHint(host: Host, guest: GuestContext, gfn: number, pages: number): void {
  for (let at = gfn; at < gfn + pages; at += BLOCK - (at % BLOCK)) {
    const frame = privateFrame(host, guest, at)
    if (frame !== undefined && entryOf(host.rmp, frame) & LARGE) smashAround(host, frame, at, 'hinted by the guest')
  }
}

/**
 * UNSMASH hint: each 2M of the range becomes one 2M entry if its 512 entries can be joined (amd-sev-snp.md b.3, b.6):
 * RMPUPDATE immutable on all, SNP_PAGE_UNSMASH, SNP_PAGE_RECLAIM of size 2M. All or nothing for each 2M; the hint
 * succeeds either way.
 */
export function unsmashHint(host: Host, guest: GuestContext, gfn: number, pages: number): void {
  for (let at = Math.ceil(gfn / BLOCK) * BLOCK; at + BLOCK <= gfn + pages; at += BLOCK) {
    const frame = privateFrame(host, guest, at)
    const obstacle = frame === undefined ? 'not mapped as private' : obstacleTo(host.rmp, frame, at)
    if (frame !== undefined && obstacle === undefined) unsmash(host, frame, at)
    else host.machine.note({ name: 'UNSMASH_SKIPPED', gfn: at, detail: obstacle ?? 'not mapped as private' })
  }
}

function privateFrame(host: Host, guest: GuestContext, gfn: number): number | undefined {
  const mapping = guest.translate(gfn)
  return mapping?.private && mapping.frame < host.rmp.frames ? mapping.frame : undefined
}

/** Why 512 entries cannot become one, or undefined. */
function obstacleTo(rmp: Rmp, frame: number, gfn: number): string | undefined {
  const end = frame + BLOCK
  const entry = entryOf(rmp, frame)
  if (entry & LARGE) return 'a 2M entry already'
  if (frame % BLOCK !== 0 || end > rmp.ownStart) return 'the host pages are not 2M-aligned'
  if ((entry & ASSIGNED) === 0 || asidOf(entry) === 0) return 'not assigned to the guest'
  if (entry & (IMMUTABLE | VMSA)) return 'immutable or a VMSA'
  if (gfnOf(rmp, frame) !== gfn) return 'the guest addresses are not 2M-aligned'
  const agree =
    PageMap.nextRun(rmp.entries, frame, end) === end &&
    PageMap.nextRun(rmp.gpas, frame, end) === end &&
    PageMap.nextRun(rmp.gpaHighs, frame, end) === end
  return agree ? undefined : 'the 512 entries differ'
}

/** The memory isn't touched, so neither are bytes: setting and clearing immutable changes their view to and fro. */
function unsmash(host: Host, frame: number, gfn: number): void {
  const { rmp, machine } = host
  const entry = entryOf(rmp, frame)
  const asid = asidOf(entry)
  for (let index = 0; index < BLOCK; index++)
    updateEntry(rmp, frame + index, { assigned: true, large: false, immutable: true, asid, gfn: gfn + index })
  machine.note({ name: 'RMPUPDATE', frame, gfn, detail: 'immutable set on 512 entries' })
  const joined = pageUnsmash(host, frame)
  if (joined !== FW.SUCCESS) throw new Error(`joining checked entries failed with ${joined}`)
  machine.note({ name: 'SNP_PAGE_UNSMASH', frame, gfn })
  changeEntries(rmp, frame, frame + BLOCK, (entry | LARGE) >>> 0)
  machine.note({ name: 'SNP_PAGE_RECLAIM', frame, gfn, detail: 'size 2M' })
}
