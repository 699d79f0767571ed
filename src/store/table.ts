import type Database from 'better-sqlite3'
import { addChecksums, checksum } from './checksum.ts'
import { damaged } from './errors.ts'
import type { TableSums } from './sums.ts'

export type SqlValue = string | number | null | Uint8Array

export type TableShape = {
  readonly name: string
  readonly key: readonly string[]
  readonly columns: readonly string[]
  /** A last column left out of the row's checksum, because a digest among the columns covers it. */
  readonly digested?: string
}

/** Digests enter as hexadecimal, everything else as JSON writes it; the table's name keeps rows in their tables. */
const rowChecksum = (table: string, values: readonly SqlValue[]): number =>
  checksum(
    table +
      JSON.stringify(values.map((value) => (value instanceof Uint8Array ? Buffer.from(value).toString('hex') : value))),
  )

/** A table whose rows each carry a checksum and are summed in `table_sums`. Values come in order: key, then columns. */
export class RowTable {
  readonly shape: TableShape
  readonly #width: number
  readonly #sums: TableSums
  readonly #checksumOf: Database.Statement<SqlValue[], number>
  readonly #insert: Database.Statement<SqlValue[]>
  readonly #update: Database.Statement<SqlValue[]>
  readonly #delete: Database.Statement<SqlValue[], number>
  readonly #scan: Database.Statement<[], SqlValue[]>

  constructor(db: Database.Database, sums: TableSums, shape: TableShape) {
    const { name, key, columns, digested } = shape
    const summed = [...key, ...columns]
    const written = [...summed, 'checksum', ...(digested === undefined ? [] : [digested])]
    const where = key.map((column) => `${column} = ?`).join(' AND ')
    this.shape = shape
    this.#width = summed.length
    this.#sums = sums
    this.#checksumOf = db.prepare<SqlValue[], number>(`SELECT checksum FROM ${name} WHERE ${where}`).pluck()
    this.#insert = db.prepare(
      `INSERT INTO ${name} (${written.join(', ')}) VALUES (${written.map(() => '?').join(', ')})`,
    )
    this.#update = db.prepare(
      `UPDATE ${name} SET ${written
        .slice(key.length)
        .map((column) => `${column} = ?`)
        .join(', ')} WHERE ${where}`,
    )
    this.#delete = db.prepare<SqlValue[], number>(`DELETE FROM ${name} WHERE ${where} RETURNING checksum`).pluck()
    this.#scan = db.prepare<[], SqlValue[]>(`SELECT ${[...summed, 'checksum'].join(', ')} FROM ${name}`).raw()
  }

  /** Inserts the row, or replaces the one with the same key. */
  put(values: readonly SqlValue[], digested: readonly SqlValue[] = []): void {
    const { name, key } = this.shape
    const keys = values.slice(0, key.length)
    const before = this.#checksumOf.get(...keys)
    const after = rowChecksum(name, values)
    if (before === undefined) this.#insert.run(...values, after, ...digested)
    else {
      this.#sums.subtract(name, before)
      this.#update.run(...values.slice(key.length), after, ...digested, ...keys)
    }
    this.#sums.add(name, after)
  }

  /** Deletes the row if there is one. */
  remove(...key: SqlValue[]): boolean {
    const before = this.#delete.get(...key)
    if (before === undefined) return false
    this.#sums.subtract(this.shape.name, before)
    return true
  }

  /** Checks every row against its checksum, and the table against its sum; hands each good row to `visit`. */
  verify(visit: (values: readonly SqlValue[]) => void = () => {}): void {
    const { name, key } = this.shape
    let rows = 0
    let sum = 0
    for (const row of this.#scan.iterate()) {
      const stored = row[this.#width]
      const values = row.slice(0, this.#width)
      if (rowChecksum(name, values) !== stored) {
        throw damaged(
          `the row ${JSON.stringify(values.slice(0, key.length))} of table ${name} does not match its checksum`,
        )
      }
      rows += 1
      sum = addChecksums(sum, stored)
      visit(values)
    }
    const expected = this.#sums.get(name)
    if (rows !== expected.rows || sum !== expected.checksum) {
      throw damaged(`table ${name} has ${rows} rows where ${expected.rows} were written, or they are not the same ones`)
    }
  }
}
