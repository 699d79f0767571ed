import { readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import Database from 'better-sqlite3'
import { StorageError } from '../domain/journal.ts'
import { sha256 } from './checksum.ts'
import { damaged } from './errors.ts'

/** 'gmem', in the header of every database of ours. The first migration writes it. */
export const APPLICATION_ID = 0x676d656d

export const MIGRATIONS = fileURLToPath(new URL('../../migrations/', import.meta.url))

type Migration = { readonly version: number; readonly name: string; readonly sql: string; readonly sha256: Buffer }
type SchemaRow = [type: string, name: string, sql: string | null]

/** The numbered SQL files that make the schema, each one transaction, in order and without a gap. */
export class Migrations {
  readonly #all: readonly Migration[]

  constructor(directory: string) {
    const names = readdirSync(directory).filter((name) => name.endsWith('.sql'))
    this.#all = names.sort().map((name, index) => {
      const bytes = readFileSync(path.join(directory, name))
      const version = Number(name.slice(0, 4))
      if (version !== index + 1) throw new Error(`migration ${name} should have number ${index + 1}`)
      return { version, name, sql: bytes.toString('utf8'), sha256: sha256(bytes) }
    })
  }

  get newest(): number {
    return this.#all.length
  }

  /** The version of the database, once it is known to be ours, no newer than this program, and unchanged since. */
  inspect(db: Database.Database): number {
    const version = number(db, 'user_version')
    const application = number(db, 'application_id')
    const tables = db.prepare<[], number>('SELECT count(*) FROM sqlite_schema').pluck().get() ?? 0
    if (application === 0 && version === 0 && tables === 0) return 0
    if (application !== APPLICATION_ID) {
      throw new StorageError('unusable', `${db.name} is an SQLite database of some other program, not gmemd's.`)
    }
    if (version > this.newest) {
      const known = `which knows versions up to ${this.newest}`
      throw new StorageError(
        'newer',
        `${db.name} has version ${version}: it was written by a newer gmemd than this one, ${known}.`,
      )
    }
    this.#checkApplied(db, version)
    this.#checkSchema(db, version)
    return version
  }

  /** Brings the database from `version` to the newest. Killed anywhere, it goes on from the last migration that is whole. */
  apply(db: Database.Database, version: number): void {
    for (const migration of this.#all.slice(version)) {
      db.transaction(() => {
        db.exec(migration.sql)
        db.prepare('INSERT INTO migrations (version, name, sha256) VALUES (?, ?, ?)').run(
          migration.version,
          migration.name,
          migration.sha256,
        )
        db.pragma(`user_version = ${migration.version}`)
      }).immediate()
    }
  }

  #checkApplied(db: Database.Database, version: number): void {
    const applied = db
      .prepare<[], [number, string, Buffer]>('SELECT version, name, sha256 FROM migrations ORDER BY version')
      .raw()
      .all()
    if (applied.length !== version) throw damaged(`table migrations has ${applied.length} rows for version ${version}`)
    for (const [index, [number, name, digest]] of applied.entries()) {
      const ours = this.#all[index]
      if (ours === undefined || number !== ours.version || name !== ours.name || !digest.equals(ours.sha256)) {
        throw new StorageError('unusable', `Migration ${name} is not the one that ${db.name} was made with.`)
      }
    }
  }

  /** The schema must be, to the letter, what the migrations make in an empty database. */
  #checkSchema(db: Database.Database, version: number): void {
    const model = new Database(':memory:')
    try {
      for (const migration of this.#all.slice(0, version)) model.exec(migration.sql)
      const expected = new Map(schema(model).map((row) => [row[1], JSON.stringify(row)]))
      for (const row of schema(db)) {
        if (expected.get(row[1]) !== JSON.stringify(row))
          throw damaged(`${row[0]} ${row[1]} is not as gmemd defined it`)
        expected.delete(row[1])
      }
      for (const name of expected.keys()) throw damaged(`${name} is missing`)
    } finally {
      model.close()
    }
  }
}

const number = (db: Database.Database, pragma: string): number => Number(db.pragma(pragma, { simple: true }))

const schema = (db: Database.Database): SchemaRow[] =>
  db
    .prepare<[], SchemaRow>(
      "SELECT type, name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite_stat%' ORDER BY name",
    )
    .raw()
    .all()
