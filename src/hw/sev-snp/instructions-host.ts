import * as PageMap from '../shared/page-map.ts'
import { TOTAL_ASIDS } from './asids.ts'
import type { Host } from './data.ts'
import { changeView, viewOf } from './memory.ts'
import { BLOCK, blockOf, changeEntries, entryOf, GFN_LIMIT, gfnOf, isFixed, type Rmp, writeEntries } from './rmp.ts'
import { ASSIGNED, asidOf, IMMUTABLE, LARGE, withAsid } from './states.ts'
import { INSN, type InstructionCode } from './status.ts'

/** The new entry of an RMPUPDATE: the fields of the 16-byte structure (amd-sev-snp.md b.1). */
export type RmpUpdate = {
  readonly assigned: boolean
  readonly large: boolean
  readonly immutable: boolean
  readonly asid: number
  readonly gfn: number
}

/** RMPUPDATE's checks, in the order of amd-sev-snp.md b.4. Nothing is written. */
export function judgeUpdate(rmp: Rmp, frame: number, update: RmpUpdate): InstructionCode {
  const { assigned, large, immutable, asid, gfn } = update
  // 2: no entry, or the table itself; alignment; ASID; fields that need assigned
  if (frame >= rmp.ownStart) return INSN.FAIL_INPUT
  if (gfn >= GFN_LIMIT || asid > TOTAL_ASIDS) return INSN.FAIL_INPUT
  if (large && (frame % BLOCK !== 0 || gfn % BLOCK !== 0)) return INSN.FAIL_INPUT
  if (!assigned && (asid !== 0 || immutable)) return INSN.FAIL_INPUT
  // [C] A GPA in an entry without ASID would forge the firmware's marks (b.2); no transition of b.3 needs it.
  if (assigned && asid === 0 && gfn !== 0) return INSN.FAIL_INPUT
  // 3 cannot happen: commands of a host run one after another.
  const old = entryOf(rmp, frame)
  if (old & IMMUTABLE) return INSN.FAIL_PERMISSION
  if (!large) return old & LARGE ? INSN.FAIL_OVERLAP : INSN.SUCCESS
  return old & LARGE ? INSN.SUCCESS : judgeBlock(rmp, frame)
}

/** A new 2M page over 4K entries: none may be assigned, and HV-Fixed ones never change (b.1, g AMDSEV#245). */
function judgeBlock(rmp: Rmp, frame: number): InstructionCode {
  let code: InstructionCode = INSN.SUCCESS
  for (let at = frame; at < frame + BLOCK; at = PageMap.nextRun(rmp.entries, at, frame + BLOCK)) {
    const entry = entryOf(rmp, at)
    if (isFixed(entry)) return INSN.FAIL_PERMISSION
    if (entry & ASSIGNED) code = INSN.FAIL_OVERLAP
  }
  return code
}

/** RMPUPDATE of the table alone: steps 2 to 7 of b.4. */
export function updateEntry(rmp: Rmp, frame: number, update: RmpUpdate): InstructionCode {
  const code = judgeUpdate(rmp, frame, update)
  if (code !== INSN.SUCCESS) return code
  const { assigned, large, immutable, asid, gfn } = update
  const end = frame + (large ? BLOCK : 1)
  if (!assigned) {
    writeEntries(rmp, frame, end, 0, 0)
    return code
  }
  const old = entryOf(rmp, frame)
  const same =
    (old & ASSIGNED) !== 0 &&
    asid !== 0 &&
    asidOf(old) === asid &&
    (old & LARGE) === (large ? LARGE : 0) &&
    gfnOf(rmp, frame) === gfn
  const immutableBit = immutable ? IMMUTABLE : 0
  if (same) changeEntries(rmp, frame, end, ((old & ~IMMUTABLE) | immutableBit) >>> 0)
  else writeEntries(rmp, frame, end, withAsid(ASSIGNED | immutableBit | (large ? LARGE : 0), asid), gfn)
  return code
}

/**
 * RMPUPDATE with what follows from it for contents: memory stays as it is, so that a page that changes hands is
 * garbage to the new owner (amd-sev-snp.md b.3, b.4 step 7).
 */
export function rmpUpdate(host: Host, frame: number, update: RmpUpdate): InstructionCode {
  const before = frame < host.rmp.frames ? viewOf(entryOf(host.rmp, frame)) : 0
  const code = updateEntry(host.rmp, frame, update)
  if (code === INSN.SUCCESS) changeView(host, frame, update.large ? BLOCK : 1, before, viewOf(entryOf(host.rmp, frame)))
  return code
}

/** PSMASH (amd-sev-snp.md b.4): a 2M entry becomes 512 4K entries; validated, permissions and ASID stay. */
export function psmash(rmp: Rmp, frame: number): InstructionCode {
  if (frame % BLOCK !== 0 || frame >= rmp.frames) return INSN.FAIL_INPUT
  const entry = entryOf(rmp, frame)
  if ((entry & LARGE) === 0 || entry & IMMUTABLE) return INSN.FAIL_BADADDR
  // [C] A 2M page without ASID (Reclaim) splits like a guest's.
  changeEntries(rmp, frame, frame + BLOCK, (entry & ~LARGE) >>> 0)
  return INSN.SUCCESS
}

/** PSMASH of the 2M page around a frame, as KVM does it, told to the client. */
export function smashAround(host: Host, frame: number, gfn: number, why: string): InstructionCode {
  const block = blockOf(frame)
  const code = psmash(host.rmp, block)
  if (code === INSN.SUCCESS)
    host.machine.note({ name: 'PSMASH', frame: block, gfn: gfn - (frame - block), detail: why })
  return code
}

/** Whether some page of a 2M region is assigned as 4K: bit 1 of RMPREAD's page-size byte (amd-sev-snp.md b.1). */
export function hasAssignedSubpages(rmp: Rmp, frame: number): boolean {
  const start = blockOf(frame)
  const end = Math.min(start + BLOCK, rmp.frames)
  for (let at = start; at < end; at = PageMap.nextRun(rmp.entries, at, end)) {
    const entry = entryOf(rmp, at)
    if (entry & ASSIGNED && (entry & LARGE) === 0) return true
  }
  return false
}
