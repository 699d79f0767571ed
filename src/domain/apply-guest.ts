import type { Call } from '../hw/contract.ts'
import { type Applied, accepted, acceptedFrames, appliedFrom } from './applied.ts'
import type { CommandOf } from './commands.ts'
import { type HostContext, touchVm } from './context.ts'
import { byteAddress } from './exits.ts'
import { runAccess } from './guest-access.ts'
import { runCall } from './guest-calls.ts'
import { answerExit, guestContext, presentRequest, runRequest } from './guest-requests.ts'
import { runHostAccess } from './host-access.ts'
import { conflict, invalid, notFound, type Result } from './refusal.ts'
import type { ExitState, VmState } from './state.ts'

/** A guest runs only after its launch, and a vCPU only while no exit of it waits for the VMM. */
function notReady(host: HostContext, vm: VmState, vcpu: number, raw: boolean): Applied | undefined {
  const state = vm.vcpus[vcpu]
  if (state === undefined) return refusedBy(invalid('no-such-vcpu', `The VM has ${vm.vcpus.length} vCPUs.`, '/vcpu'))
  if (state.waiting !== null) {
    const detail = `vCPU ${vcpu} has left the guest with ${state.waiting}, which waits for the VMM.`
    return refusedBy(conflict('vcpu-waiting', detail, { currentState: 'waiting', allowedStates: ['running'] }))
  }
  const current = host.hardware.vmState(vm.id)
  return current === 'dead' || (!raw && current !== 'running') ? notRunning(current) : undefined
}

function notRunning(currentState: 'launching' | 'running' | 'dead'): Applied {
  const detail =
    currentState === 'dead'
      ? 'The guest is dead: KVM_RUN fails with EIO.'
      : 'The guest runs only after its launch is finished.'
  return refusedBy(conflict('vm-not-running', detail, { currentState, allowedStates: ['running'] }))
}

const refusedBy = (result: Result<never>): Applied => appliedFrom(result, () => accepted({}, null))

export function pageStatesCommand(host: HostContext, vm: VmState, command: CommandOf<'page-states'>): Applied {
  const unable = notReady(host, vm, command.vcpu, false)
  if (unable !== undefined) return unable
  const operation = { kind: 'request', entries: command.entries, accept: command.accept, progress: null } as const
  const value = runRequest(host, vm, command.vcpu, operation)
  touchVm(host, vm)
  let first = command.entries[0]?.gfn ?? 0
  let end = 0
  for (const entry of command.entries) {
    if (entry.gfn < first) first = entry.gfn
    if (entry.gfn + entry.pages * entry.span > end) end = entry.gfn + entry.pages * entry.span
  }
  return acceptedFrames(value, vm, first, end)
}

export function accessCommand(host: HostContext, vm: VmState, command: CommandOf<'access'>): Applied {
  const unable = notReady(host, vm, command.vcpu, false)
  if (unable !== undefined) return unable
  const start = BigInt(command.gpa)
  if (start + BigInt(command.length) > 2n ** 52n) {
    return appliedFrom(invalid('gpa-beyond-limit', 'The access ends beyond 2^52.', '/gpa'), () => accepted({}, vm))
  }
  const { kind, length, data, vmpl } = command
  const alias = host.hardware.sharedAlias?.(vm.id, Number(start >> 12n)) ?? -1
  if (alias >= 0 && command.private === true) {
    const detail = 'The address has the bit that makes an access shared.'
    return refusedBy(invalid('private-shared-address', detail, '/private'))
  }
  const value = runAccess(host, vm, command.vcpu, {
    kind: 'access',
    address: alias < 0 ? command.gpa : byteAddress(alias, Number(start & 4095n)),
    private: alias < 0 ? command.private : false,
    access: kind,
    length,
    data,
    vmpl,
  })
  touchVm(host, vm)
  const first = alias < 0 ? Number(start >> 12n) : alias
  const pages = Number((BigInt(Math.max(length, 1)) + (start & 4095n) + 4095n) >> 12n)
  return acceptedFrames(value, vm, first, first + pages)
}

