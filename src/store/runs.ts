import type Database from 'better-sqlite3'
import type { OwnershipRun, RunWindow } from '../domain/journal.ts'
import { addChecksums, checksum, checksumOfNumbers, subtractChecksums } from './checksum.ts'
import { damaged } from './errors.ts'
import { agree, type Run, RunIndex } from './run-index.ts'
import { RunStates } from './run-states.ts'

type RunRow = [firstGfn: number, pages: number, state: number]

/** What a VM's row says of its runs: how many there are, and the sum of their checksums. */
export type RunSum = { runs: number; checksum: number }

export const NO_RUNS: Readonly<RunSum> = { runs: 0, checksum: 0 }

const runChecksum = (vmChecksum: number, { first, pages, state }: Run): number =>
  checksumOfNumbers([vmChecksum, first, pages, state.checksum])

/** Adds a run at the end, growing the last one when they touch and agree. */
function append(runs: Run[], run: Run): void {
  const last = runs.at(-1)
  if (last !== undefined && last.first + last.pages === run.first && agree(last.state, run.state)) {
    runs[runs.length - 1] = { ...last, pages: last.pages + run.pages }
  } else runs.push(run)
}

function checkWindow({ vm, start, end, runs }: RunWindow): void {
  let at = start
  for (const run of runs) {
    if (run.start < at || run.count <= 0)
      throw new RangeError(`runs of VM ${vm} are not in order at frame ${run.start}`)
    at = run.start + run.count
  }
  if (at > end || start >= end) throw new RangeError(`runs of VM ${vm} leave the window [${start}, ${end})`)
}

/** The runs that take the place of `before` (those in or touching the window) once the window is written. */
function merge(start: number, end: number, inside: readonly Run[], before: readonly Run[]): Run[] {
  const runs: Run[] = []
  for (const { first, pages, state } of before) {
    if (first < start) append(runs, { first, pages: Math.min(pages, start - first), state })
  }
  for (const run of inside) append(runs, run)
  for (const { first, pages, state } of before) {
    const from = Math.max(first, end)
    if (first + pages > end) append(runs, { first: from, pages: first + pages - from, state })
  }
  return runs
}

/** Page ownership as maximal runs, changed window by window. */
export class PageRuns {
  readonly #states: RunStates
  readonly #vms = new Map<string, { readonly index: RunIndex; readonly checksum: number }>()
  readonly #select: Database.Statement<[string], RunRow>
  readonly #count: Database.Statement<[], number>
  readonly #insert: Database.Statement<[string, ...RunRow]>
  readonly #move: Database.Statement<[...RunRow, string, number]>
  readonly #resize: Database.Statement<[number, string, number]>
  readonly #delete: Database.Statement<[string, number]>
  readonly #deleteAll: Database.Statement<[string]>

  constructor(db: Database.Database) {
    const columns = 'first_gfn, pages, state'
    const row = 'vm = ? AND first_gfn = ?'
    this.#states = new RunStates(db)
    this.#select = db
      .prepare<[string], RunRow>(`SELECT ${columns} FROM page_runs WHERE vm = ? ORDER BY first_gfn`)
      .raw()
    this.#count = db.prepare<[], number>('SELECT count(*) FROM page_runs').pluck()
    this.#insert = db.prepare(`INSERT INTO page_runs (vm, ${columns}) VALUES (?, ?, ?, ?)`)
    this.#move = db.prepare(`UPDATE page_runs SET first_gfn = ?, pages = ?, state = ? WHERE ${row}`)
    this.#resize = db.prepare(`UPDATE page_runs SET pages = ? WHERE ${row}`)
    this.#delete = db.prepare(`DELETE FROM page_runs WHERE ${row}`)
    this.#deleteAll = db.prepare('DELETE FROM page_runs WHERE vm = ?')
  }

  /** Forgets what is kept in memory of the rows: after a transaction was rolled back. */
  forget(): void {
    this.#vms.clear()
    this.#states.forget()
  }

  /** Writes one window and keeps `sum` in step. Runs outside the window are only touched where they border on it. */
  apply(window: RunWindow, sum: RunSum): void {
    checkWindow(window)
    const { vm, start, end } = window
    const { index, checksum: seed } = this.#load(vm)
    const inside = window.runs.map((run) => this.#runOf(run))
    const around = index.around(start, end)
    const { removed, added, changed } = index.replace(start, end, around, merge(start, end, inside, around))
    for (const { before, after } of changed) {
      if (agree(before.state, after.state)) this.#resize.run(after.pages, vm, after.first)
      else this.#move.run(...rowOf(after), vm, before.first)
      sum.checksum = addChecksums(subtractChecksums(sum.checksum, runChecksum(seed, before)), runChecksum(seed, after))
    }
    sum.runs += added.length - removed.length
    for (const run of removed) sum.checksum = subtractChecksums(sum.checksum, runChecksum(seed, run))
    for (const run of added) {
      const row = removed.pop()
      if (row === undefined) this.#insert.run(vm, ...rowOf(run))
      else this.#move.run(...rowOf(run), vm, row.first)
      sum.checksum = addChecksums(sum.checksum, runChecksum(seed, run))
    }
    for (const run of removed) this.#delete.run(vm, run.first)
  }

  deleteVm(vm: string): void {
    this.#vms.delete(vm)
    this.#deleteAll.run(vm)
  }

  /** Checks that the runs of each VM are those its sum in `sums` speaks of, positive, disjoint and maximal. */
  verify(sums: ReadonlyMap<string, RunSum>): void {
    let total = 0
    for (const [vm, sum] of sums) {
      this.#verifyVm(vm, sum)
      total += sum.runs
    }
    if (this.#count.get() !== total) throw damaged('table page_runs has rows of a VM that is not in table vms')
  }

  #verifyVm(vm: string, expected: RunSum): void {
    const seed = checksum(vm)
    let sum = 0
    let count = 0
    let last: Run | undefined
    for (const row of this.#select.iterate(vm)) {
      const run = this.#fromRow(row)
      const end = last === undefined ? 0 : last.first + last.pages
      const joins = last !== undefined && run.first === end && agree(last.state, run.state)
      if (run.pages <= 0 || run.first < end || joins) {
        throw damaged(`row (${vm}, ${run.first}) of table page_runs is not a maximal run apart from the one before it`)
      }
      last = run
      count += 1
      sum = addChecksums(sum, runChecksum(seed, run))
    }
    if (count !== expected.runs || sum !== expected.checksum) {
      throw damaged(`the rows of VM ${vm} in table page_runs do not match the checksum in its row of table vms`)
    }
  }

  #load(vm: string): { readonly index: RunIndex; readonly checksum: number } {
    const known = this.#vms.get(vm)
    if (known !== undefined) return known
    const index = new RunIndex()
    for (const row of this.#select.iterate(vm)) index.add(this.#fromRow(row))
    const loaded = { index, checksum: checksum(vm) }
    this.#vms.set(vm, loaded)
    return loaded
  }

  #runOf({ start, count, owner, visibility, hardware }: OwnershipRun): Run {
    return { first: start, pages: count, state: this.#states.of(owner, visibility, hardware) }
  }

  #fromRow([first, pages, id]: RunRow): Run {
    return { first, pages, state: this.#states.byId(id) }
  }
}

const rowOf = ({ first, pages, state }: Run): RunRow => [first, pages, state.id]
