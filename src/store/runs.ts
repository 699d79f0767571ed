import type Database from 'better-sqlite3'
import type { OwnershipRun, RunWindow } from '../domain/journal.ts'
import { addChecksums, checksum, subtractChecksums } from './checksum.ts'
import { damaged } from './errors.ts'

type RunRow = [firstGfn: number, pages: number, owner: string, visibility: string, hardware: string]

/** What a VM's row says of its runs: how many there are, and the sum of their checksums. */
export type RunSum = { runs: number; checksum: number }

export const NO_RUNS: Readonly<RunSum> = { runs: 0, checksum: 0 }

const agree = (a: RunRow, b: RunRow): boolean => a[4] === b[4] && a[3] === b[3] && a[2] === b[2]

const rowChecksum = (vm: string, [firstGfn, pages, owner, visibility, hardware]: RunRow): number =>
  checksum(
    `${vm.length}:${vm} ${firstGfn} ${pages} ${owner.length}:${owner} ${visibility.length}:${visibility} ${hardware}`,
  )

/** Adds a run at the end, growing the last one when they touch and agree. */
function append(rows: RunRow[], row: RunRow): void {
  const last = rows.at(-1)
  if (last !== undefined && last[0] + last[1] === row[0] && agree(last, row)) last[1] += row[1]
  else rows.push(row)
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

const rowOf = (run: OwnershipRun): RunRow => [run.start, run.count, run.owner, run.visibility, run.hardware]

/** The rows that take the place of `before` (those in or touching the window) once the window is written. */
function replace({ start, end, runs }: RunWindow, before: readonly RunRow[]): RunRow[] {
  const rows: RunRow[] = []
  for (const [first, pages, ...rest] of before) {
    if (first < start) append(rows, [first, Math.min(pages, start - first), ...rest])
  }
  for (const run of runs) append(rows, rowOf(run))
  for (const [first, pages, ...rest] of before) {
    const from = Math.max(first, end)
    if (first + pages > end) append(rows, [from, first + pages - from, ...rest])
  }
  return rows
}

/** Page ownership as maximal runs, changed window by window. */
export class PageRuns {
  readonly #db: Database.Database
  readonly #around: Database.Statement<[string, string, number, number, number], string>
  readonly #insert: Database.Statement<[string, ...RunRow]>
  readonly #update: Database.Statement<[number, string, string, string, string, number]>
  readonly #delete: Database.Statement<[string, number]>
  readonly #deleteAll: Database.Statement<[string]>

  constructor(db: Database.Database) {
    this.#db = db
    // One text instead of rows, because fetching a list costs several times what finding it does. And no bare parameter
    // beside a range: the planner would look at its value, and compile the statement anew for each.
    this.#around = db
      .prepare<[string, string, number, number, number], string>(
        'SELECT json_group_array(json_array(first_gfn, pages, owner, visibility, hardware)) FROM (SELECT * FROM page_runs ' +
          "WHERE vm = ? || '' AND first_gfn >= " +
          "ifnull((SELECT max(first_gfn) FROM page_runs WHERE vm = ? || '' AND first_gfn < ? + 0), ? + 0) " +
          'AND first_gfn <= ? + 0 ORDER BY first_gfn)',
      )
      .pluck()
    this.#insert = db.prepare(
      'INSERT INTO page_runs (vm, first_gfn, pages, owner, visibility, hardware) VALUES (?, ?, ?, ?, ?, ?)',
    )
    this.#update = db.prepare(
      'UPDATE page_runs SET pages = ?, owner = ?, visibility = ?, hardware = ? WHERE vm = ? AND first_gfn = ?',
    )
    this.#delete = db.prepare('DELETE FROM page_runs WHERE vm = ? AND first_gfn = ?')
    this.#deleteAll = db.prepare('DELETE FROM page_runs WHERE vm = ?')
  }

  /** Writes one window and keeps `sum` in step. Runs outside the window are only touched where they border on it. */
  apply(window: RunWindow, sum: RunSum): void {
    checkWindow(window)
    const { vm, start, end } = window
    const before: RunRow[] = JSON.parse(this.#around.get(vm, vm, start, start, end) ?? '[]')
    const after = replace(window, before)
    const old = new Map(before.map((row) => [row[0], row]))
    for (const row of after) {
      const was = old.get(row[0])
      old.delete(row[0])
      if (was !== undefined && was[1] === row[1] && agree(was, row)) continue
      if (was === undefined) this.#insert.run(vm, ...row)
      else this.#update.run(row[1], row[2], row[3], row[4], vm, row[0])
      if (was !== undefined) sum.checksum = subtractChecksums(sum.checksum, rowChecksum(vm, was))
      else sum.runs += 1
      sum.checksum = addChecksums(sum.checksum, rowChecksum(vm, row))
    }
    for (const row of old.values()) {
      this.#delete.run(vm, row[0])
      sum.runs -= 1
      sum.checksum = subtractChecksums(sum.checksum, rowChecksum(vm, row))
    }
  }

  deleteVm(vm: string): void {
    this.#deleteAll.run(vm)
  }

  /** Checks that the runs of each VM are those its sum in `sums` speaks of, positive, disjoint and maximal. */
  verify(sums: ReadonlyMap<string, RunSum>): void {
    const select = this.#db.prepare<[string], RunRow>(
      'SELECT first_gfn, pages, owner, visibility, hardware FROM page_runs WHERE vm = ? ORDER BY first_gfn',
    )
    let total = 0
    for (const [vm, sum] of sums) {
      const rows = select.raw().all(vm)
      verifyRuns(vm, rows, sum)
      total += rows.length
    }
    const stored = this.#db.prepare<[], number>('SELECT count(*) FROM page_runs').pluck().get()
    if (stored !== total) throw damaged('table page_runs has rows of a VM that is not in table vms')
  }
}

function verifyRuns(vm: string, rows: readonly RunRow[], expected: RunSum): void {
  let sum = 0
  let last: RunRow | undefined
  for (const row of rows) {
    const end = last === undefined ? 0 : last[0] + last[1]
    if (row[1] <= 0 || row[0] < end || (last !== undefined && row[0] === end && agree(last, row))) {
      throw damaged(`row (${vm}, ${row[0]}) of table page_runs is not a maximal run apart from the one before it`)
    }
    last = row
    sum = addChecksums(sum, rowChecksum(vm, row))
  }
  if (rows.length !== expected.runs || sum !== expected.checksum) {
    throw damaged(`the rows of VM ${vm} in table page_runs do not match the checksum in its row of table vms`)
  }
}
