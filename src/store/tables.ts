import type Database from 'better-sqlite3'
import type { Group, StoredState } from '../domain/journal.ts'
import { Checkpoints } from './checkpoints.ts'
import { Journal } from './journal.ts'
import { Replies } from './replies.ts'
import { RowStore } from './rows.ts'
import { TableSums } from './sums.ts'

/** Everything kept in one database, over one connection. */
export class Tables {
  readonly journal: Journal
  readonly rows: RowStore
  readonly replies: Replies
  readonly checkpoints: Checkpoints
  readonly #sums: TableSums

  constructor(db: Database.Database) {
    this.#sums = new TableSums(db)
    this.journal = new Journal(db)
    this.rows = new RowStore(db, this.#sums)
    this.replies = new Replies(db, this.#sums)
    this.checkpoints = new Checkpoints(db, this.#sums)
  }

  /** Takes from disk what is kept in memory. */
  load(): void {
    this.#sums.load()
    this.journal.load()
    this.rows.forget()
  }

  /** Writes a group; the caller has opened a transaction. */
  write(group: Group): void {
    this.journal.append(group.entries)
    this.rows.apply(group.rows)
    this.replies.append(group.replies)
    this.checkpoints.append(group.checkpoints, this.journal.lastSeq)
    this.#sums.flush()
  }

  /** What recovery starts from. */
  state(): StoredState {
    const lastSeq = this.journal.lastSeq
    const hosts = [...new Set([...this.journal.hosts(), ...this.checkpoints.hosts()])]
    const checkpoints = hosts.flatMap((host) => this.checkpoints.nearest(host, lastSeq) ?? [])
    const covered = new Map(checkpoints.map(({ host, seq }) => [host, seq]))
    const entries = hosts.flatMap((host) => this.journal.span(host, covered.get(host) ?? 0, lastSeq))
    return { lastSeq, checkpoints, entries: entries.sort((a, b) => a.seq - b.seq), replies: this.replies.newest() }
  }
}
