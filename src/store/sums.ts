import type Database from 'better-sqlite3'
import { addChecksums, subtractChecksums } from './checksum.ts'

type Sum = { rows: number; checksum: number; changed: boolean }

/**
 * The number of rows and the sum of checksums of each row table, so that a row gone missing is noticed as well as one
 * that changed. Kept in memory, written once a group.
 */
export class TableSums {
  readonly #read: Database.Statement<[], [string, number, number]>
  readonly #write: Database.Statement<[number, number, string]>
  readonly #sums = new Map<string, Sum>()

  constructor(db: Database.Database) {
    this.#read = db
      .prepare<[], [string, number, number]>('SELECT table_name, row_count, checksum FROM table_sums')
      .raw()
    this.#write = db.prepare('UPDATE table_sums SET row_count = ?, checksum = ? WHERE table_name = ?')
  }

  /** Takes the sums from disk: at the start, and after a transaction was rolled back. */
  load(): void {
    this.#sums.clear()
    for (const [table, rows, checksum] of this.#read.all()) this.#sums.set(table, { rows, checksum, changed: false })
  }

  get(table: string): Readonly<Sum> {
    const sum = this.#sums.get(table)
    if (sum === undefined) throw new Error(`table_sums has no row for ${table}`)
    return sum
  }

  add(table: string, checksum: number): void {
    const sum = this.#open(table)
    sum.rows += 1
    sum.checksum = addChecksums(sum.checksum, checksum)
  }

  subtract(table: string, checksum: number): void {
    const sum = this.#open(table)
    sum.rows -= 1
    sum.checksum = subtractChecksums(sum.checksum, checksum)
  }

  flush(): void {
    for (const [table, sum] of this.#sums) {
      if (!sum.changed) continue
      this.#write.run(sum.rows, sum.checksum, table)
      sum.changed = false
    }
  }

  #open(table: string): Sum {
    const sum = this.get(table) as Sum
    sum.changed = true
    return sum
  }
}
