import type { CallResult, Fault, GuestContext, Mapping, Status } from '../contract.ts'
import { type Host, vmOf } from './data.ts'
import { smashAround } from './instructions-host.ts'
import { scramble } from './memory.ts'
import { NPF, nestedPageFault, notValidatedFault, rmpFault } from './npf.ts'
import { BLOCK, blockOf, changeEntries, entryOf, GFN_LIMIT, isGfn } from './rmp.ts'
import {
  ALL_PERMISSIONS,
  ASSIGNED,
  asidOf,
  IMMUTABLE,
  LARGE,
  permissionsOf,
  VALIDATED,
  VMSA,
  withPermissions,
} from './states.ts'
import { GENERAL_PROTECTION, INSN, instructionStatus, PAGE_NOT_VALIDATED } from './status.ts'

const done = (status: Status, outputs?: Readonly<Record<string, unknown>>): CallResult =>
  outputs === undefined ? { kind: 'done', status } : { kind: 'done', status, outputs }
const SUCCESS = instructionStatus(INSN.SUCCESS)
const CHANGED: CallResult = done(SUCCESS, { carry: false })
const UNCHANGED: CallResult = done(SUCCESS, { carry: true })
const FAIL_INPUT = done(instructionStatus(INSN.FAIL_INPUT))
const FAIL_PERMISSION = done(instructionStatus(INSN.FAIL_PERMISSION))
const FAIL_SIZEMISMATCH = done(instructionStatus(INSN.FAIL_SIZEMISMATCH))

const fault = (gfn: number, what: Fault, mended = false): CallResult => ({
  kind: 'fault',
  gfn,
  private: true,
  write: false,
  fault: what,
  mended,
})

/**
 * PVALIDATE (amd-sev-snp.md b.5). Executed at CPL 0 by a guest that runs identity-mapped, so its address is the gpa.
 * Gives {@link CHANGED}, {@link UNCHANGED} (CF=1), a failure, or the #NPF that KVM gets to handle.
 */
export function pvalidate(host: Host, guest: GuestContext, gfn: number, large: boolean, validate: boolean): CallResult {
  if (gfn >= GFN_LIMIT || (large && gfn % BLOCK !== 0)) return FAIL_INPUT
  const mapping = guest.translate(gfn)
  const refused = judgeMapping(host, guest.vm, gfn, mapping, large)
  if (refused !== undefined) return refused
  const { frame, span } = mapping as Mapping
  const entry = entryOf(host.rmp, frame)
  if (large && ((entry & LARGE) === 0 || span === 1)) return FAIL_SIZEMISMATCH
  if ((entry & VALIDATED) === (validate ? VALIDATED : 0)) return UNCHANGED
  const start = large ? blockOf(frame) : frame
  const end = start + (large ? BLOCK : 1)
  changeEntries(host.rmp, start, end, (entry ^ VALIDATED) >>> 0)
  if (validate) freshen(host, guest.vm, start, end)
  return CHANGED
}

/** Pages that are still as the host left them: zero by default, garbage with `freshPages: "scrambled"`. */
function freshen(host: Host, vm: string, start: number, end: number): void {
  const { asid, freshPages } = vmOf(host, vm)
  if (freshPages === 'zero') return
  for (let frame = start; frame < end; frame++) if (host.machine.read(frame) === undefined) scramble(host, asid, frame)
}

/** Steps 3 to 5 of b.5, the same for PVALIDATE, RMPADJUST and RMPQUERY. */
function judgeMapping(
  host: Host,
  vm: string,
  gfn: number,
  mapping: Mapping | undefined,
  large: boolean,
): CallResult | undefined {
  if (mapping === undefined) return fault(gfn, nestedPageFault(NPF.ENC, 'No nested mapping.'))
  const { rmp } = host
  const { frame } = mapping
  const entry = frame < rmp.frames ? entryOf(rmp, frame) : 0
  if ((entry & ASSIGNED) === 0 || asidOf(entry) !== vmOf(host, vm).asid || !isGfn(rmp, frame, gfn) || entry & IMMUTABLE)
    return fault(gfn, rmpFault(0n, 'The RMP entry is not assigned to this guest at this address, or immutable.'))
  if (large || (entry & LARGE) === 0) return undefined
  smashAround(host, frame, gfn, 'a guest instruction on 4K of a 2M RMP entry')
  return fault(
    gfn,
    rmpFault(NPF.SIZEM, 'A 4K request on a 2M RMP entry: the host smashes it and the guest retries.'),
    true,
  )
}

