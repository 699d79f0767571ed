import Database from 'better-sqlite3'
import { StorageError } from '../domain/journal.ts'
import { damaged } from './errors.ts'
import type { Tables } from './tables.ts'

/** Checks the file's structure, then everything that can be served or replayed from it. Throws `damaged`. */
export function verify(db: Database.Database, tables: Tables): void {
  verifyStructure(db)
  tables.load()
  tables.journal.verify()
  tables.rows.verify()
  tables.replies.verify()
  tables.checkpoints.verify(tables.journal.lastSeq)
}

/** Runs checks of what is stored. What trips the checks themselves is damage too, unless the system failed them. */
export function checking<T>(check: () => T): T {
  try {
    return check()
  } catch (error) {
    if (error instanceof StorageError || (error instanceof Database.SqliteError && error.code !== 'SQLITE_ERROR'))
      throw error
    throw damaged(error instanceof Error ? error.message : String(error))
  }
}

function verifyStructure(db: Database.Database): void {
  const problems = db.prepare<[], string>('PRAGMA integrity_check(1)').pluck().all()
  if (problems.length !== 1 || problems[0] !== 'ok') throw damaged(problems.join('; ').replace(/\.$/, ''))
  const orphans = db.pragma('foreign_key_check')
  if (Array.isArray(orphans) && orphans.length > 0) {
    throw damaged(`a row refers to one that is missing: ${JSON.stringify(orphans[0])}`)
  }
}
