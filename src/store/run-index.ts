import * as pageMap from '../hw/shared/page-map.ts'

/** What all pages of a run are: a row of page_states, and its checksum. */
export type RunState = {
  readonly id: number
  readonly owner: string
  readonly visibility: string
  readonly hardware: string
  readonly checksum: number
}

/** A row of page_runs: `pages` from `first` that agree. */
export type Run = { readonly first: number; readonly pages: number; readonly state: RunState }

/** A run in the index, changed in place as its row is. */
export type IndexedRun = { readonly first: number; pages: number; state: RunState; readonly id: number }

/** What replacing runs comes to, row by row. */
export type RunChanges = {
  readonly removed: Run[]
  readonly added: Run[]
  /** Rows that keep their first page, as they were and as they are. */
  readonly changed: { readonly before: Run; readonly after: Run }[]
}

export const agree = (a: RunState, b: RunState): boolean => a.id === b.id

/**
 * The stored runs of one VM, found by page: a map has the number of the run that holds each page. So what a window
 * meets is known without asking the database.
 */
export class RunIndex {
  readonly #numbers = pageMap.create()
  readonly #runs: (IndexedRun | undefined)[] = [undefined]
  readonly #free: number[] = []

  /** Takes in a run that touches none that agrees with it. */
  add({ first, pages, state }: Run): void {
    const id = this.#free.pop() ?? this.#runs.length
    this.#runs[id] = { id, first, pages, state }
    pageMap.setRange(this.#numbers, first, first + pages, id)
  }

  /** The runs that hold a page of [start, end) or border on it, in order. */
  around(start: number, end: number): IndexedRun[] {
    const found: IndexedRun[] = []
    let at = Math.max(0, start - 1)
    while (at <= end) {
      const run = this.#runs[pageMap.get(this.#numbers, at)]
      if (run === undefined) at = pageMap.nextNonZero(this.#numbers, at, end + 1)
      else {
        found.push(run)
        at = run.first + run.pages
      }
    }
    return found
  }

  /** Puts `after` in the place of `before`, the runs around [start, end), outside of which the two must not differ. */
  replace(start: number, end: number, before: readonly IndexedRun[], after: readonly Run[]): RunChanges {
    const changes: RunChanges = { removed: [], added: [], changed: [] }
    pageMap.setRange(this.#numbers, start, end, 0)
    let at = 0
    for (const run of after) {
      let old = before[at]
      while (old !== undefined && old.first < run.first) {
        this.#drop(old, changes)
        old = before[++at]
      }
      if (old === undefined || old.first > run.first) {
        this.add(run)
        changes.added.push(run)
        continue
      }
      at++
      this.#change(old, run, start, changes)
    }
    for (; at < before.length; at++) this.#drop(before[at] as IndexedRun, changes)
    return changes
  }

  #drop(run: IndexedRun, changes: RunChanges): void {
    this.#runs[run.id] = undefined
    this.#free.push(run.id)
    changes.removed.push(run)
  }

  #change(old: IndexedRun, run: Run, start: number, changes: RunChanges): void {
    const oldEnd = old.first + old.pages
    pageMap.setRange(this.#numbers, Math.max(run.first, Math.min(oldEnd, start)), run.first + run.pages, old.id)
    if (old.pages === run.pages && agree(old.state, run.state)) return
    changes.changed.push({ before: { first: old.first, pages: old.pages, state: old.state }, after: run })
    old.pages = run.pages
    old.state = run.state
  }
}
