import type { Verdict } from '../contract.ts'
import * as PageMap from '../shared/page-map.ts'
import { type Host, vmOf } from './data.ts'
import { smashAround } from './instructions-host.ts'
import { BLOCK, blockOf, entryOf, isFixed, type Rmp, writeEntries } from './rmp.ts'
import { ASSIGNED, asidOf, GUEST_INVALID, IMMUTABLE, LARGE, withAsid } from './states.ts'
import { INSN, OK, refuse } from './status.ts'

const LOW = 0x100000000

/**
 * What KVM's sev_gmem_prepare does for private pages that are about to be the guest's (amd-sev-snp.md b.7): pages
 * assigned already, to whomever, are left alone; others become Guest-Invalid, as 2M where the folio, gfn and frame are
 * 2M and none of the 512 is assigned. A page RMPUPDATE refuses (HV-Fixed, outside) makes the whole request EFAULT.
 */
export function assign(host: Host, vm: string, gfn: number, frame: number, count: number, span: number): Verdict {
  const { asid } = vmOf(host, vm)
  if (count === 1) return assignOne(host.rmp, asid, gfn, frame)
  return assignRange(host.rmp, asid, gfn, frame, count, span)
}

/** The hot path: one 4 KiB page, nothing allocated. */
function assignOne(rmp: Rmp, asid: number, gfn: number, frame: number): Verdict {
  if (frame >= rmp.ownStart) return refuseFrame(frame, INSN.FAIL_INPUT)
  const old = PageMap.get(rmp.entries, frame)
  if (old & ASSIGNED) return OK
  if (old !== 0) return refuseFrame(frame, INSN.FAIL_PERMISSION)
  PageMap.set(rmp.entries, frame, withAsid(GUEST_INVALID, asid))
  PageMap.set(rmp.gpas, frame, (gfn - frame) >>> 0)
  const high = gfn < LOW ? 0 : Math.floor(gfn / LOW)
  if (PageMap.get(rmp.gpaHighs, frame) !== high) PageMap.set(rmp.gpaHighs, frame, high)
  rmp.counters[asid] = (rmp.counters[asid] ?? 0) + 1
  return OK
}

function assignRange(rmp: Rmp, asid: number, gfn: number, frame: number, count: number, span: number): Verdict {
  const end = frame + count
  if (end > rmp.ownStart) return refuseFrame(Math.max(frame, rmp.ownStart), INSN.FAIL_INPUT)
  for (let at = frame; at < end; at = PageMap.nextRun(rmp.entries, at, end))
    if (isFixed(entryOf(rmp, at))) return refuseFrame(at, INSN.FAIL_PERMISSION)
  const large = span >= BLOCK && gfn % BLOCK === frame % BLOCK
  for (let at = frame; at < end; ) {
    const old = entryOf(rmp, at)
    const next = PageMap.nextRun(rmp.entries, at, end)
    if ((old & ASSIGNED) === 0) assignRun(rmp, asid, gfn + at - frame, at, next, large)
    at = next
  }
  return OK
}

/** Unassigned frames [start, end). Whole blocks of them become 2M entries where that is possible. */
function assignRun(rmp: Rmp, asid: number, gfn: number, start: number, end: number, large: boolean): void {
  const first = large ? Math.ceil(start / BLOCK) * BLOCK : end
  const last = large ? blockOf(end) : end
  const small = withAsid(GUEST_INVALID, asid)
  if (first >= last) {
    writeEntries(rmp, start, end, small, gfn)
    return
  }
  if (start < first) writeEntries(rmp, start, first, small, gfn)
  writeEntries(rmp, first, last, small | LARGE, gfn + first - start)
  if (last < end) writeEntries(rmp, last, end, small, gfn + last - start)
}

const refuseFrame = (frame: number, code: number): Verdict =>
  refuse(
    'EFAULT',
    'rmpupdate-failed',
    `RMPUPDATE of host page 0x${(frame * 4096).toString(16)} answered ${code}: it cannot become private.`,
  )

/**
 * What KVM does before private pages go back to the host (amd-sev-snp.md b.7, "Release"): not assigned, skip; a 2M
 * entry wholly inside, one RMPUPDATE; a 2M entry otherwise, PSMASH first. A page whose entry is immutable cannot be
 * taken back: it stays assigned and is leaked, and the host's next write to it is a crash (h 5).
 */
export function release(host: Host, gfn: number, frame: number, count: number): void {
  const { rmp } = host
  if (count === 1 && frame < rmp.frames) {
    const old = PageMap.get(rmp.entries, frame)
    if ((old & ASSIGNED) === 0) return
    if ((old & (IMMUTABLE | LARGE)) === 0) {
      releaseOne(rmp, frame, old)
      return
    }
  }
  const end = Math.min(frame + count, rmp.frames)
  for (let at = frame; at < end; ) {
    const old = entryOf(rmp, at)
    const next = PageMap.nextRun(rmp.entries, at, end)
    if (old & ASSIGNED) releaseRun(host, gfn + at - frame, at, next, old)
    at = next
  }
}

/** Leaves the GPA field, which says nothing without assigned: a page that comes back to its place is the common case. */
function releaseOne(rmp: Rmp, frame: number, old: number): void {
  const asid = asidOf(old)
  PageMap.set(rmp.entries, frame, 0)
  if (asid !== 0) rmp.counters[asid] = (rmp.counters[asid] ?? 0) - 1
}

function releaseRun(host: Host, gfn: number, start: number, end: number, old: number): void {
  if (old & IMMUTABLE) {
    const detail = `FAIL_PERMISSION: ${end - start} page(s) stay assigned and are leaked`
    host.machine.note({ name: 'RMPUPDATE', frame: start, gfn, detail })
    return
  }
  if (old & LARGE) {
    if (start % BLOCK !== 0) smashAround(host, start, gfn, 'part of a 2M page is released')
    if (end % BLOCK !== 0 && entryOf(host.rmp, end - 1) & LARGE)
      smashAround(host, end - 1, gfn + end - 1 - start, 'part of a 2M page is released')
  }
  writeEntries(host.rmp, start, end, 0, 0)
}

/** The largest private mapping KVM makes: it maps at the entry's size. */
export const mappingSpan = (rmp: Rmp, frame: number): number =>
  frame < rmp.frames && entryOf(rmp, frame) & LARGE ? BLOCK : 1

/** The first frame of a range whose entry is assigned: a kernel write there faults. -1 if none. */
export function firstGuarded(rmp: Rmp, frame: number, count: number): number {
  const end = Math.min(frame + count, rmp.frames)
  for (let at = frame; at < end; at = count === 1 ? end : PageMap.nextRun(rmp.entries, at, end))
    if (entryOf(rmp, at) & ASSIGNED) return at
  return -1
}
