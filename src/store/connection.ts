import { closeSync, fstatSync, fsyncSync, openSync, readSync, writeSync } from 'node:fs'
import Database from 'better-sqlite3'
import { StorageError } from '../domain/journal.ts'
import { BUSY_TIMEOUT } from './limits.ts'

const WHOLE_FILE_STEP = 1024 * 1024

/** A connection that cannot write: no change, no checkpoint, whatever it finds. */
export function openReader(file: string): Database.Database {
  const db = new Database(file, { readonly: true, fileMustExist: true, timeout: BUSY_TIMEOUT })
  guard(db)
  return db
}

/** The connection that writes. `maxPages` bounds the database file. */
export function openWriter(file: string, maxPages: number | undefined): Database.Database {
  const db = new Database(file, { timeout: BUSY_TIMEOUT })
  try {
    guard(db)
    if (maxPages !== undefined) db.pragma(`max_page_count = ${maxPages}`)
    if (!db.memory && db.pragma('journal_mode = WAL', { simple: true }) !== 'wal') {
      throw new StorageError('unusable', `${file} cannot keep a write-ahead log.`)
    }
    db.pragma('synchronous = FULL')
    // The log is checkpointed between groups, where a failure is seen; SQLite's own way would swallow it.
    db.pragma('wal_autocheckpoint = 0')
    // SQLite opens a file it may not write as read-only, without a word: find out now.
    db.exec('BEGIN IMMEDIATE; ROLLBACK')
    return db
  } catch (error) {
    db.close()
    throw error
  }
}

function guard(db: Database.Database): void {
  db.pragma('foreign_keys = ON')
  db.pragma('trusted_schema = OFF')
  db.pragma('cell_size_check = ON')
}

/** Copies the write-ahead log into the database as far as readers allow, and makes that durable. */
export function checkpoint(db: Database.Database, mode: 'PASSIVE' | 'TRUNCATE'): void {
  db.pragma(`wal_checkpoint(${mode})`)
}

/**
 * Writes a file's own bytes over themselves and syncs them. After a failed sync the system may hold bytes in memory,
 * marked clean, that never reached the disk; what is read there next must not be taken for durable before this.
 */
export function rewrite(file: string): void {
  const handle = openSync(file, 'r+')
  try {
    const buffer = Buffer.alloc(WHOLE_FILE_STEP)
    const { size } = fstatSync(handle)
    for (let at = 0; at < size; ) {
      const read = readSync(handle, buffer, 0, Math.min(buffer.length, size - at), at)
      if (read === 0) break
      at += writeSync(handle, buffer, 0, read, at)
    }
    fsyncSync(handle)
  } finally {
    closeSync(handle)
  }
}
