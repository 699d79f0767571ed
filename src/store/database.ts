import { closeSync, existsSync, fsyncSync, openSync, rmSync, writeSync } from 'node:fs'
import type Database from 'better-sqlite3'
import {
  type Checkpoint,
  type Group,
  type JournalEntry,
  type JournalQuery,
  StorageError,
  type StoredState,
} from '../domain/journal.ts'
import { checkpoint, openReader, openWriter, rewrite } from './connection.ts'
import { DataDirectory } from './directory.ts'
import { damaged, toStorageError } from './errors.ts'
import { PROBE_BYTES, WAL_PAGES } from './limits.ts'
import { DirectoryLock } from './lock.ts'
import { MIGRATIONS, Migrations } from './migrations.ts'
import { Tables } from './tables.ts'
import { checking, verify } from './verify.ts'

export type StoreOptions = {
  /** Where the database lives; `:memory:` keeps nothing. */
  readonly directory: string
  /** Bounds the database file, in pages of 4 KiB. */
  readonly maxPages?: number
  /** Where the migrations are, if not this program's own. */
  readonly migrations?: string
}

type Connection = {
  readonly db: Database.Database
  readonly tables: Tables
  readonly walPages: Database.Statement<[], [number, number, number]>
}

/** Failures after which the connection can go on: the transaction was rolled back, and the disk did not fail. */
const harmless: ReadonlySet<StorageError['code']> = new Set(['full', 'locked'])

/** The store itself, synchronous. One per data directory. */
export class StoreDatabase {
  readonly #directory: DataDirectory | undefined
  readonly #maxPages: number | undefined
  readonly #migrations: Migrations
  readonly #place: string
  #lock: DirectoryLock | undefined
  #connection: Connection | undefined
  #failure: StorageError | undefined
  /** A group was lost, and whoever sent it has not read back yet what is there. */
  #lost = false

  constructor({ directory, maxPages, migrations }: StoreOptions) {
    this.#directory = directory === ':memory:' ? undefined : new DataDirectory(directory)
    this.#maxPages = maxPages
    this.#migrations = new Migrations(migrations ?? MIGRATIONS)
    this.#place = this.#directory?.database ?? ':memory:'
  }

  open(): StoredState {
    return this.#guard(() => {
      if (this.#connection !== undefined) throw new Error('the store is open already')
      if (this.#directory !== undefined && this.#lock === undefined) {
        this.#directory.prepare()
        this.#lock = DirectoryLock.acquire(this.#directory.path)
      }
      try {
        this.#connection = this.#connect()
      } catch (error) {
        // A place that could not be opened is not held, unless it was open before and may be again.
        if (this.#failure === undefined) this.#unlock()
        throw error
      }
      this.#failure = undefined
      this.#lost = false
      return this.#connection.tables.state()
    })
  }

  /** Writes a group in one transaction, durable on return. After a failure it takes no more until it is reopened. */
  commit(group: Group): void {
    if (this.#failure !== undefined && (this.#lost || this.#connection === undefined)) {
      const { code, message } = this.#failure
      throw new StorageError(code, `Not written, because an earlier write failed: ${message}`)
    }
    const { db, tables } = this.#open()
    try {
      db.exec('BEGIN IMMEDIATE')
      tables.write(group)
      db.exec('COMMIT')
    } catch (error) {
      this.#lost = true
      throw this.#fail(error)
    }
  }

  /** Work between groups: keeps the write-ahead log short. A failure closes the store, like a failed commit. */
  maintain(): void {
    if (this.#connection === undefined || this.#directory === undefined) return
    const { db, walPages } = this.#connection
    try {
      const [, log = 0, copied = 0] = walPages.get() ?? []
      if (log - copied >= WAL_PAGES) checkpoint(db, 'PASSIVE')
    } catch (error) {
      this.#fail(error)
    }
  }

  reopen(): StoredState {
    return this.#guard(() => {
      if (this.#directory === undefined && this.#connection !== undefined) {
        this.#lost = false
        return this.#connection.tables.state()
      }
      const failed = this.#failure?.code === 'io'
      this.#disconnect()
      if (failed && this.#directory !== undefined && existsSync(this.#directory.wal)) rewrite(this.#directory.wal)
      this.#failure ??= new StorageError('io', 'The store is being reopened.')
      return this.open()
    })
  }

