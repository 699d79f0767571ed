import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs'
import path from 'node:path'
import { before, test } from 'node:test'
import fc from 'fast-check'
import { StorageError } from '../../src/domain/journal.ts'
import { StoreDatabase } from '../../src/store/database.ts'
import { dump, ENTRIES, program, sampleGroup, temporaryDirectory } from './support.ts'

const GROUPS = 24
const TORN_GROUPS = 4
const FLIPS = 300
const LOG_FLIPS = 150
const CUTS = 200
const HEADER = 32
const FRAME = 4096 + 24

/** The dump after each number of groups. */
const dumps: string[] = []
let closed: Buffer
let killed: { database: Buffer; log: Buffer }
let torn: { database: Buffer; log: Buffer }

before((t) => {
  const context = t as Parameters<typeof temporaryDirectory>[0]
  const directory = temporaryDirectory(context)
  const store = new StoreDatabase({ directory })
  store.open()
  for (let n = 0; n < GROUPS; n++) {
    dumps.push(dump(directory))
    store.commit(sampleGroup(n))
  }
  dumps.push(dump(directory))
  store.close()
  closed = readFileSync(path.join(directory, 'gmemd.db'))
  killed = killedAfter(temporaryDirectory(context), GROUPS)
  torn = killedAfter(temporaryDirectory(context), TORN_GROUPS)
})

/** What is on disk when a program that wrote so many groups was killed. */
function killedAfter(directory: string, groups: number): { database: Buffer; log: Buffer } {
  const child = spawnSync(process.execPath, [program('die.ts'), directory, String(groups)], { stdio: 'inherit' })
  assert.equal(child.signal, 'SIGKILL')
  const [database, log] = ['gmemd.db', 'gmemd.db-wal'].map((name) => readFileSync(path.join(directory, name)))
  assert.ok(database !== undefined && log !== undefined)
  return { database, log }
}

function place(directory: string, database: Buffer, log?: Buffer): void {
  mkdirSync(directory, { recursive: true })
  writeFileSync(path.join(directory, 'gmemd.created'), '')
  writeFileSync(path.join(directory, 'gmemd.db'), database)
  if (log !== undefined) writeFileSync(path.join(directory, 'gmemd.db-wal'), log)
}

/** The number of groups found, or the error. */
function openAndCount(directory: string): number | StorageError {
  const store = new StoreDatabase({ directory })
  try {
    const { lastSeq } = store.open()
    store.close()
    return lastSeq / ENTRIES
  } catch (error) {
    assert.ok(error instanceof StorageError, String(error))
    return error
  }
}

function flipped(bytes: Buffer, bit: number): Buffer {
  const copy = Buffer.from(bytes)
  copy.writeUInt8(copy.readUInt8(bit >> 3) ^ (1 << (bit & 7)), bit >> 3)
  return copy
}

test(`a flipped bit in the database is refused with the files untouched, or changes nothing (${FLIPS} times)`, (t) => {
  const directory = temporaryDirectory(t)
  let refused = 0
  let turn = 0
  const check = (bit: number): void => {
    const own = path.join(directory, String(turn++))
    const bytes = flipped(closed, bit)
    place(own, bytes)
    const found = openAndCount(own)
    if (found instanceof StorageError) {
      refused += 1
      assert.ok(['damaged', 'unusable', 'newer'].includes(found.code), `${found.code}: ${found.message}`)
      assert.deepEqual(readFileSync(path.join(own, 'gmemd.db')), bytes)
      assert.equal(existsSync(path.join(own, 'gmemd.db-wal')), false)
      assert.equal(existsSync(path.join(own, 'gmemd.db-shm')), false)
    } else assert.equal(dump(own), dumps[GROUPS])
  }
  // Half anywhere, half in the first pages, where the header and the schema are.
  const anywhere = fc.nat(closed.length * 8 - 1)
  const early = fc.nat(2 * 4096 * 8 - 1)
  fc.assert(fc.property(fc.oneof({ weight: 3, arbitrary: anywhere }, early), check), { numRuns: FLIPS })
  t.diagnostic(`${refused} of ${turn} refused`)
  assert.ok(refused > FLIPS / 4)
})

