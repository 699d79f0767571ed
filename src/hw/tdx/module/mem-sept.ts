import type { Host } from '../data.ts'
import { type Answer, DONE, done, entryOutputs, refuseOperand } from './answer.ts'
import { addressOf, hex } from './geometry.ts'
import { checkFreePage, checkTracked, type MemoryCall, openEntry, ROOT, wrongState } from './operands.ts'
import { addTable, demoteLeaf, isPromotable, isTableEmpty, promoteTable, removeTable } from './sept-ranges.ts'
import { isLeafState, STATE } from './states.ts'

/** R8 of SEPT.ADD that comes back unused (intel-tdx.md c.3). */
const UNUSED = 1n << 63n

/** `allowExisting` is RDX bit 0, which only version 1 knows. */
export type SeptAdd = MemoryCall & { readonly page: bigint; readonly allowExisting: boolean }

/** TDH.MEM.SEPT.ADD (c.3): a new table of 512 free entries under the entry, in `page`. */
export function septAdd({ data, machine }: Host, call: SeptAdd): Answer {
  const opened = openEntry(data, 'TDH.MEM.SEPT.ADD', call, 1, ROOT)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  if (call.allowExisting && entry.state === STATE.NL_MAPPED) return done({ r8: hex(call.page | UNUSED), unused: true })
  if (entry.state !== STATE.FREE) return wrongState(entry)
  const page = checkFreePage(data, call.page, 'R8')
  if (!page.ok) return page.answer
  addTable(data, td, gfn, level, page.value)
  machine.clear(page.value, 1)
  return DONE
}

/** TDH.MEM.SEPT.REMOVE (c.3): frees an empty table; RCX is its page. */
export function septRemove({ data }: Host, call: MemoryCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.SEPT.REMOVE', call, 1, ROOT)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  if (!isTable(entry.state)) return wrongState(entry)
  const refused = checkTracked(data, td, entry)
  if (refused !== undefined) return refused
  if (!isTableEmpty(td.sept, gfn, level)) return refuseOperand('TDX_EPT_PAGE_NOT_FREE', 'RCX')
  return freed(removeTable(data, td, gfn, level))
}

const isTable = (state: number): boolean => state === STATE.NL_MAPPED || state === STATE.NL_BLOCKED

const freed = (frame: number): Answer => done({ rcx: addressOf(frame), hpa: addressOf(frame) })

/** TDH.MEM.SEPT.RD (c.3): an entry in its masked form. */
export function septRead({ data }: Host, call: MemoryCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.SEPT.RD', call, 0, ROOT)
  return opened.ok ? done(entryOutputs(opened.value.entry)) : opened.answer
}

/** TDH.MEM.PAGE.PROMOTE (c.3): 512 contiguous leafs become one, unblocked; RCX is the page of the table they were in. */
export function pagePromote({ data }: Host, call: MemoryCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.PAGE.PROMOTE', call, 1, 2)
  if (!opened.ok) return opened.answer
  const { td, gfn, entry } = opened.value
  const level = opened.value.level as 1 | 2
  if (!isTable(entry.state)) return wrongState(entry)
  const refused = checkTracked(data, td, entry)
  if (refused !== undefined) return refused
  if (!isPromotable(td.sept, gfn, level)) return refuseOperand('TDX_EPT_INVALID_PROMOTE_CONDITIONS', 'RCX')
  return freed(promoteTable(data, td, gfn, level))
}

/** TDH.MEM.PAGE.DEMOTE (c.3): a leaf becomes 512 unblocked ones, under a new table in `page`. */
export function pageDemote({ data, machine }: Host, call: MemoryCall & { readonly page: bigint }): Answer {
  const opened = openEntry(data, 'TDH.MEM.PAGE.DEMOTE', call, 1, 2)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  if (!isLeafState(entry.state)) return wrongState(entry)
  const refused = checkTracked(data, td, entry)
  if (refused !== undefined) return refused
  const page = checkFreePage(data, call.page, 'R8')
  if (!page.ok) return page.answer
  demoteLeaf(data, td, gfn, level as 1 | 2, page.value)
  machine.clear(page.value, 1)
  return DONE
}
