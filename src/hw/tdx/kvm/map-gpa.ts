import type { CallResult, ConversionExit, GuestContext, GuestRequest, RequestEntry, Status } from '../../contract.ts'
import { ERRNO } from '../../shared/errno.ts'
import type { VmcallHandler, VmcallRegisters } from '../calls/vmcall.ts'
import { type Host, tdOf, vmOf } from '../data.ts'
import { hex, PAGE_BITS } from '../module/geometry.ts'
import { type Td, vcpuAt } from '../module/td.ts'
import { checkRunning } from '../module/vp.ts'
import { privateFrames } from './private-memory.ts'

/** R10 of a VMCALL (intel-tdx.md d.4). */
export const VMCALL = {
  SUCCESS: { name: 'SUCCESS', code: '0x0' },
  RETRY: { name: 'RETRY', code: '0x1' },
  INVALID_OPERAND: { name: 'INVALID_OPERAND', code: '0x8000000000000000' },
  GPA_INUSE: { name: 'GPA_INUSE', code: '0x8000000000000001' },
  ALIGN_ERROR: { name: 'ALIGN_ERROR', code: '0x8000000000000002' },
  SUBFUNC_UNSUPPORTED: { name: 'SUBFUNC_UNSUPPORTED', code: '0x8000000000000003' },
} as const satisfies Readonly<Record<string, Status>>

/** KVM cuts a range in steps of 2 MiB from its start. */
const CHUNK = 512

/** MapGPA calls under way, one an entry: plain data. `at` is the entry whose turn it is, `done` pages of it are. */
export type MapGpaRequest = GuestRequest & {
  readonly kind: 'map-gpa'
  readonly entries: readonly RequestEntry[]
  at: number
  done: number
}

/** A page-state change as MapGPA calls. There is no such call for hints, or without the VMM's consent to the exit. */
export function beginRequest(host: Host, guest: GuestContext, entries: readonly RequestEntry[]): MapGpaRequest {
  const request: MapGpaRequest = {
    kind: 'map-gpa',
    statuses: entries.length === 1 ? [undefined] : entries.map(() => undefined),
    completed: 0,
    entries,
    at: 0,
    done: 0,
  }
  const td = tdOf(host.data, guest.vm)
  const running = td && checkRunning(td, vcpuAt(td, guest.vcpu))
  if (running?.ok === false) fail(request, running.answer.status)
  else judgeEntry(host, guest, request)
  return request
}

/** The entry whose turn it is, as KVM looks at a call before its first exit. */
function judgeEntry(host: Host, guest: GuestContext, request: MapGpaRequest): void {
  const entry = request.entries[request.at]
  const td = tdOf(host.data, guest.vm)
  if (entry === undefined || td === undefined) return
  const { gfn, pages, span, operation } = entry
  const known = operation === 'private' || operation === 'shared'
  if (!known || !vmOf(host.data, guest.vm).exitHypercall) fail(request, VMCALL.SUBFUNC_UNSUPPORTED)
  else if (pages === 0 || gfn + pages * span > privateFrames(td)) fail(request, VMCALL.INVALID_OPERAND)
}

function fail(request: MapGpaRequest, status: Status): void {
  request.statuses[request.at] = status
  request.at = request.entries.length
}

/** KVM_HC_MAP_GPA_RANGE for the next chunk. */
export function nextExit(request: MapGpaRequest): ConversionExit | undefined {
  const entry = request.entries[request.at]
  if (entry === undefined) return undefined
  return {
    reason: 'KVM_EXIT_HYPERCALL',
    gfn: entry.gfn + request.done,
    pages: Math.min(CHUNK, entry.pages * entry.span - request.done),
    span: 1,
    private: entry.operation === 'private',
  }
}

/** 0 goes on with the next chunk; -EAGAIN has the guest try the rest again, anything else refuses it. */
export function completeExit(host: Host, guest: GuestContext, request: MapGpaRequest, ret: number): void {
  const entry = request.entries[request.at]
  if (entry === undefined) return
  if (ret !== 0) {
    fail(request, ret === -ERRNO.EAGAIN ? VMCALL.RETRY : VMCALL.INVALID_OPERAND)
    return
  }
  const pages = entry.pages * entry.span
  request.done = Math.min(request.done + CHUNK, pages)
  if (request.done < pages) return
  request.statuses[request.at] = VMCALL.SUCCESS
  request.completed++
  request.at++
  request.done = 0
  judgeEntry(host, guest, request)
}

const MAP_GPA = 0x10001n
const REPORT_FATAL_ERROR = 0x10003n

/** KVM's side of TDG.VP.VMCALL: MapGPA in its order of checks, and the guest's report of its own end. */
export const vmcalls: VmcallHandler = {
  handle(host, td, _vcpu, registers, guest) {
    if (registers.r10 !== 0n) return refused(VMCALL.SUBFUNC_UNSUPPORTED, registers)
    if (registers.r11 === MAP_GPA) return mapGpa(host, td, registers, guest)
    if (registers.r11 !== REPORT_FATAL_ERROR) return refused(VMCALL.SUBFUNC_UNSUPPORTED, registers)
    vmOf(host.data, guest.vm).dead = true
    return { kind: 'done', status: VMCALL.SUCCESS, outputs: { r10: '0x0', fatalError: hex(registers.r12) } }
  },
  outputs(request, args) {
    const { entries, statuses, done } = request as MapGpaRequest
    const status = statuses[0]
    const start = BigInt((args.r12 as string | number | undefined) ?? 0)
    const stopped = status !== undefined && status !== VMCALL.SUCCESS && status.code !== VMCALL.SUCCESS.code
    const pages = entries[0]?.operation === undefined ? 0 : done
    return {
      ...(status === undefined ? {} : { r10: status.code }),
      ...(stopped ? { r11: hex(start + (BigInt(pages) << PAGE_BITS)) } : {}),
    }
  },
}

function mapGpa(host: Host, td: Td, registers: VmcallRegisters, guest: GuestContext): CallResult {
  const { r12: start, r13: size } = registers
  if (!vmOf(host.data, guest.vm).exitHypercall) return refused(VMCALL.SUBFUNC_UNSUPPORTED, registers)
  const half = BigInt(privateFrames(td)) << PAGE_BITS
  const end = start + size
  const within = size > 0n && end <= 2n * half && start / half === (end - 1n) / half
  if (!within) return refused(VMCALL.INVALID_OPERAND, registers)
  if (((start | size) & 0xfffn) !== 0n) return refused(VMCALL.ALIGN_ERROR, registers)
  const operation = start < half ? 'private' : 'shared'
  const entry = {
    gfn: Number((start % half) >> PAGE_BITS),
    pages: Number(size >> PAGE_BITS),
    span: 1,
    operation,
  } as const
  return { kind: 'request', request: beginRequest(host, guest, [entry]) }
}

/** R11 is where it stopped: at the start. */
const refused = (status: Status, { r12 }: VmcallRegisters): CallResult => ({
  kind: 'done',
  status,
  outputs: { r10: status.code, r11: hex(r12) },
})
