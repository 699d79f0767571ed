import type { TdxData } from '../data.ts'
import type { OperandName } from '../status.ts'
import { type Answer, type Checked, entryOutputs, fail, pass, refuse, refuseOperand } from './answer.ts'
import { ADDRESS_BITS, type Level, PAGE_BITS, SPAN } from './geometry.ts'
import { ALLOWED, isAllowed, type Leaf, LIFECYCLE } from './op-states.ts'
import { epochOf, isFree, ownerOf, PAGE_TYPE, type PageType, entryAt as pamtEntry, typeOf } from './pamt.ts'
import { type Entry, walk } from './sept.ts'
import { isBlockedState } from './states.ts'
import type { Td } from './td.ts'
import { gpaw } from './td-params.ts'
import { demandsTracking, isTracked } from './tracking.ts'
import type { Vcpu } from './vcpu.ts'

/** The checks that calls share, in the order of intel-tdx.md 0.3. */

const PAGE_MASK = 0xfffn
export const MIN_TDCX = 6

/** Alignment, HKID bits and MAXPA of a private page operand, then that it lies in a TDMR. `span` is in pages. */
function checkFrame(data: TdxData, word: bigint, operand: OperandName, span: number): Checked<number> {
  const frame = Number(word >> PAGE_BITS)
  if ((word & PAGE_MASK) !== 0n || word >> ADDRESS_BITS !== 0n || frame % span !== 0)
    return fail(refuseOperand('TDX_OPERAND_INVALID', operand))
  return frame + span <= data.frames ? pass(frame) : fail(refuseOperand('TDX_OPERAND_ADDR_RANGE_ERROR', operand))
}

/** A page operand that must be PT_NDA, all `SPAN[level]` pages of it: its frame (0.3 step 6). */
export function checkFreePage(data: TdxData, word: bigint, operand: OperandName, level: Level = 0): Checked<number> {
  const frame = checkFrame(data, word, operand, SPAN[level])
  return frame.ok && !isFree(data.pamt, frame.value, SPAN[level])
    ? fail(refuseOperand('TDX_PAGE_METADATA_INCORRECT', operand))
    : frame
}

/** A 4 KiB page operand of any type: its frame. */
export const checkAnyPage = (data: TdxData, word: bigint, operand: OperandName): Checked<number> =>
  checkFrame(data, word, operand, 1)

function checkPageOf(data: TdxData, word: bigint, operand: OperandName, type: PageType): Checked<number> {
  const frame = checkFrame(data, word, operand, 1)
  return frame.ok && typeOf(pamtEntry(data.pamt, frame.value)) !== type
    ? fail(refuseOperand('TDX_PAGE_METADATA_INCORRECT', operand))
    : frame
}

/** 0.3 step 1: the TD of a TDR operand. */
export function checkTdr(data: TdxData, word: bigint, operand: OperandName): Checked<Td> {
  const frame = checkPageOf(data, word, operand, PAGE_TYPE.TDR)
  if (!frame.ok) return frame
  return pass(tdAt(data, frame.value))
}

/** The TD of a TDR page. */
function tdAt(data: TdxData, frame: number): Td {
  const td = data.tds.get(frame)
  if (td === undefined) throw new Error(`frame ${frame} is PT_TDR and no TD's`)
  return td
}

/** The TD that owns an assigned page. */
export const ownerTd = (data: TdxData, entry: number): Td => tdAt(data, data.pamt.owners[ownerOf(entry)] ?? -1)

/** The vCPU of a TDVPR operand, and its TD. */
export function checkTdvpr(
  data: TdxData,
  word: bigint,
  operand: OperandName,
): Checked<{ readonly td: Td; readonly vcpu: Vcpu }> {
  const frame = checkPageOf(data, word, operand, PAGE_TYPE.TDVPR)
  if (!frame.ok) return frame
  const td = ownerTd(data, pamtEntry(data.pamt, frame.value))
  const vcpu = td.vcpus.get(frame.value)
  if (vcpu === undefined) throw new Error(`frame ${frame.value} is PT_TDVPR and no vCPU's`)
  return pass({ td, vcpu })
}

