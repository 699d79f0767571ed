import { hash } from 'node:crypto'
import type Database from 'better-sqlite3'
import type { JournalEntry, JournalQuery } from '../domain/journal.ts'
import { plain } from './bytes.ts'
import { sha256 } from './checksum.ts'
import { damaged } from './errors.ts'

type Row = [
  seq: number,
  host: string,
  vm: string | null,
  type: string,
  command: string,
  outcome: string,
  firstGfn: number | null,
  endGfn: number | null,
  attachment: Buffer | null,
  hash: Buffer,
]

const COLUMNS = 'seq, host, vm, type, command, outcome, first_gfn, end_gfn, attachment, hash'

/** Every text carries its length, so that no two entries have the same canonical form. */
const text = (value: string | null): string => (value === null ? '-' : `${value.length}:${value}`)

/** An entry's hash covers the hash before it and every field, the attachment by its own hash. */
const chain = (before: string, entry: JournalEntry, attachment: Buffer | null): string =>
  hash(
    'sha256',
    `${before} ${entry.seq} ${text(entry.host)} ${text(entry.vm)} ${text(entry.type)} ${text(entry.command)} ` +
      `${text(entry.outcome)} ${entry.firstGfn} ${entry.endGfn} ${attachment === null ? '-' : attachment.toString('hex')}`,
    'hex',
  )

/** The journal and its attachments, which are kept once however many entries carry them. */
export class Journal {
  #lastSeq = 0
  #lastHash = ''
  readonly #db: Database.Database
  readonly #insert: Database.Statement<Row>
  readonly #insertBlob: Database.Statement<[Buffer, Uint8Array]>
  readonly #blob: Database.Statement<[Buffer], Buffer>
  readonly #getMeta: Database.Statement<[string], string>
  readonly #setMeta: Database.Statement<[string, string]>

  constructor(db: Database.Database) {
    this.#db = db
    this.#insert = db.prepare(`INSERT INTO journal (${COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)`)
    this.#insertBlob = db.prepare('INSERT INTO blobs (sha256, bytes) VALUES (?, ?) ON CONFLICT (sha256) DO NOTHING')
    this.#blob = db.prepare<[Buffer], Buffer>('SELECT bytes FROM blobs WHERE sha256 = ?').pluck()
    this.#getMeta = db.prepare<[string], string>('SELECT value FROM meta WHERE key = ?').pluck()
    this.#setMeta = db.prepare('UPDATE meta SET value = ? WHERE key = ?')
  }

  get lastSeq(): number {
    return this.#lastSeq
  }

  /** Takes the end of the journal from disk: at the start, and after a transaction was rolled back. */
  load(): void {
    this.#lastSeq = Number(this.#getMeta.get('last_seq'))
    this.#lastHash = this.#getMeta.get('last_hash') ?? ''
  }

