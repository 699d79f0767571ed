import type { ConversionExit, GuestContext, GuestRequest, RequestEntry, Status } from '../hw/contract.ts'
import { isSuccess } from '../hw/shared/status.ts'
import type { HostContext } from './context.ts'
import { convertForFault, type ExitLog, type ExitRecord, hold, logExit, openLog, presentExit, waits } from './exits.ts'
import { resolveFault } from './faults.ts'
import { prefault } from './prefault.ts'
import { privacyOf } from './privacy-models.ts'
import * as stage2 from './stage2.ts'
import type { Exit, GuestOperation, VmState } from './state.ts'

type Request = Extract<GuestOperation, { kind: 'request' }>

/** How an entry reads whose turn has not come: the request failed before it, or waits for the VMM. */
export const NOT_PROCESSED: Status = { name: 'NOT_PROCESSED', code: -1 }

/** What a page-state change came to; {@link presentRequest} shows it to clients. */
export type RequestOutcome = {
  readonly completed: number
  readonly statuses: readonly (Status | undefined)[]
  readonly exits: readonly ExitRecord[]
  /** Exits after the last of `exits`, where there were too many to record. */
  readonly omitted?: number
  readonly waiting?: ExitRecord
}

/** A guest's page-state change, through its technology's own request, its exits and the VMM's conversions. */
export function runRequest(host: HostContext, vm: VmState, vcpu: number, operation: Request): RequestOutcome {
  const guest = guestContext(vm, vcpu, 'guest')
  const request = operation.progress?.request ?? host.hardware.beginRequest(guest, operation.entries)
  const log = openLog()
  let waiting = serveExits(host, vm, guest, request, operation, log)
  if (waiting === undefined && operation.accept) {
    waiting = acceptEntries(host, vm, guest, operation, request, log)
  }
  const { completed, statuses } = request
  const exits = log.records
  // While it waits the request goes on changing, and what is shown of it must not.
  if (waiting !== undefined) return { completed, statuses: [...statuses], exits, waiting }
  return log.omitted === 0 ? { completed, statuses, exits } : { completed, statuses, exits, omitted: log.omitted }
}

export const presentRequest = ({
  completed,
  statuses,
  exits,
  omitted,
  waiting,
}: RequestOutcome): Record<string, unknown> => ({
  completed,
  entries: statuses.map((status) => ({ status: status ?? NOT_PROCESSED })),
  exits: exits.map(presentExit),
  ...(omitted === undefined ? {} : { exitsOmitted: omitted }),
  ...(waiting === undefined ? {} : { waiting: presentExit(waiting) }),
})

/** Serves a request's exits until it is done (undefined) or an exit waits for the client (that exit). */
export function serveExits(
  host: HostContext,
  vm: VmState,
  guest: GuestContext,
  request: GuestRequest,
  operation: Exclude<GuestOperation, { kind: 'access' }>,
  log: ExitLog,
): ExitRecord | undefined {
  for (;;) {
    const asked = host.hardware.nextExit(guest, request)
    if (asked === undefined) return undefined
    const exit = exitOf(guest.vcpu, asked)
    if (waits(vm, exit))
      return hold(host, vm, { exit, operation: { ...operation, progress: { request } }, answersRequest: true })
    const ret = privacyOf(vm).convert(host, vm, asked.gfn, asked.pages, asked.private)
    logExit(log, { exit, id: null, ret })
    answerExit(host, vm, guest, request, exit, ret)
  }
}

/** Tells the hardware of the VMM's answer, upon which it may change what it keeps of any page of the exit. */
export function answerExit(
  host: HostContext,
  vm: VmState,
  guest: GuestContext,
  request: GuestRequest,
  { firstGfn, pages }: Exit,
  ret: number,
): void {
  host.hardware.completeExit(guest, request, ret)
  host.changes.pagesOf(vm.id, firstGfn, firstGfn + pages)
}

/** Beside a memory fault KVM_RUN returns -1 with EFAULT (kvm-guest-memory.md b.1). */
function exitOf(vcpu: number, { reason, gfn, pages, span, private: isPrivate }: ConversionExit): Exit {
  return span === undefined
    ? { vcpu, reason, firstGfn: gfn, pages, private: isPrivate, errno: 'EFAULT' }
    : { vcpu, reason, firstGfn: gfn, pages, private: isPrivate, span }
}

export const guestContext = (vm: VmState, vcpu: number, by: 'guest' | 'host'): GuestContext => ({
  vm: vm.id,
  vcpu,
  by,
  translate: (gfn) => stage2.lookup(vm, gfn),
})

/** Acceptance from the first page of the first entry on. */
const START = { entry: 0, gfn: -1 } as const

/** The guest's acceptance of what became private; returns the exit that waits, if one does. */
function acceptEntries(
  host: HostContext,
  vm: VmState,
  guest: GuestContext,
  operation: Request,
  request: GuestRequest,
  exits: ExitLog,
): ExitRecord | undefined {
  const { entries, progress } = operation
  const { entry: first, gfn: from } = progress?.accepting ?? START
  for (let index = first; index < entries.length; index++) {
    const entry = entries[index] as RequestEntry
    const status = request.statuses[index]
    if (entry.operation !== 'private' || status === undefined || !isSuccess(status)) continue
    const result = acceptRange(host, vm, guest, entry, index === first && from >= 0 ? from : entry.gfn, exits)
    if ('status' in result) request.statuses[index] = result.status
    else if (waits(vm, result.exit)) {
      const accepting = { entry: index, gfn: result.exit.firstGfn }
      return hold(host, vm, { exit: result.exit, operation: { ...operation, progress: { request, accepting } } })
    } else request.statuses[index] = { name: result.exit.reason, code: -14 }
  }
  return undefined
}

function acceptRange(
  host: HostContext,
  vm: VmState,
  guest: GuestContext,
  entry: RequestEntry,
  from: number,
  exits: ExitLog,
): { readonly status: Status } | { readonly exit: Exit } {
  const end = entry.gfn + entry.pages * entry.span
  let gfn = from
  let stuckAt = -1
  let rounds = 0
  host.changes.pagesOf(vm.id, gfn, end)
  for (;;) {
    const result = host.hardware.accept(guest, gfn, Math.ceil((end - gfn) / entry.span), entry.span)
    if (result.kind === 'request') return { status: { name: 'SUCCESS', code: 0 } }
    if (result.kind === 'done') return { status: result.status }
    rounds = result.gfn === stuckAt ? rounds + 1 : 0
    stuckAt = result.gfn
    gfn = result.gfn
    if (rounds > 4) return { status: { name: result.fault.name, code: result.fault.code } }
    if (result.mended) {
      stage2.unmap(vm, result.gfn, result.gfn + 1)
      continue
    }
    if (prefault(host, vm, result.gfn, end)) continue
    const exit = resolveFault(host, vm, { vcpu: guest.vcpu, gfn: result.gfn, private: true, write: false, offset: 0 })
    if (exit === undefined) continue
    if (vm.conversion === 'auto' && convertForFault(host, vm, exit, exits)) continue
    return { exit }
  }
}