export function hostAccessCommand(host: HostContext, vm: VmState, command: CommandOf<'host-access'>): Applied {
  const start = BigInt(command.address)
  if (start + BigInt(command.length) > 2n ** 52n) {
    const pointer = `/${command.by}`
    return appliedFrom(invalid('address-beyond-limit', 'The access ends beyond 2^52.', pointer), () => accepted({}, vm))
  }
  const value = runHostAccess(host, vm, command)
  touchVm(host, vm)
  if (command.by === 'hpa') return accepted(value, vm)
  return acceptedFrames(value, vm, Number(start >> 12n), Number((start + BigInt(command.length) + 4095n) >> 12n))
}

const findCall = (host: HostContext, name: string): Call | undefined =>
  host.backend.calls.find((call) => call.name === name)

export function callCommand(host: HostContext, vm: VmState, command: CommandOf<'call'>): Applied {
  const call = findCall(host, command.call)
  if (call === undefined) {
    const detail = `${host.state.technology} has no call "${command.call}".`
    return appliedFrom(invalid('no-such-call', detail, '/call'), () => accepted({}, vm))
  }
  // The host has processors of its own, and works while a vCPU waits for it.
  const unable = command.by === 'guest' ? notReady(host, vm, command.vcpu, true) : undefined
  if (unable !== undefined) return unable
  const operation = { kind: 'call', call: call.name, by: command.by, args: command.args, progress: null } as const
  const value = runCall(host, vm, command.vcpu, call, operation)
  touchVm(host, vm)
  host.changes.hosts.add(host.state.name)
  return markTouched(host, vm, value, command.args)
}

/** A raw call may change any page it names; the runs around those are looked at again. */
function markTouched(
  host: HostContext,
  vm: VmState,
  value: Record<string, unknown>,
  args: Readonly<Record<string, unknown>>,
): Applied {
  const gpa = args.gpa
  if (typeof gpa !== 'string' && typeof gpa !== 'number') {
    markAllSlots(host, vm)
    return accepted(value, vm)
  }
  const gfn = Number(BigInt(gpa) >> 12n)
  markAllSlots(host, vm)
  return gfn < 2 ** 40 ? acceptedFrames(value, vm, gfn, gfn + 1) : accepted(value, vm)
}

/** Raw calls name host frames, which may back any guest page: every slot's runs are looked at again. */
function markAllSlots(host: HostContext, vm: VmState): void {
  for (const slot of vm.slots) host.changes.pagesOf(vm.id, slot.firstGfn, slot.firstGfn + slot.pages)
}

export function resumeCommand(host: HostContext, vm: VmState, command: CommandOf<'exit.resume'>): Applied {
  const waiting = vm.exits.get(command.exit)
  if (waiting === undefined) return appliedFrom(notFound('exit', command.exit), () => accepted({}, vm))
  if (host.hardware.vmState(vm.id) === 'dead') return notRunning('dead')
  const { exit } = waiting
  vm.exits.delete(waiting.id)
  const vcpu = vm.vcpus[exit.vcpu]
  if (vcpu !== undefined) vcpu.waiting = null
  const value = resume(host, vm, waiting, command.ret)
  touchVm(host, vm)
  return acceptedFrames(
    { exit: waiting.id, ret: command.ret, result: value },
    vm,
    exit.firstGfn,
    exit.firstGfn + exit.pages,
  )
}

/** The vCPU enters the guest again: what it was doing starts again, or goes on with the VMM's answer. */
function resume(host: HostContext, vm: VmState, waiting: ExitState, ret: number): Record<string, unknown> {
  const { exit, operation, answersRequest } = waiting
  if (operation.kind === 'access') {
    return ret === 0 ? runAccess(host, vm, exit.vcpu, operation) : { outcome: 'refused', ret }
  }
  if (operation.progress !== null && answersRequest) {
    const by = operation.kind === 'call' ? operation.by : 'guest'
    answerExit(host, vm, guestContext(vm, exit.vcpu, by), operation.progress.request, exit, ret)
  } else if (ret !== 0) return { outcome: 'refused', ret }
  if (operation.kind === 'request') return presentRequest(runRequest(host, vm, exit.vcpu, operation))
  const call = findCall(host, operation.call)
  return call === undefined ? {} : runCall(host, vm, exit.vcpu, call, operation)
}