/** 0.3 step 2 without the op state: not fatal, keys configured. */
export function checkKeys(td: Td): Answer | undefined {
  if (td.fatal) return refuse('TDX_TD_FATAL')
  return td.lifecycle === LIFECYCLE.KEYS_CONFIGURED ? undefined : refuse('TDX_TD_KEYS_NOT_CONFIGURED')
}

/** 0.3 step 2. */
export function checkState(td: Td, leaf: Leaf): Answer | undefined {
  const refused = checkKeys(td)
  if (refused !== undefined) return refused
  if (td.tdcx.length < MIN_TDCX) return refuse('TDX_TDCS_NOT_ALLOCATED')
  return isAllowed(ALLOWED[leaf], td.opState) ? undefined : refuse('TDX_OP_STATE_INCORRECT')
}

/** 0.3 steps 1 and 2. */
export function openTd(data: TdxData, leaf: Leaf, tdr: bigint, operand: OperandName): Checked<Td> {
  const td = checkTdr(data, tdr, operand)
  if (!td.ok) return td
  const refused = checkState(td.value, leaf)
  return refused === undefined ? td : fail(refused)
}

/** Whether a GPA, its low bits dropped, is private and within the TD's width (d.1). */
export const isPrivateGpa = (td: Td, gpa: bigint): boolean => gpa >> BigInt(gpaw(td.params) - 1) === 0n

export type Place = { readonly gfn: number; readonly level: Level }

const LEVEL_MASK = 7n
const GPA_RESERVED = 0xff8n

/** 0.3 step 3: RCX of a call on levels `lowest` to `highest`. */
export function checkGpa(td: Td, word: bigint, lowest: Level, highest: Level): Checked<Place> {
  const level = Number(word & LEVEL_MASK)
  const gfn = Number(word >> PAGE_BITS)
  const legal = (word & GPA_RESERVED) === 0n && level >= lowest && level <= highest && isPrivateGpa(td, word)
  if (!legal || gfn % SPAN[level as Level] !== 0) return fail(refuseOperand('TDX_OPERAND_INVALID', 'RCX'))
  return pass({ gfn, level: level as Level })
}

export type MemoryCall = { readonly gpa: bigint; readonly tdr: bigint }
export type Opened = { readonly td: Td; readonly gfn: number; readonly level: Level; readonly entry: Entry }

/** The highest level of a call that works up to the root. */
export const ROOT = 'root'

/** 0.3 steps 1 to 4: the entry of the asked level. */
export function openEntry(
  data: TdxData,
  leaf: Leaf,
  call: MemoryCall,
  lowest: Level,
  highest: Level | typeof ROOT,
): Checked<Opened> {
  const td = openTd(data, leaf, call.tdr, 'RDX')
  if (!td.ok) return td
  const { sept } = td.value
  const place = checkGpa(td.value, call.gpa, lowest, highest === ROOT ? sept.top : highest)
  if (!place.ok) return place
  const { gfn, level } = place.value
  const entry = walk(sept, gfn, level)
  if (entry.level !== level) return fail(refuseOperand('TDX_EPT_WALK_FAILED', 'RCX', entryOutputs(entry)))
  return pass({ td: td.value, gfn, level, entry })
}

/** 0.3 step 5: the refusal of an entry in a state that the call does not take. */
export const wrongState = (entry: Entry): Answer =>
  refuseOperand('TDX_EPT_ENTRY_STATE_INCORRECT', 'RCX', entryOutputs(entry))

/** Blocking, then tracking, where the TD's op state demands them (c.3, c.4). */
export function checkTracked(data: TdxData, td: Td, entry: Entry): Answer | undefined {
  if (!demandsTracking(td)) return undefined
  if (!isBlockedState(entry.state)) return refuseOperand('TDX_GPA_RANGE_NOT_BLOCKED', 'RCX')
  return isTrackedEntry(data, td, entry) ? undefined : refuseOperand('TDX_TLB_TRACKING_NOT_DONE', 'RCX')
}

export const isTrackedEntry = (data: TdxData, td: Td, { frame }: Entry): boolean =>
  isTracked(td, epochOf(data.pamt, frame, td.epoch))
