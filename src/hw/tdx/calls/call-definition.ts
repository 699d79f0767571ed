import { type Static, type TSchema, Type } from 'typebox'
import type { Call, CallResult, GuestContext, Hardware, Status } from '../../contract.ts'
import { addressValue, HexAddress } from '../../shared/address-schema.ts'
import { type Host, tdOf, vmOf } from '../data.ts'
import { type Answer, refuseOperand } from '../module/answer.ts'
import { hex, PAGE_BITS } from '../module/geometry.ts'
import { type GuestResult, PENDING_PAGE } from '../module/guest-memory.ts'
import { PACKAGES } from '../module/kot.ts'
import { type Td, vcpuAt } from '../module/td.ts'
import type { Vcpu } from '../module/vcpu.ts'
import { checkRunning, EXIT_REASON } from '../module/vp.ts'
import { UNDEFINED_OPCODE } from '../status.ts'

/** The hardware of this backend, with the host its calls work on. */
export type TdxHardware = Hardware & { readonly host: Host }

type Definition<Schema extends TSchema, Run> = {
  readonly name: string
  readonly summary: string
  readonly schema: Schema
  readonly example: Readonly<Record<string, unknown>>
  readonly run: Run
}

/** SEAMCALL in a TD exits to the module, which injects #UD; TDCALL outside VMX non-root operation is #UD by itself. */
const WRONG_SIDE: CallResult = { kind: 'done', status: UNDEFINED_OPCODE }

export const result = ({ status, outputs }: Answer): CallResult =>
  outputs === undefined ? { kind: 'done', status } : { kind: 'done', status, outputs }

/** A host call. Arguments were checked against the schema before, so they have its type. */
export const defineSeamcall = <Schema extends TSchema>({
  run,
  ...definition
}: Definition<Schema, (host: Host, args: Static<Schema>, guest: GuestContext) => Answer>): Call => ({
  ...definition,
  by: 'host',
  run: (hardware, args, guest) =>
    guest.by === 'host' ? result(run((hardware as TdxHardware).host, args as Static<Schema>, guest)) : WRONG_SIDE,
})

/** VP.ENTER after the TDVPR was reclaimed. */
const NO_TD = result(refuseOperand('TDX_PAGE_METADATA_INCORRECT', 'RCX'))

export type RunTdcall<Schema extends TSchema, Result> = (
  host: Host,
  td: Td,
  vcpu: Vcpu,
  args: Static<Schema>,
  guest: GuestContext,
) => Result

/**
 * A guest call on the vCPU of the context. KVM enters the vCPU for it, if it is not inside already; where that cannot be,
 * the answer is VP.ENTER's own (intel-tdx.md a.4).
 */
export const defineGuestCall = <Schema extends TSchema>({
  run,
  ...definition
}: Definition<Schema, RunTdcall<Schema, CallResult>>): Call => ({
  ...definition,
  by: 'guest',
  run(hardware, args, guest) {
    if (guest.by !== 'guest') return WRONG_SIDE
    const { host } = hardware as TdxHardware
    const td = tdOf(host.data, guest.vm)
    if (td === undefined) return NO_TD
    const running = checkRunning(td, vcpuAt(td, guest.vcpu))
    if (!running.ok) return result(running.answer)
    return run(host, td, running.value.vcpu, args as Static<Schema>, guest)
  },
})

/** A TDCALL of the module alone: an answer, or an EPT violation that KVM handles before the guest runs it again (c.5). */
export const defineTdcall = <Schema extends TSchema>({
  run,
  ...definition
}: Definition<Schema, RunTdcall<Schema, GuestResult>>): Call =>
  defineGuestCall({
    ...definition,
    run: (host, td, vcpu, args, guest) => guestResult(host, guest, run(host, td, vcpu, args, guest)),
  })

const EPT_VIOLATION: Status = { name: 'EPT_VIOLATION', code: hex(EXIT_REASON.EPT_VIOLATION) }

function guestResult(host: Host, guest: GuestContext, outcome: GuestResult): CallResult {
  if (outcome.kind === 'answer') return result(outcome.answer)
  const { gfn, qualification, extendedQualification, detail } = outcome.violation
  if (extendedQualification === PENDING_PAGE) {
    // KVM takes an access before acceptance for the guest's end, whatever made it (d.2).
    vmOf(host.data, guest.vm).dead = true
    return { kind: 'done', status: EPT_VIOLATION, outputs: { errno: 'EIO', detail } }
  }
  return {
    kind: 'fault',
    gfn,
    private: true,
    // KVM takes private faults for writes whatever the qualification says (d.2).
    write: true,
    fault: { ...EPT_VIOLATION, errorCode: hex(qualification), detail },
    mended: false,
  }
}

export const closed = { additionalProperties: false } as const
const described = (description: string) => Type.Union(HexAddress.anyOf, { description })
export const word = described
export const optionalWord = (description: string) => Type.Optional(described(description))

export const gpaArgument = described('Guest physical address, RCX; its low bits are given to the module as they are.')
export const levelArgument = Type.Optional(
  Type.Integer({
    minimum: 0,
    maximum: 4,
    default: 0,
    description: '0 4K, 1 2M, 2 1G, 3 512G, 4 256T: bits 2:0 of RCX; the address is aligned to it.',
  }),
)
export const tdrArgument = optionalWord("Host physical address of the TDR; by default that of the VM's own TD.")
export const tdvprArgument = optionalWord(
  'Host physical address of the TDVPR; by default that of the vCPU of the call.',
)
export const pageArgument = (description: string) => described(`Host physical address of ${description}.`)
export const lpArgument = Type.Optional(
  Type.Integer({
    minimum: 0,
    maximum: 0xffff,
    description: "Logical processor it runs on; by default the vCPU's own, or 0.",
  }),
)
export const packageArgument = Type.Optional(
  Type.Integer({ minimum: 0, maximum: PACKAGES - 1, default: 0, description: 'Processor package it runs on.' }),
)

export type Word = string | number
export { addressValue }

/** RCX of a memory call. */
export const gpaWord = (gpa: Word, level = 0): bigint => addressValue(gpa) | BigInt(level)

export const tdrWord = (host: Host, guest: GuestContext, tdr: Word | undefined): bigint =>
  tdr === undefined ? BigInt(vmOf(host.data, guest.vm).tdr) << PAGE_BITS : addressValue(tdr)

/** A word that is no page's address: what a vCPU that doesn't exist has for its TDVPR. */
const NO_PAGE = 2n ** 64n - 1n

export function tdvprWord(host: Host, guest: GuestContext, tdvpr: Word | undefined): bigint {
  if (tdvpr !== undefined) return addressValue(tdvpr)
  const frame = tdOf(host.data, guest.vm)?.indexed[guest.vcpu]
  return frame === undefined ? NO_PAGE : BigInt(frame) << PAGE_BITS
}

/** The LP that a vCPU call runs on when the caller names none. */
export function lpOf(host: Host, tdvpr: bigint, lp: number | undefined): number {
  if (lp !== undefined) return lp
  const frame = Number(tdvpr >> PAGE_BITS)
  for (const { vcpus } of host.data.tds.values()) {
    const vcpu = vcpus.get(frame)
    if (vcpu !== undefined) return Math.max(0, vcpu.lp)
  }
  return 0
}
