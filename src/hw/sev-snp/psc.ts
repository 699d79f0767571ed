import type { ConversionExit, GuestContext, GuestRequest, RequestEntry, Status } from '../contract.ts'
import { type Host, vmOf } from './data.ts'
import { smashHint, unsmashHint } from './page-state-hints.ts'
import { BLOCK } from './rmp.ts'
import { PSC } from './status.ts'

/** Entries in the GHCB's shared buffer: (2032 - 8) / 8 (amd-sev-snp.md c.2). */
export const MAX_PSC_ENTRIES = 253

/** One SNP_PAGE_STATE_CHANGE entry, or `pages` of them that follow each other. Size 2M if `large`, else 4K. */
export type PscEntry = {
  readonly gfn: number
  readonly pages: number
  readonly large: boolean
  /** 1 private, 2 shared, 3 PSMASH hint, 4 UNSMASH hint; KVM passes over all others. */
  readonly operation: number
  /** Progress inside the entry that the guest hands in, in 4K pages. */
  readonly curPage: number
}

/**
 * A page-state change under way. `entry` and `done` say where it stands: entries before are done, and of this one
 * `done` pages. `room` is what the GHCB's buffer still takes: an entry of many pages goes in several requests.
 */
export type PscRequest = GuestRequest & {
  readonly kind: 'psc'
  readonly entries: readonly PscEntry[]
  entry: number
  done: number
  room: number
  /** Hardware entries in the exit under way; 0 when there is none. */
  inflight: number
  failed: boolean
}

const OPERATION: Readonly<Record<RequestEntry['operation'], number>> = { private: 1, shared: 2, psmash: 3, unsmash: 4 }
const PRIVATE = 1
const SHARED = 2
const PSMASH_HINT = 3
const UNSMASH_HINT = 4

/** What the guest writes into the GHCB: 4K entries, 2M entries, and 1G as 512 entries of 2M. */
export function beginRequest(entries: readonly RequestEntry[]): PscRequest {
  const [first] = entries
  return startRequest(entries.length === 1 && first !== undefined ? [hardwareEntry(first)] : entries.map(hardwareEntry))
}

const hardwareEntry = ({ gfn, pages, span, operation }: RequestEntry): PscEntry => ({
  gfn,
  pages: span > BLOCK ? pages * (span / BLOCK) : pages,
  large: span >= BLOCK,
  operation: OPERATION[operation],
  curPage: 0,
})

export function startRequest(entries: readonly PscEntry[]): PscRequest {
  const tooMany = entries.length > MAX_PSC_ENTRIES
  const untouched = tooMany ? PSC.INVALID_HDR : undefined
  return {
    kind: 'psc',
    statuses: entries.length === 1 ? [untouched] : entries.map(() => untouched),
    completed: 0,
    entries,
    entry: 0,
    done: 0,
    room: MAX_PSC_ENTRIES,
    inflight: 0,
    failed: tooMany,
  }
}

/** KVM's loop over the entries (amd-sev-snp.md c.2), up to the next exit that userspace must answer. */
export function nextExit(host: Host, guest: GuestContext, request: PscRequest): ConversionExit | undefined {
  while (!request.failed && request.entry < request.entries.length) {
    if (request.room === 0) request.room = MAX_PSC_ENTRIES
    const entry = request.entries[request.entry] as PscEntry
    const size = entry.large ? BLOCK : 1
    if (entry.curPage > size || (entry.large && entry.gfn % BLOCK !== 0)) {
      fail(request, PSC.INVALID_ENTRY)
      return undefined
    }
    if (entry.pages === 0 || entry.curPage === size) {
      request.inflight = Math.max(entry.pages, 1)
      advance(request)
      continue
    }
    if (entry.curPage > 0) {
      request.inflight = 1
      if (entry.operation === PRIVATE || entry.operation === SHARED)
        return exit(entry.gfn + entry.curPage, size - entry.curPage, 1, entry.operation)
    } else {
      const gfn = entry.gfn + request.done * size
      request.inflight = merge(request, entry, size)
      if (entry.operation === PRIVATE || entry.operation === SHARED)
        return exit(gfn, request.inflight * size, size, entry.operation)
      hint(host, guest, entry, gfn, request.inflight * size)
    }
    advance(request)
  }
  return undefined
}

const exit = (gfn: number, pages: number, span: number, operation: number): ConversionExit => ({
  reason: 'KVM_EXIT_HYPERCALL',
  gfn,
  pages,
  span,
  private: operation === PRIVATE,
})

/** How many hardware entries go on contiguously with the same operation and size, within one GHCB buffer. */
function merge(request: PscRequest, first: PscEntry, size: number): number {
  const { entries, room } = request
  let count = Math.min(first.pages - request.done, room)
  let next = first.gfn + first.pages * size
  if (request.done + count < first.pages) return count
  for (let index = request.entry + 1; index < entries.length && count < room; index++) {
    const entry = entries[index] as PscEntry
    const joins =
      entry.operation === first.operation && entry.large === first.large && entry.curPage === 0 && entry.gfn === next
    if (!joins || entry.pages === 0) break
    count += Math.min(entry.pages, room - count)
    next += entry.pages * size
  }
  return count
}

/** Marks the hardware entries in flight as done. */
function advance(request: PscRequest): void {
  let left = request.inflight
  request.inflight = 0
  request.room = Math.max(0, request.room - left)
  while (left > 0) {
    const entry = request.entries[request.entry] as PscEntry
    const rest = entry.pages - request.done
    if (left < rest) {
      request.done += left
      return
    }
    left -= Math.max(rest, 1)
    request.statuses[request.entry] = PSC.DONE
    request.completed++
    request.entry++
    request.done = 0
  }
}

function fail(request: PscRequest, status: Status): void {
  request.statuses[request.entry] = status
  request.inflight = 0
  request.failed = true
}

/** Userspace's answer: 0 marks the exit's entries done; anything else ends the request at the first of them. */
export function completeExit(request: PscRequest, ret: number): void {
  if (ret === 0) advance(request)
  else fail(request, PSC.GENERIC)
}

/** KVM marks hints done without doing anything; with `pageStateHints: "honour"` the host follows them. */
function hint(host: Host, guest: GuestContext, entry: PscEntry, gfn: number, pages: number): void {
  if (vmOf(host, guest.vm).pageStateHints === 'kvm') return
  if (entry.operation === PSMASH_HINT) smashHint(host, guest, gfn, pages)
  else if (entry.operation === UNSMASH_HINT) unsmashHint(host, guest, gfn, pages)
}
