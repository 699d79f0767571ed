import { chmodSync, readFileSync, rmSync, writeFileSync } from 'node:fs'
import { hostname } from 'node:os'
import path from 'node:path'
import Database from 'better-sqlite3'
import { StorageError } from '../domain/journal.ts'

const LOCK = 'gmemd.lock'
const HOLDER = 'gmemd.pid'
/** Files of the data directory are its owner's alone. */
const PRIVATE = 0o600

/**
 * Holds a data directory for one process. The lock is SQLite's on an empty file of its own, so the system releases it
 * however the process ends; a second file tells people who holds it.
 */
export class DirectoryLock {
  readonly #directory: string
  readonly #db: Database.Database

  private constructor(directory: string, db: Database.Database) {
    this.#directory = directory
    this.#db = db
  }

  static acquire(directory: string): DirectoryLock {
    const db = new Database(path.join(directory, LOCK), { timeout: 0 })
    try {
      chmodSync(path.join(directory, LOCK), PRIVATE)
      db.exec('BEGIN EXCLUSIVE')
      const since = new Date().toISOString()
      writeFileSync(path.join(directory, HOLDER), `gmemd pid ${process.pid} on ${hostname()} since ${since}\n`, {
        mode: PRIVATE,
      })
    } catch (error) {
      db.close()
      if (!(error instanceof Database.SqliteError) || !error.code.startsWith('SQLITE_BUSY')) throw error
      throw new StorageError('locked', `${directory} is in use by ${holder(directory)}.`, { cause: error })
    }
    return new DirectoryLock(directory, db)
  }

  release(): void {
    rmSync(path.join(this.#directory, HOLDER), { force: true })
    this.#db.close()
  }
}

/** Reads the holder's file; never the lock file, for closing that would drop this process's own lock on it. */
function holder(directory: string): string {
  try {
    const text = readFileSync(path.join(directory, HOLDER), 'utf8').trim()
    return text === '' ? 'another process' : text
  } catch {
    return 'another process'
  }
}
