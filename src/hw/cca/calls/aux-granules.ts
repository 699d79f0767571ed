import type { Host } from '../data.ts'
import { type Answer, DONE } from '../rmm/answer.ts'
import { PAGE_BITS } from '../rmm/geometry.ts'
import { isHostMemory } from '../rmm/granules.ts'
import { recAt } from '../rmm/operands.ts'
import { AUX_COUNT } from '../rmm/rec.ts'
import { type RecParams, recCreate } from '../rmm/rec-commands.ts'
import { delegateRange, undelegateRange } from '../rmm/rtt-ranges.ts'

/**
 * REC_CREATE where the caller names no auxiliary granules: the host lends as many pages of its own as are asked for, and
 * delegates them. Without memory it names none, and the RMM refuses that.
 */
export function createWithLentAux(
  host: Host,
  rd: bigint,
  rec: bigint,
  fields: Omit<RecParams, 'numAux' | 'aux'>,
): Answer {
  const pages = takePages(host, AUX_COUNT)
  for (const page of pages) delegateRange(host, page, 1)
  const aux = pages.map((page) => BigInt(page) << BigInt(PAGE_BITS))
  const answer = recCreate(host, rd, rec, { ...fields, numAux: aux.length, aux })
  const made = answer === DONE ? recAt(host.data, rec) : undefined
  if (made === undefined) returnPages(host, pages)
  else made.auxLent = true
  return answer
}

/** Takes lent pages back, which are DELEGATED again by now. */
export function returnPages(host: Host, pages: readonly number[]): void {
  for (const page of pages) {
    undelegateRange(host, page, 1)
    host.machine.freeFrame(page)
  }
}

/** Host pages that no raw call has delegated meanwhile; none at all where there aren't enough. */
function takePages({ data, machine }: Host, count: number): number[] {
  const taken: number[] = []
  const guarded: number[] = []
  while (taken.length < count) {
    const frame = machine.allocateFrame()
    if (frame < 0) break
    const list = isHostMemory(data.granules, frame) ? taken : guarded
    list.push(frame)
  }
  const unused = taken.length < count ? [...guarded, ...taken] : guarded
  for (const frame of unused) machine.freeFrame(frame)
  return taken.length < count ? [] : taken
}