  probe(): boolean {
    try {
      if (this.#connection !== undefined) probeDatabase(this.#connection.db)
      else if (this.#directory !== undefined) probeFile(`${this.#directory.database}-probe`)
      return true
    } catch (error) {
      if (this.#connection !== undefined) this.#fail(error)
      return false
    }
  }

  list(query: JournalQuery): JournalEntry[] {
    return this.#read(({ journal }) => journal.list(query))
  }

  touching(vm: string, gfn: number, limit: number): JournalEntry[] {
    return this.#read(({ journal }) => journal.touching(vm, gfn, limit))
  }

  history(host: string, upTo: number): { checkpoint: Checkpoint | null; entries: JournalEntry[] } {
    return this.#read(({ journal, checkpoints }) => {
      const start = checkpoints.nearest(host, upTo)
      return { checkpoint: start, entries: journal.span(host, start?.seq ?? 0, upTo) }
    })
  }

  close(): void {
    this.#guard(() => {
      try {
        if (this.#connection !== undefined && this.#directory !== undefined) checkpoint(this.#connection.db, 'TRUNCATE')
      } finally {
        this.#disconnect()
        this.#unlock()
      }
    })
  }

  #connect(): Connection {
    const directory = this.#directory
    const found = directory?.survey() ?? 'absent'
    const version = directory !== undefined && found === 'present' ? this.#examine(directory) : 0
    if (found === 'absent') directory?.create()
    const db = openWriter(this.#place, this.#maxPages)
    try {
      const from = found === 'unfinished' ? this.#migrations.inspect(db) : version
      this.#migrations.apply(db, from)
      const tables = new Tables(db)
      if (from < this.#migrations.newest || found === 'unfinished') checking(() => verify(db, tables))
      tables.load()
      directory?.mark()
      const walPages = db.prepare<[], [number, number, number]>('PRAGMA wal_checkpoint(NOOP)').raw()
      return { db, tables, walPages }
    } catch (error) {
      db.close()
      throw error
    }
  }

  /** Reads and verifies all there is on a connection that cannot write, so that a damaged database stays as found. */
  #examine(directory: DataDirectory): number {
    return directory.leavingNoTrace(() => {
      const db = openReader(this.#place)
      try {
        return checking(() => {
          const version = this.#migrations.inspect(db)
          if (version === 0 && directory.marked) throw damaged(`${this.#place} has lost all its tables`)
          // An older schema is verified once it is migrated: only then do today's checks fit it.
          if (version === this.#migrations.newest) verify(db, new Tables(db))
          return version
        })
      } finally {
        db.close()
      }
    })
  }

  #open(): Connection {
    if (this.#connection === undefined) throw new StorageError('io', 'The store is not open.')
    return this.#connection
  }

  #read<T>(read: (tables: Tables) => T): T {
    const { tables } = this.#open()
    try {
      return read(tables)
    } catch (error) {
      throw this.#fail(error)
    }
  }

  /** Rolls back, and closes unless the connection can be trusted to go on. Returns the failure to be thrown. */
  #fail(error: unknown): StorageError {
    const failure = toStorageError(error, this.#place)
    this.#failure = failure
    const connection = this.#connection
    if (connection === undefined) return failure
    try {
      if (connection.db.inTransaction) connection.db.exec('ROLLBACK')
      if (harmless.has(failure.code) || this.#directory === undefined) connection.tables.load()
      else this.#disconnect()
    } catch {
      this.#disconnect()
    }
    return failure
  }

  #disconnect(): void {
    const connection = this.#connection
    this.#connection = undefined
    connection?.db.close()
  }

  #unlock(): void {
    this.#lock?.release()
    this.#lock = undefined
  }

  #guard<T>(work: () => T): T {
    try {
      return work()
    } catch (error) {
      throw toStorageError(error, this.#place)
    }
  }
}

function probeDatabase(db: Database.Database): void {
  const write = db.prepare("UPDATE meta SET value = ? WHERE key = 'probe'")
  db.transaction(() => {
    write.run('.'.repeat(PROBE_BYTES))
    write.run('')
  }).immediate()
}

function probeFile(file: string): void {
  const handle = openSync(file, 'w', 0o600)
  try {
    writeSync(handle, Buffer.alloc(PROBE_BYTES))
    fsyncSync(handle)
  } finally {
    closeSync(handle)
    rmSync(file, { force: true })
  }
}
