import type { ConversionExit, GuestRequest, RequestEntry, Status } from '../contract.ts'

/**
 * A page-state change in which every entry is one hypercall and one exit: KVM_HC_MAP_GPA_RANGE and its like. Plain data.
 */
export type HypercallRequest = GuestRequest & {
  readonly kind: 'hypercall'
  readonly entries: readonly RequestEntry[]
  /** The entry whose turn it is. */
  at: number
}

export const begin = (entries: readonly RequestEntry[]): HypercallRequest => ({
  kind: 'hypercall',
  statuses: entries.length === 1 ? [undefined] : entries.map(() => undefined),
  completed: 0,
  entries,
  at: 0,
})

/** The conversion of the entry whose turn it is, or undefined when all are done. */
export function exitOf(request: HypercallRequest): ConversionExit | undefined {
  const entry = request.entries[request.at]
  if (entry === undefined) return undefined
  return {
    reason: 'KVM_EXIT_HYPERCALL',
    gfn: entry.gfn,
    pages: entry.pages * entry.span,
    span: entry.span,
    private: entry.operation === 'private',
  }
}

/** Records the answer to the entry whose turn it is. After a failure the guest stops: later entries stay unprocessed. */
export function answer(request: HypercallRequest, status: Status, success: boolean): void {
  request.statuses[request.at] = status
  if (success) {
    request.completed++
    request.at++
  } else request.at = request.entries.length
}
