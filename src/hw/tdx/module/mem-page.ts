import type { Host } from '../data.ts'
import { addPage as measurePage } from '../measurement/mrtd.ts'
import { type Answer, type Checked, DONE, done, fail, pass, refuseOperand } from './answer.ts'
import { ADDRESS_BITS, addressOf, PAGE_BITS, SPAN } from './geometry.ts'
import { FIRST_PRIVATE_KEY } from './kot.ts'
import { checkFreePage, checkTracked, type MemoryCall, openEntry, wrongState } from './operands.ts'
import { entryAt, PAGE_TYPE, typeOf } from './pamt.ts'
import { isPoisoned } from './poison.ts'
import { augRange, forget, mapRange, relocatePage, removeRange } from './sept-ranges.ts'
import { isLeafState, STATE, unblocked } from './states.ts'

/** What calls on pages take: RCX with its level bits, RDX, and R8. */
export type PageCall = MemoryCall & { readonly page: bigint }

/**
 * TDH.MEM.PAGE.ADD (intel-tdx.md c.3): copies `source` (R9) into `page`, which becomes a MAPPED page of the TD, and
 * extends MRTD with its address. Both may be one page.
 */
export function pageAdd(host: Host, call: PageCall & { readonly source: bigint }): Answer {
  const { data, machine } = host
  const opened = openEntry(data, 'TDH.MEM.PAGE.ADD', call, 0, 0)
  if (!opened.ok) return opened.answer
  const { td, gfn, entry } = opened.value
  if (entry.state !== STATE.FREE) return wrongState(entry)
  const source = checkSource(host, call.source)
  if (!source.ok) return source.answer
  const page = checkFreePage(data, call.page, 'R8')
  if (!page.ok) return page.answer
  machine.write(page.value, sharedBytes(host, source.value)?.slice())
  mapRange(data, td, gfn, page.value, 1, STATE.MAPPED, 0)
  measurePage(td.mrtd, gfn)
  return DONE
}

/** R9: 4 KiB aligned, a shared key, in memory. */
function checkSource({ data }: Host, word: bigint): Checked<number> {
  const frame = Number((word & ((1n << ADDRESS_BITS) - 1n)) >> PAGE_BITS)
  const legal = (word & 0xfffn) === 0n && word >> ADDRESS_BITS < BigInt(FIRST_PRIVATE_KEY) && frame < data.frames
  return legal ? pass(frame) : fail(refuseOperand('TDX_OPERAND_INVALID', 'R9'))
}

/** What a read with a shared key sees: zeros where the page is a TD's or the module's (d.6). */
const sharedBytes = ({ data, machine }: Host, frame: number): Uint8Array | undefined =>
  typeOf(entryAt(data.pamt, frame)) === PAGE_TYPE.NDA ? machine.read(frame) : undefined

/** TDH.MEM.PAGE.AUG (c.3): `page` becomes a PENDING page of the TD, 4K or 2M; its content stays, unreadable. */
export function pageAug({ data }: Host, call: PageCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.PAGE.AUG', call, 0, 1)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  if (entry.state !== STATE.FREE) return wrongState(entry)
  const page = checkFreePage(data, call.page, 'R8', level)
  if (!page.ok) return page.answer
  augRange(data, td, gfn, page.value, SPAN[level], level)
  return DONE
}

/**
 * TDH.MEM.PAGE.REMOVE (c.3): the entry is FREE, the page PT_NDA; RCX is the page. Its ciphertext reads as zeros with
 * a shared key.
 */
export function pageRemove({ data, machine }: Host, call: MemoryCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.PAGE.REMOVE', call, 0, 2)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  if (!isLeafState(entry.state)) return wrongState(entry)
  const refused = checkTracked(data, td, entry)
  if (refused !== undefined) return refused
  removeRange(data, td, gfn, SPAN[level])
  machine.clear(entry.frame, SPAN[level])
  return done({ rcx: addressOf(entry.frame), hpa: addressOf(entry.frame) })
}

/**
 * TDH.MEM.PAGE.RELOCATE (c.3): moves a 4K page, with its content unless it's pending, to `page` and unblocks it; RCX is
 * the old page.
 */
export function pageRelocate(host: Host, call: PageCall): Answer {
  const { data, machine } = host
  const opened = openEntry(data, 'TDH.MEM.PAGE.RELOCATE', call, 0, 0)
  if (!opened.ok) return opened.answer
  const { td, gfn, entry } = opened.value
  if (!isLeafState(entry.state)) return wrongState(entry)
  if (call.page === BigInt(entry.frame) << PAGE_BITS) return refuseOperand('TDX_OPERAND_INVALID', 'R8')
  const refused = checkTracked(data, td, entry)
  if (refused !== undefined) return refused
  const page = checkFreePage(data, call.page, 'R8')
  if (!page.ok) return page.answer
  const state = unblocked(entry.state)
  if (state === STATE.MAPPED) moveContent(host, entry.frame, page.value)
  machine.clear(entry.frame, 1)
  relocatePage(data, td, gfn, page.value, state)
  return done({ rcx: addressOf(entry.frame), hpa: addressOf(entry.frame) })
}

/** Poison goes with the content it is in. */
function moveContent({ data, machine }: Host, from: number, to: number): void {
  machine.write(to, machine.read(from)?.slice())
  if (isPoisoned(data, from)) data.poisoned.add(to)
}

/** Zeroes pages under their TD's key: what ACCEPT does to contents (c.5). */
export function zeroPages({ data, machine }: Host, frame: number, count: number): void {
  machine.clear(frame, count)
  if (data.poisoned.size > 0) forget(data.poisoned, frame, count)
}
