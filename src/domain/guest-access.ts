import type { Fault, Mapping } from '../hw/contract.ts'
import type { HostContext } from './context.ts'
import { convertForFault, type ExitLog, hold, openLog, presentExit, waits } from './exits.ts'
import { type GuestFault, resolveFault } from './faults.ts'
import { PAGE_BYTES } from './memory.ts'
import { slotAt } from './memslots.ts'
import { privacyOf } from './privacy-models.ts'
import * as stage2 from './stage2.ts'
import type { Exit, GuestOperation, VmState } from './state.ts'

type Access = Extract<GuestOperation, { kind: 'access' }>
type Piece = { readonly gfn: number; readonly offset: number; readonly length: number; readonly at: number }
type PieceResult =
  | { readonly kind: 'ok'; readonly mapping: Mapping; readonly ciphertext: boolean }
  | { readonly kind: 'guest-fault'; readonly fault: Fault }
  | { readonly kind: 'exit'; readonly exit: Exit; readonly fault?: Fault }

/** KVM retries a fault that it believes mended; past this many rounds the guest is stuck, and so would be the real one. */
const MAX_ROUNDS = 8

/** A guest load, store or fetch, page by page (kvm-guest-memory.md d.1; the technology's own checks come after the mapping). */
export function runAccess(host: HostContext, vm: VmState, vcpu: number, access: Access): Record<string, unknown> {
  const exits = openLog()
  const source = access.data === null ? undefined : Buffer.from(access.data, 'base64')
  const target = access.access === 'read' ? new Uint8Array(access.length) : undefined
  let ciphertext = false
  for (const piece of pieces(access)) {
    const result = reach(host, vm, vcpu, access, piece, exits)
    if (host.memory.crashReason !== undefined)
      return { outcome: 'exit', exit: hostDied(vcpu, piece), exits: exits.records.map(presentExit) }
    if (result.kind === 'guest-fault')
      return { outcome: 'guest-fault', fault: result.fault, completed: piece.at, exits: exits.records.map(presentExit) }
    if (result.kind === 'exit') {
      const stop = { exit: result.exit, operation: access }
      const record = waits(vm, result.exit) ? hold(host, vm, stop) : { exit: result.exit, id: null, ret: null }
      const exit = presentExit(record)
      return {
        outcome: 'exit',
        exit,
        ...(result.fault ? { fault: result.fault } : {}),
        completed: piece.at,
        exits: exits.records.map(presentExit),
      }
    }
    ciphertext ||= result.ciphertext
    if (target !== undefined) target.set(readPiece(host, piece, result), piece.at)
    if (access.access === 'write' && source !== undefined) {
      const bytes = source.subarray(piece.at, piece.at + piece.length)
      host.memory.patch(result.mapping.frame, piece.offset, bytes)
    }
  }
  return {
    outcome: 'ok',
    ...(target === undefined ? {} : { data: Buffer.from(target).toString('base64') }),
    ...(ciphertext ? { ciphertext } : {}),
    exits: exits.records.map(presentExit),
  }
}

const hostDied = (vcpu: number, piece: Piece): Record<string, unknown> => {
  const reason = 'KVM_EXIT_INTERNAL_ERROR' as const
  const exit = { vcpu, reason, firstGfn: piece.gfn, pages: 1, private: false, detail: 'the host crashed' }
  return presentExit({ exit, id: null, ret: null })
}

function readPiece(host: HostContext, piece: Piece, result: Extract<PieceResult, { kind: 'ok' }>): Uint8Array {
  const frame = result.mapping.frame
  if (!result.ciphertext) return host.memory.slice(frame, piece.offset, piece.length)
  return host.hardware.ciphertext(frame).subarray(piece.offset, piece.offset + piece.length)
}

/** The pages an access touches, in order. */
function* pieces(access: Access): Generator<Piece> {
  const start = BigInt(access.address)
  let gfn = Number(start >> 12n)
  let offset = Number(start & 0xfffn)
  for (let at = 0; at < access.length; ) {
    const length = Math.min(PAGE_BYTES - offset, access.length - at)
    yield { gfn, offset, length, at }
    at += length
    gfn++
    offset = 0
  }
}

/** Gets one page of an access through: mapping, hardware check, conversions of the auto VMM. */
function reach(
  host: HostContext,
  vm: VmState,
  vcpu: number,
  access: Access,
  piece: Piece,
  exits: ExitLog,
): PieceResult {
  const write = access.access === 'write'
  const tooWide = host.hardware.addressFault?.(vm.id, piece.gfn, access.access)
  if (tooWide !== undefined) return { kind: 'guest-fault', fault: tooWide }
  let last: Fault | undefined
  let isPrivate = false
  for (let round = 0; round < MAX_ROUNDS; round++) {
    const recorded = privacyOf(vm).isPrivate(host, vm, piece.gfn)
    isPrivate = host.backend.properties.accessKind === 'record' ? recorded : (access.private ?? recorded)
    const fault = { vcpu, gfn: piece.gfn, private: isPrivate, write, offset: piece.offset }
    const mapping = stage2.translate(host, vm, piece.gfn, isPrivate)
    if (mapping !== undefined && !(write && !mapping.private && slotAt(vm, piece.gfn)?.readOnly)) {
      const check = host.hardware.checkGuest(vm.id, piece.gfn, mapping, isPrivate, access.access, access.vmpl, vcpu)
      if (check.kind === 'ok') return { kind: 'ok', mapping, ciphertext: false }
      if (check.kind === 'ciphertext') return { kind: 'ok', mapping, ciphertext: true }
      if (check.kind === 'guest-fault') return check
      if (check.kind === 'vm-dead') return { kind: 'exit', exit: vmDied(vcpu, piece, check.fault), fault: check.fault }
      last = check.fault
      stage2.unmap(vm, piece.gfn, piece.gfn + 1)
      if (check.mended) continue
    }
    const unmapped = mapping === undefined ? unmappedCheck(host, vm, fault, access) : undefined
    if (unmapped !== undefined) return unmapped
    const exit = resolveFault(host, vm, fault)
    if (host.memory.crashReason !== undefined)
      return { kind: 'exit', exit: exit ?? stuck(vcpu, piece, isPrivate, last) }
    if (exit === undefined) continue
    if (vm.conversion === 'auto' && convertForFault(host, vm, exit, exits)) continue
    return { kind: 'exit', exit, ...(last === undefined ? {} : { fault: last }) }
  }
  return { kind: 'exit', exit: stuck(vcpu, piece, isPrivate, last), ...(last === undefined ? {} : { fault: last }) }
}

const unmappedCheck = (host: HostContext, vm: VmState, fault: GuestFault, access: Access) =>
  host.hardware.checkUnmapped?.(vm.id, fault.gfn, fault.private, access.access)

/** KVM has given the VM up, or its hardware the vCPU: KVM_RUN fails from now on. */
const vmDied = (vcpu: number, piece: Piece, { detail }: Fault): Exit => ({
  vcpu,
  reason: 'KVM_EXIT_INTERNAL_ERROR',
  firstGfn: piece.gfn,
  pages: 1,
  private: true,
  errno: 'EIO',
  detail,
})

const stuck = (vcpu: number, piece: Piece, isPrivate: boolean, fault: Fault | undefined): Exit => ({
  vcpu,
  reason: 'KVM_EXIT_INTERNAL_ERROR',
  firstGfn: piece.gfn,
  pages: 1,
  private: isPrivate,
  detail: 'the access faults again however often KVM resolves it',
  ...(fault === undefined ? {} : { fault }),
})
