import type Database from 'better-sqlite3'
import type { Checkpoint } from '../domain/journal.ts'
import { plain } from './bytes.ts'
import { ContentsDigest, sha256 } from './checksum.ts'
import { damaged } from './errors.ts'
import { CHECKPOINTS_KEPT } from './limits.ts'
import type { TableSums } from './sums.ts'
import { RowTable } from './table.ts'

const ZERO_DIGEST = Buffer.alloc(32)

/**
 * Which of a host's checkpoints to give up, given their sequence numbers in ascending order. The newest two stay, for
 * recovery. Of the older ones goes the one whose loss leaves the smallest gap, so that those which remain are spread
 * over the whole past and travelling back never replays most of it.
 */
export function surplusCheckpoint(seqs: readonly number[], kept: number): number | undefined {
  if (seqs.length <= kept) return undefined
  let surplus: number | undefined
  let least = Number.POSITIVE_INFINITY
  for (const [i, seq] of seqs.slice(0, -2).entries()) {
    const gap = (seqs[i + 1] ?? seq) - (seqs[i - 1] ?? 0)
    if (gap < least) {
      least = gap
      surplus = seq
    }
  }
  return surplus
}

/** Whole states of hosts, from which recovery and time travel start. */
export class Checkpoints {
  readonly #db: Database.Database
  readonly #table: RowTable
  readonly #seqs: Database.Statement<[string], number>
  readonly #insertPage: Database.Statement<[string, number, number, Uint8Array]>
  readonly #deletePages: Database.Statement<[string, number]>
  readonly #pages: Database.Statement<[string, number], [number, Buffer]>
  readonly #state: Database.Statement<[string, number], Buffer>
  readonly #nearest: Database.Statement<[string, number], number | null>

  constructor(db: Database.Database, sums: TableSums) {
    this.#db = db
    this.#table = new RowTable(db, sums, {
      name: 'checkpoints',
      key: ['host', 'seq'],
      columns: ['state_sha256', 'contents_sha256'],
      digested: 'state',
    })
    this.#seqs = db.prepare<[string], number>('SELECT seq FROM checkpoints WHERE host = ? ORDER BY seq').pluck()
    this.#insertPage = db.prepare('INSERT INTO page_contents (host, seq, frame, bytes) VALUES (?, ?, ?, ?)')
    this.#deletePages = db.prepare('DELETE FROM page_contents WHERE host = ? AND seq = ?')
    this.#pages = db
      .prepare<[string, number], [number, Buffer]>(
        'SELECT frame, bytes FROM page_contents WHERE host = ? AND seq = ? ORDER BY frame',
      )
      .raw()
    this.#state = db
      .prepare<[string, number], Buffer>('SELECT state FROM checkpoints WHERE host = ? AND seq = ?')
      .pluck()
    this.#nearest = db
      .prepare<[string, number], number | null>('SELECT max(seq) FROM checkpoints WHERE host = ? AND seq <= ?')
      .pluck()
  }

  append(checkpoints: readonly Checkpoint[], lastSeq: number): void {
    for (const checkpoint of checkpoints) {
      const { host, seq, state, contents } = checkpoint
      if (seq > lastSeq)
        throw new RangeError(`a checkpoint of host ${host} at ${seq} lies past the journal's end ${lastSeq}`)
      this.#deletePages.run(host, seq)
      const digest = new ContentsDigest()
      const frames = [...contents].sort(([a], [b]) => a - b)
      for (const [frame, bytes] of frames) digest.add(frame, bytes)
      this.#table.put([host, seq, sha256(state), digest.digest()], [state])
      for (const [frame, bytes] of frames) this.#insertPage.run(host, seq, frame, bytes)
      this.#thin(host)
    }
  }

  hosts(): string[] {
    return this.#db.prepare<[], string>('SELECT DISTINCT host FROM checkpoints').pluck().all()
  }

  /** The newest checkpoint of `host` not after `upTo`; null when there is none. */
  nearest(host: string, upTo: number): Checkpoint | null {
    const seq = this.#nearest.get(host, upTo)
    if (seq === undefined || seq === null) return null
    const state = this.#state.get(host, seq)
    if (state === undefined) return null
    const pages = this.#pages.all(host, seq)
    return { host, seq, state: plain(state), contents: new Map(pages.map(([frame, bytes]) => [frame, plain(bytes)])) }
  }

  verify(lastSeq: number): void {
    let pages = 0
    this.#table.verify(([host, seq, stateDigest, contentsDigest]) => {
      pages += this.#verifyOne(String(host), Number(seq), stateDigest, contentsDigest)
      if (Number(seq) > lastSeq) throw damaged(`row (${host}, ${seq}) of table checkpoints lies past the journal's end`)
    })
    const stored = this.#db.prepare<[], number>('SELECT count(*) FROM page_contents').pluck().get()
    if (stored !== pages) throw damaged('table page_contents has rows that belong to no checkpoint')
  }

  #verifyOne(host: string, seq: number, stateDigest: unknown, contentsDigest: unknown): number {
    const row = `row (${host}, ${seq}) of table checkpoints`
    const state = this.#state.get(host, seq)
    if (state === undefined || !sha256(state).equals(asDigest(stateDigest)))
      throw damaged(`the state in ${row} does not match its hash`)
    const digest = new ContentsDigest()
    let pages = 0
    for (const [frame, bytes] of this.#pages.iterate(host, seq)) {
      digest.add(frame, bytes)
      pages += 1
    }
    if (!digest.digest().equals(asDigest(contentsDigest))) {
      throw damaged(`table page_contents does not match the hash of its contents in ${row}`)
    }
    return pages
  }

  #thin(host: string): void {
    for (;;) {
      const surplus = surplusCheckpoint(this.#seqs.all(host), CHECKPOINTS_KEPT)
      if (surplus === undefined) return
      this.#deletePages.run(host, surplus)
      this.#table.remove(host, surplus)
    }
  }
}

const asDigest = (value: unknown): Uint8Array => (value instanceof Uint8Array ? value : ZERO_DIGEST)
