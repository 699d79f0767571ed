import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import {
  copyFileSync,
  cpSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  truncateSync,
  writeFileSync,
} from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import Database from 'better-sqlite3'
import type { StorageError } from '../../src/domain/journal.ts'
import { StoreDatabase, type StoreOptions } from '../../src/store/database.ts'
import { MIGRATIONS } from '../../src/store/migrations.ts'
import { openStore } from '../../src/store/store.ts'
import { dump, program, sampleGroup, temporaryDirectory } from './support.ts'

const FIXTURE = path.join(import.meta.dirname, '../fixtures/database-v1')
const FIXTURE_GROUPS = 12

function refusal(options: StoreOptions): StorageError {
  const store = new StoreDatabase(options)
  try {
    store.open()
  } catch (error) {
    return error as StorageError
  }
  store.close()
  throw new assert.AssertionError({ message: 'the store opened' })
}

function fill(directory: string, groups = 3): void {
  const store = new StoreDatabase({ directory })
  store.open()
  for (let n = 0; n < groups; n++) store.commit(sampleGroup(n))
  store.close()
}

const edit = (directory: string, sql: string): void => {
  const db = new Database(path.join(directory, 'gmemd.db'))
  db.exec(sql)
  db.close()
}

function ownMigrations(directory: string): string {
  const copy = path.join(directory, 'migrations')
  cpSync(MIGRATIONS, copy, { recursive: true })
  return copy
}

test('a second process is refused and told who holds the directory, until the first is killed', async (t) => {
  const directory = temporaryDirectory(t)
  const child = spawn(process.execPath, [program('hold.ts'), directory], { stdio: ['pipe', 'pipe', 'inherit'] })
  t.after(() => child.kill('SIGKILL'))
  await once(child.stdout, 'data')
  const second = openStore({ directory })
  await assert.rejects(second.open(), (error: StorageError) => {
    assert.equal(error.code, 'locked')
    assert.match(error.message, new RegExp(`is in use by gmemd pid ${child.pid} on .* since 2`))
    return true
  })
  const exited = once(child, 'exit')
  child.kill('SIGKILL')
  await exited
  assert.equal((await second.open()).lastSeq, 3)
  await second.close()
})

test('two stores in one process cannot share a directory', async (t) => {
  const directory = temporaryDirectory(t)
  const first = openStore({ directory })
  await first.open()
  const second = openStore({ directory })
  await assert.rejects(second.open(), { code: 'locked' })
  await first.reopen()
  await assert.rejects(second.open(), { code: 'locked' })
  await first.close()
  await second.open()
  await second.close()
})

test('a place that cannot hold a database is unusable', (t) => {
  const directory = temporaryDirectory(t)
  const file = path.join(directory, 'file')
  writeFileSync(file, 'text')
  assert.equal(refusal({ directory: file }).code, 'unusable')
  assert.equal(refusal({ directory: path.join(file, 'below') }).code, 'unusable')
  const occupied = path.join(directory, 'occupied')
  mkdirSync(path.join(occupied, 'gmemd.lock'), { recursive: true })
  assert.equal(refusal({ directory: occupied }).code, 'unusable')
  assert.equal(refusal({ directory: '/proc/gmemd' }).code, 'unusable')
})

test('a read-only directory is unusable', (t) => {
  if (process.getuid?.() === 0) return t.skip('root may write anywhere')
  const directory = path.join(temporaryDirectory(t), 'read-only')
  mkdirSync(directory, { mode: 0o500 })
  assert.equal(refusal({ directory }).code, 'unusable')
})

test("some other program's database is refused and left alone", (t) => {
  for (const sql of [
    'CREATE TABLE t (a)',
    'PRAGMA application_id = 5; CREATE TABLE t (a)',
    'PRAGMA user_version = 1',
  ]) {
    const directory = temporaryDirectory(t)
    edit(directory, sql)
    const before = readFileSync(path.join(directory, 'gmemd.db'))
    assert.equal(refusal({ directory }).code, 'unusable')
    assert.deepEqual(readFileSync(path.join(directory, 'gmemd.db')), before)
  }
  const directory = temporaryDirectory(t)
  writeFileSync(path.join(directory, 'gmemd.db'), 'no database at all, but plain text '.repeat(100))
  assert.equal(refusal({ directory }).code, 'damaged')
})

