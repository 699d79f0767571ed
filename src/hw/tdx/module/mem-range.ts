import type { Host } from '../data.ts'
import { type Answer, DONE, refuse, refuseOperand } from './answer.ts'
import { isTrackedEntry, type MemoryCall, openEntry, openTd, ROOT, wrongState } from './operands.ts'
import { blockEntry, unblockEntry } from './sept-ranges.ts'
import { BLOCK_TO, isBlockedState, UNBLOCK_TO } from './states.ts'
import { advanceEpoch, demandsTracking } from './tracking.ts'

/**
 * TDH.MEM.RANGE.BLOCK (intel-tdx.md c.3): no new translations through the entry, from now on, also for vCPUs that are
 * inside; PAMT remembers the epoch.
 */
export function rangeBlock({ data }: Host, call: MemoryCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.RANGE.BLOCK', call, 0, ROOT)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  if (isBlockedState(entry.state)) return refuseOperand('TDX_GPA_RANGE_ALREADY_BLOCKED', 'RCX')
  const state = BLOCK_TO[entry.state]
  if (state === undefined) return wrongState(entry)
  blockEntry(data, td, gfn, level, state)
  return DONE
}

/** TDH.MEM.RANGE.UNBLOCK (c.3). Where tracking is demanded its lack names SEPT_TREE, not RCX. */
export function rangeUnblock({ data }: Host, call: MemoryCall): Answer {
  const opened = openEntry(data, 'TDH.MEM.RANGE.UNBLOCK', call, 0, ROOT)
  if (!opened.ok) return opened.answer
  const { td, gfn, level, entry } = opened.value
  const state = UNBLOCK_TO[entry.state]
  if (state === undefined) return wrongState(entry)
  if (demandsTracking(td) && !isTrackedEntry(data, td, entry))
    return refuseOperand('TDX_TLB_TRACKING_NOT_DONE', 'SEPT_TREE')
  unblockEntry(data, td, gfn, level, state)
  return DONE
}

/** TDH.MEM.TRACK (c.4): the next TLB epoch, unless a vCPU is inside since the one before this. */
export function memTrack({ data }: Host, tdr: bigint): Answer {
  const td = openTd(data, 'TDH.MEM.TRACK', tdr, 'RCX')
  if (!td.ok) return td.answer
  return advanceEpoch(td.value) ? DONE : refuse('TDX_PREVIOUS_TLB_EPOCH_BUSY')
}
