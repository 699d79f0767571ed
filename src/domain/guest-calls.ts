import type { Call, CallResult, GuestRequest, Status } from '../hw/contract.ts'
import type { HostContext } from './context.ts'
import { convertForFault, type ExitLog, type ExitRecord, hold, openLog, presentExit, waits } from './exits.ts'
import { resolveFault } from './faults.ts'
import { guestContext, serveExits } from './guest-requests.ts'
import * as stage2 from './stage2.ts'
import type { GuestOperation, VmState } from './state.ts'

type CallOperation = Extract<GuestOperation, { kind: 'call' }>

/** An instruction restarts after every fault the host has mended; past this the real one would hang as well. */
const MAX_ROUNDS = 8

/** One raw call of the technology. A second-stage fault goes to KVM as always, and the instruction starts again. */
export function runCall(
  host: HostContext,
  vm: VmState,
  vcpu: number,
  call: Call,
  operation: CallOperation,
): Record<string, unknown> {
  const guest = guestContext(vm, vcpu, operation.by)
  const exits = openLog()
  if (operation.progress !== null) {
    const { request } = operation.progress
    const waiting = serveExits(host, vm, guest, request, operation, exits)
    return requestReply(call, operation, request, exits, waiting)
  }
  for (let round = 1; ; round++) {
    const result = call.run(host.hardware, operation.args, guest)
    if (result.kind === 'done')
      return reply(call, result.status, { ...result.outputs, exits: exits.records.map(presentExit) })
    if (result.kind === 'request') {
      const waiting = serveExits(host, vm, guest, result.request, operation, exits)
      return requestReply(call, operation, result.request, exits, waiting)
    }
    const stop = round < MAX_ROUNDS ? serveFault(host, vm, vcpu, result, exits) : stuck(vcpu, result)
    if (stop === undefined) continue
    const waiting = operation.by === 'guest' && waits(vm, stop) ? hold(host, vm, { exit: stop, operation }) : undefined
    const record = waiting ?? { exit: stop, id: null, ret: null }
    const outputs = { fault: result.fault, exit: presentExit(record), exits: exits.records.map(presentExit) }
    return reply(call, { name: result.fault.name, code: result.fault.code }, outputs, waiting)
  }
}

function serveFault(
  host: HostContext,
  vm: VmState,
  vcpu: number,
  result: Extract<CallResult, { kind: 'fault' }>,
  exits: ExitLog,
) {
  const before = stage2.translate(host, vm, result.gfn, result.private)
  stage2.unmap(vm, result.gfn, result.gfn + 1)
  if (result.mended) return undefined
  const fault = { vcpu, gfn: result.gfn, private: result.private, write: result.write, offset: 0 }
  const exit = resolveFault(host, vm, fault)
  if (exit === undefined) {
    const after = stage2.translate(host, vm, result.gfn, result.private)
    const same =
      before !== undefined && after !== undefined && before.frame === after.frame && before.span === after.span
    return same ? stuck(vcpu, result) : undefined
  }
  return vm.conversion === 'auto' && convertForFault(host, vm, exit, exits) ? undefined : exit
}

const stuck = (vcpu: number, result: Extract<CallResult, { kind: 'fault' }>) => ({
  vcpu,
  reason: 'KVM_EXIT_INTERNAL_ERROR' as const,
  firstGfn: result.gfn,
  pages: 1,
  private: result.private,
  detail: 'the instruction faults again however often KVM resolves it',
})

const requestReply = (
  call: Call,
  operation: CallOperation,
  request: GuestRequest,
  exits: ExitLog,
  waiting?: ExitRecord,
): Record<string, unknown> => {
  const outputs = { ...call.outputs?.(request, operation.args), exits: exits.records.map(presentExit) }
  return reply(call, lastStatus(request.statuses), outputs, waiting)
}

const lastStatus = (statuses: readonly (Status | undefined)[]): Status =>
  statuses.findLast((status) => status !== undefined) ?? { name: 'PENDING', code: -1 }

const reply = (
  call: Call,
  status: Status,
  outputs: Readonly<Record<string, unknown>>,
  waiting?: ExitRecord,
): Record<string, unknown> => ({
  call: call.name,
  status,
  ...outputs,
  ...(waiting === undefined ? {} : { waiting: presentExit(waiting) }),
})