test('a database that was there and is gone is not replaced by an empty one', (t) => {
  const cases: ((directory: string) => void)[] = [
    (directory) => rmSync(path.join(directory, 'gmemd.db')),
    (directory) => truncateSync(path.join(directory, 'gmemd.db')),
    (directory) => {
      rmSync(path.join(directory, 'gmemd.db'))
      rmSync(path.join(directory, 'gmemd.created'))
      writeFileSync(path.join(directory, 'gmemd.db-wal'), 'what is left of it')
    },
    (directory) => {
      rmSync(path.join(directory, 'gmemd.db'))
      edit(directory, 'PRAGMA journal_mode = WAL; CREATE TABLE t (a); DROP TABLE t')
    },
  ]
  for (const lose of cases) {
    const directory = temporaryDirectory(t)
    fill(directory)
    lose(directory)
    const before = readdirSync(directory)
    assert.equal(refusal({ directory }).code, 'damaged')
    assert.deepEqual(readdirSync(directory), before)
  }
})

test('a database restored into an empty directory is taken', (t) => {
  const [from, to] = [temporaryDirectory(t), temporaryDirectory(t)]
  fill(from)
  copyFileSync(path.join(from, 'gmemd.db'), path.join(to, 'gmemd.db'))
  const store = new StoreDatabase({ directory: to })
  assert.equal(store.open().lastSeq, 9)
  store.close()
})

test('a newer database is refused by an older program, in one sentence', (t) => {
  const directory = temporaryDirectory(t)
  const migrations = ownMigrations(temporaryDirectory(t))
  writeFileSync(path.join(migrations, '0002_newer.sql'), 'CREATE TABLE newer (a INTEGER) STRICT;')
  const newer = new StoreDatabase({ directory, migrations })
  newer.open()
  newer.commit(sampleGroup(0))
  newer.close()
  const before = readFileSync(path.join(directory, 'gmemd.db'))
  const error = refusal({ directory })
  assert.equal(error.code, 'newer')
  assert.match(
    error.message,
    /has version 2: it was written by a newer gmemd than this one, which knows versions up to 1\./,
  )
  assert.deepEqual(readFileSync(path.join(directory, 'gmemd.db')), before)
})

test('an older database is migrated, and a migration that fails leaves it as it was', (t) => {
  const directory = temporaryDirectory(t)
  fill(directory)
  const before = dump(directory)
  const migrations = ownMigrations(temporaryDirectory(t))
  const second = path.join(migrations, '0002_more.sql')
  writeFileSync(
    second,
    'CREATE TABLE more (a INTEGER) STRICT; INSERT INTO more VALUES (1); INSERT INTO none VALUES (1);',
  )
  assert.equal(refusal({ directory, migrations }).code, 'io')
  fill(directory, 0)
  assert.equal(dump(directory), before)
  writeFileSync(second, 'CREATE TABLE more (a INTEGER) STRICT; INSERT INTO more VALUES (1);')
  const store = new StoreDatabase({ directory, migrations })
  assert.equal(store.open().lastSeq, 9)
  store.close()
  assert.equal(dump(directory), before)
})

test('a changed migration and a changed schema are refused', (t) => {
  const directory = temporaryDirectory(t)
  fill(directory)
  const migrations = ownMigrations(temporaryDirectory(t))
  const first = path.join(migrations, '0001_first_schema.sql')
  writeFileSync(first, `${readFileSync(first, 'utf8')}-- changed\n`)
  assert.equal(refusal({ directory, migrations }).code, 'unusable')
  edit(directory, 'DROP VIEW memory_by_vm')
  assert.match(refusal({ directory }).message, /memory_by_vm is missing/)
  edit(directory, 'CREATE TRIGGER t AFTER INSERT ON journal BEGIN SELECT 1; END')
  assert.equal(refusal({ directory }).code, 'damaged')
})

test('the database of the first version opens, with all that was in it', (t) => {
  const directory = temporaryDirectory(t)
  cpSync(FIXTURE, directory, { recursive: true })
  const before = dump(directory)
  const store = new StoreDatabase({ directory })
  const state = store.open()
  assert.equal(state.lastSeq, FIXTURE_GROUPS * 3)
  store.commit(sampleGroup(FIXTURE_GROUPS))
  store.close()
  assert.notEqual(dump(directory), before)
  const fresh = temporaryDirectory(t)
  fill(fresh, FIXTURE_GROUPS)
  assert.equal(before, dump(fresh))
})

test('the program before the first version refuses its database', (t) => {
  const directory = temporaryDirectory(t)
  cpSync(FIXTURE, directory, { recursive: true })
  assert.equal(refusal({ directory, migrations: temporaryDirectory(t) }).code, 'newer')
})
