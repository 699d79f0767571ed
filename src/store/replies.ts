import type Database from 'better-sqlite3'
import type { StoredReply } from '../domain/journal.ts'
import { REPLIES_BATCH, REPLIES_KEPT } from './limits.ts'
import type { TableSums } from './sums.ts'
import { RowTable } from './table.ts'

type Row = [key: string, fingerprint: string, seq: number, status: number, headers: string, body: string]

/** Answers to requests that carried an Idempotency-Key, numbered in the order they were stored. */
export class Replies {
  readonly #table: RowTable
  readonly #sums: TableSums
  readonly #lastId: Database.Statement<[], number | null>
  readonly #idOf: Database.Statement<[string], number>
  readonly #oldest: Database.Statement<[number], number>
  readonly #newest: Database.Statement<[number], Row>

  constructor(db: Database.Database, sums: TableSums) {
    const columns = ['key', 'fingerprint', 'seq', 'status', 'headers', 'body']
    this.#table = new RowTable(db, sums, { name: 'replies', key: ['id'], columns })
    this.#sums = sums
    this.#lastId = db.prepare<[], number | null>('SELECT max(id) FROM replies').pluck()
    this.#idOf = db.prepare<[string], number>('SELECT id FROM replies WHERE key = ?').pluck()
    this.#oldest = db.prepare<[number], number>('SELECT id FROM replies ORDER BY id LIMIT ?').pluck()
    this.#newest = db
      .prepare<[number], Row>(
        `SELECT ${columns.join(', ')} FROM (SELECT * FROM replies ORDER BY id DESC LIMIT ?) ORDER BY id`,
      )
      .raw()
  }

  /** Stores the replies, the newest of a key in place of the older, and forgets the oldest once there are too many. */
  append(replies: readonly StoredReply[]): void {
    if (replies.length === 0) return
    let id = this.#lastId.get() ?? 0
    for (const { key, fingerprint, seq, status, headers, body } of replies) {
      const older = this.#idOf.get(key)
      if (older !== undefined) this.#table.remove(older)
      id += 1
      this.#table.put([id, key, fingerprint, seq, status, headers, body])
    }
    const stored = this.#sums.get('replies').rows
    if (stored < REPLIES_KEPT + REPLIES_BATCH) return
    for (const old of this.#oldest.all(stored - REPLIES_KEPT)) this.#table.remove(old)
  }

  newest(): StoredReply[] {
    return this.#newest.all(REPLIES_KEPT).map(([key, fingerprint, seq, status, headers, body]) => ({
      key,
      fingerprint,
      seq,
      status,
      headers,
      body,
    }))
  }

  verify(): void {
    this.#table.verify()
  }
}