export type RmpAdjust = {
  readonly large: boolean
  /** Privilege level of the code that executes it. */
  readonly vmpl: number
  readonly target: number
  readonly permissions: number
  readonly vmsa: boolean
}

/**
 * RMPADJUST (amd-sev-snp.md b.5). [C] order: arguments, target above own VMPL, mapping, size, validated, permissions
 * within own, VMSA only from VMPL0.
 */
export function rmpadjust(host: Host, guest: GuestContext, gfn: number, adjust: RmpAdjust): CallResult {
  const { large, vmpl, target, permissions, vmsa } = adjust
  if (gfn >= GFN_LIMIT || (large && gfn % BLOCK !== 0)) return FAIL_INPUT
  if (target > 3 || permissions > ALL_PERMISSIONS) return FAIL_INPUT
  if (target <= vmpl) return FAIL_PERMISSION
  const mapping = guest.translate(gfn)
  const refused = judgeMapping(host, guest.vm, gfn, mapping, large)
  if (refused !== undefined) return refused
  const { frame, span } = mapping as Mapping
  const entry = entryOf(host.rmp, frame)
  if (large && ((entry & LARGE) === 0 || span === 1)) return FAIL_SIZEMISMATCH
  if ((entry & VALIDATED) === 0) return done(PAGE_NOT_VALIDATED, { fault: notValidatedFault(gfn) })
  if ((permissions & ~permissionsOf(entry, vmpl)) !== 0 || (vmsa && vmpl !== 0)) return FAIL_PERMISSION
  const start = large ? blockOf(frame) : frame
  const marked = vmpl !== 0 ? entry : vmsa ? entry | VMSA : entry & ~VMSA
  changeEntries(host.rmp, start, start + (large ? BLOCK : 1), withPermissions(marked, target, permissions))
  return done(SUCCESS)
}

/** RMPQUERY (amd-sev-snp.md b.4, b.5): what a VMPL not above one's own may do with a page. */
export function rmpquery(host: Host, guest: GuestContext, gfn: number, vmpl: number, target: number): CallResult {
  if (gfn >= GFN_LIMIT) return FAIL_INPUT
  if (target < vmpl || target > 3) return FAIL_PERMISSION
  const mapping = guest.translate(gfn)
  // A query says the size itself, so any size will do.
  const refused = judgeMapping(host, guest.vm, gfn, mapping, true)
  if (refused !== undefined) return refused
  const entry = entryOf(host.rmp, (mapping as Mapping).frame)
  if ((entry & VALIDATED) === 0) return done(PAGE_NOT_VALIDATED, { fault: notValidatedFault(gfn) })
  return done(SUCCESS, {
    permissions: permissionsOf(entry, target),
    pageSize: entry & LARGE ? '2M' : '4K',
    vmsa: (entry & VMSA) !== 0,
  })
}

export const GP: CallResult = done(GENERAL_PROTECTION)
/** Executed where SEV-SNP is not active (b.5 step 1): CF=1 and nothing else. */
export const INACTIVE_PVALIDATE: CallResult = UNCHANGED

/**
 * The guest's acceptance of `count` pages of `span`: PVALIDATE in the largest size asked for, 512 × 4K where the
 * answer is FAIL_SIZEMISMATCH (amd-sev-snp.md c.3). Pages validated before are passed over. A range that begins inside
 * a page of `span` goes on with what is left of that page.
 */
export function accept(host: Host, guest: GuestContext, gfn: number, count: number, span: number): CallResult {
  const large = span >= BLOCK
  const end = large ? gfn - (gfn % span) + count * span : gfn + count
  for (let at = gfn; at < end; ) {
    if (large && at % BLOCK === 0) {
      const answer = pvalidate(host, guest, at, true, true)
      if (answer === CHANGED || answer === UNCHANGED) {
        at += BLOCK
        continue
      }
      if (answer !== FAIL_SIZEMISMATCH) return answer
    }
    const stop = large ? Math.min(end, blockOf(at) + BLOCK) : end
    for (; at < stop; at++) {
      const answer = pvalidate(host, guest, at, false, true)
      if (answer !== CHANGED && answer !== UNCHANGED) return answer
    }
  }
  return CHANGED
}