  append(entries: readonly JournalEntry[]): void {
    for (const entry of entries) {
      if (entry.seq !== this.#lastSeq + 1) {
        throw new RangeError(`journal entry ${entry.seq} does not follow ${this.#lastSeq}`)
      }
      const attachment = entry.attachment === null ? null : sha256(entry.attachment)
      if (entry.attachment !== null && attachment !== null) this.#insertBlob.run(attachment, entry.attachment)
      this.#lastHash = chain(this.#lastHash, entry, attachment)
      this.#lastSeq = entry.seq
      const { seq, host, vm, type, command, outcome, firstGfn, endGfn } = entry
      const hashBytes = Buffer.from(this.#lastHash, 'hex')
      this.#insert.run(seq, host, vm, type, command, outcome, firstGfn, endGfn, attachment, hashBytes)
    }
    if (entries.length === 0) return
    this.#setMeta.run(String(this.#lastSeq), 'last_seq')
    this.#setMeta.run(this.#lastHash, 'last_hash')
  }

  list({ vm, host, after, limit }: JournalQuery): JournalEntry[] {
    const conditions = ['seq > ?', ...(vm === undefined ? [] : ['vm = ?']), ...(host === undefined ? [] : ['host = ?'])]
    const values = [after, ...(vm === undefined ? [] : [vm]), ...(host === undefined ? [] : [host]), limit]
    return this.#select(`WHERE ${conditions.join(' AND ')} ORDER BY seq LIMIT ?`, values)
  }

  touching(vm: string, gfn: number, limit: number): JournalEntry[] {
    return this.#select('WHERE vm = ? AND first_gfn <= ? AND end_gfn > ? ORDER BY seq DESC LIMIT ?', [
      vm,
      gfn,
      gfn,
      limit,
    ])
  }

  /** Entries of `host` with after < seq ≤ upTo, in order. */
  span(host: string, after: number, upTo: number): JournalEntry[] {
    return this.#select('WHERE host = ? AND seq > ? AND seq <= ? ORDER BY seq', [host, after, upTo])
  }

  hosts(): string[] {
    return this.#db.prepare<[], string>('SELECT DISTINCT host FROM journal').pluck().all()
  }

  /** Checks the whole chain and every attachment. */
  verify(): void {
    const blobs = this.#verifyBlobs()
    let seq = 0
    let last = '0'.repeat(64)
    for (const row of this.#db.prepare<[], Row>(`SELECT ${COLUMNS} FROM journal ORDER BY seq`).raw().iterate()) {
      seq += 1
      if (row[0] !== seq) throw damaged(`table journal has no row ${seq}: the row after ${seq - 1} is ${row[0]}`)
      const attachment = row[8]
      if (attachment !== null && blobs.get(attachment.toString('hex')) === undefined) {
        throw damaged(`the attachment of row ${seq} of table journal is missing from table blobs`)
      }
      last = chain(last, entryOf(row, null), attachment)
      if (row[9].toString('hex') !== last) throw damaged(`row ${seq} of table journal does not match its hash`)
      if (attachment !== null) blobs.set(attachment.toString('hex'), true)
    }
    for (const [name, used] of blobs) if (!used) throw damaged(`row ${name} of table blobs belongs to no journal entry`)
    this.#verifyMeta(seq, last)
  }

  #verifyBlobs(): Map<string, boolean> {
    const found = new Map<string, boolean>()
    for (const [name, bytes] of this.#db
      .prepare<[], [Buffer, Buffer]>('SELECT sha256, bytes FROM blobs')
      .raw()
      .iterate()) {
      if (!sha256(bytes).equals(name))
        throw damaged(`row ${name.toString('hex')} of table blobs does not match its hash`)
      found.set(name.toString('hex'), false)
    }
    return found
  }

  #verifyMeta(seq: number, last: string): void {
    const meta = this.#db.prepare<[], [string, string]>('SELECT key, value FROM meta ORDER BY key').raw().all()
    const expected = { last_hash: last, last_seq: String(seq), probe: '' }
    if (JSON.stringify(Object.fromEntries(meta)) !== JSON.stringify(expected)) {
      throw damaged(`table meta does not agree with the end of table journal, which is row ${seq}`)
    }
  }

  #select(clause: string, values: readonly (string | number)[]): JournalEntry[] {
    const attachments = new Map<string, Uint8Array>()
    const rows = this.#db
      .prepare<(string | number)[], Row>(`SELECT ${COLUMNS} FROM journal ${clause}`)
      .raw()
      .all(...values)
    return rows.map((row) => entryOf(row, row[8] === null ? null : this.#attachment(row[8], attachments)))
  }

  /** The bytes behind a hash; entries of one answer that carry the same attachment share them. */
  #attachment(name: Buffer, cache: Map<string, Uint8Array>): Uint8Array {
    const key = name.toString('hex')
    const stored = cache.get(key) ?? this.#blob.get(name)
    if (stored === undefined) throw damaged(`row ${key} of table blobs is missing`)
    const bytes = stored instanceof Buffer ? plain(stored) : stored
    cache.set(key, bytes)
    return bytes
  }
}

const entryOf = (row: Row, attachment: Uint8Array | null): JournalEntry => ({
  seq: row[0],
  host: row[1],
  vm: row[2],
  type: row[3],
  command: row[4],
  outcome: row[5],
  firstGfn: row[6],
  endGfn: row[7],
  attachment,
})