test('every bit of the database header is refused or changes nothing', (t) => {
  const directory = temporaryDirectory(t)
  for (let bit = 0; bit < 100 * 8; bit += 5) {
    const own = path.join(directory, String(bit))
    place(own, flipped(closed, bit))
    const found = openAndCount(own)
    if (!(found instanceof StorageError)) assert.equal(dump(own), dumps[GROUPS], `bit ${bit}`)
  }
})

test('a torn log opens with the commits before the tear: at every frame, a byte to each side, and anywhere', (t) => {
  const { database, log } = torn
  const directory = temporaryDirectory(t)
  let turn = 0
  let least = TORN_GROUPS
  const cut = (length: number): void => {
    const own = path.join(directory, String(turn++))
    place(own, database, log.subarray(0, length))
    const found = openAndCount(own)
    if (found instanceof StorageError) assert.fail(`cut at ${length}: ${found.message}`)
    assert.equal(dump(own), dumps[found], `cut at ${length}`)
    least = Math.min(least, found)
  }
  // The groups begin where the migrations end.
  const first = firstCut(database, log, path.join(directory, 'first'))
  for (let at = first; at <= log.length; at += FRAME) {
    for (const length of [at - 1, at, at + 1]) if (length >= first && length <= log.length) cut(length)
  }
  fc.assert(fc.property(fc.integer({ min: first, max: log.length }), cut), { numRuns: CUTS })
  assert.equal(least, 0)
})

/** The shortest log, in whole frames, with which the database has its tables. */
function firstCut(database: Buffer, log: Buffer, scratch: string): number {
  for (let length = HEADER; ; length += FRAME) {
    const own = path.join(scratch, String(length))
    place(own, database, log.subarray(0, length))
    if (!(openAndCount(own) instanceof StorageError)) return length
  }
}

test(`a flipped bit in the log loses no acknowledged commit but perhaps the last (${LOG_FLIPS} times)`, (t) => {
  const { database, log } = killed
  const directory = temporaryDirectory(t)
  let refused = 0
  let turn = 0
  const check = (bit: number): void => {
    const own = path.join(directory, String(turn++))
    const bytes = flipped(log, bit)
    place(own, database, bytes)
    const found = openAndCount(own)
    if (found instanceof StorageError) {
      refused += 1
      assert.equal(found.code, 'damaged')
      assert.deepEqual(readFileSync(path.join(own, 'gmemd.db')), database)
      assert.deepEqual(readFileSync(path.join(own, 'gmemd.db-wal')), bytes)
    } else {
      assert.ok(found >= GROUPS - 1, `bit ${bit}: ${found} of ${GROUPS}`)
      assert.equal(dump(own), dumps[found])
    }
  }
  const header = fc.nat(HEADER * 8 - 1)
  fc.assert(fc.property(fc.oneof({ weight: 8, arbitrary: fc.nat(log.length * 8 - 1) }, header), check), {
    numRuns: LOG_FLIPS,
  })
  t.diagnostic(`${refused} of ${turn} refused`)
  assert.ok(refused > LOG_FLIPS / 2)
})

test('damage in a database with a log not yet copied back leaves both untouched', (t) => {
  const directory = temporaryDirectory(t)
  const own = path.join(directory, 'data')
  const store = new StoreDatabase({ directory: own })
  store.open()
  for (let n = 0; n < GROUPS; n++) store.commit(sampleGroup(n))
  store.close()
  const { database, log } = killedAfter(own, GROUPS + 1)
  let bytes = database
  // The row, and whatever stale copies of it free space holds.
  for (let at = database.indexOf('{"seq":5,'); at >= 0; at = database.indexOf('{"seq":5,', at + 1)) {
    bytes = flipped(bytes, at * 8 + 60)
  }
  assert.notDeepEqual(bytes, database)
  writeFileSync(path.join(own, 'gmemd.db'), bytes)
  const found = openAndCount(own)
  assert.ok(found instanceof StorageError)
  assert.match(found.message, /^The database is damaged: row 5 of table journal does not match its hash/)
  assert.deepEqual(readFileSync(path.join(own, 'gmemd.db')), bytes)
  assert.deepEqual(readFileSync(path.join(own, 'gmemd.db-wal')), log)
  writeFileSync(path.join(own, 'gmemd.db'), database)
  assert.equal(openAndCount(own), GROUPS + 1)
})
