import { spawnSync } from 'node:child_process'
import { createHash } from 'node:crypto'
import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TestContext } from 'node:test'
import Database from 'better-sqlite3'
import type { Group, JournalEntry, Rows, RunWindow, VmRow } from '../../src/domain/journal.ts'

export const PAGE = 4096
export const ENTRIES = 3

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-store-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

export const program = (name: string): string => path.join(import.meta.dirname, 'programs', name)

/** Why strace cannot be used here; false when it can. */
export function straceMissing(): string | false {
  const probe = spawnSync('strace', ['-f', '-qq', '-o', '/dev/null', 'true'])
  return probe.status === 0 ? false : 'strace is missing or may not trace here'
}

export const vmRow = (id: string, revision = 0): VmRow => ({
  id,
  name: null,
  host: 'host-a',
  technology: 'sev-snp',
  state: 'running',
  privacy: 'populated',
  conversion: 'explicit',
  vcpus: 2,
  revision,
})

export const entry = (seq: number, more: Partial<JournalEntry> = {}): JournalEntry => ({
  seq,
  host: 'host-a',
  vm: null,
  type: 'test',
  command: `{"n":${seq}}`,
  outcome: '{"ok":true}',
  firstGfn: null,
  endGfn: null,
  attachment: null,
  ...more,
})

export const noRows: Rows = {
  hosts: new Map(),
  vms: new Map(),
  memfiles: new Map(),
  memslots: new Map(),
  windows: [],
}

export const group = (more: Partial<Omit<Group, 'rows'>> & { rows?: Partial<Rows> } = {}): Group => ({
  entries: [],
  replies: [],
  checkpoints: [],
  ...more,
  rows: { ...noRows, ...more.rows },
})

/** Numbers that only look random, so that group `n` is the same in every process. */
function* numbers(seed: number): Generator<number, never> {
  for (let state = seed * 2654435761; ; ) {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0
    yield state >>> 8
  }
}

function sampleWindow(next: () => number, vm: string): RunWindow {
  const start = next() % 4000
  const count = 1 + (next() % 40)
  const visibility = next() % 2 === 0 ? 'private' : 'shared'
  const runs = next() % 7 === 0 ? [] : [{ start, count, owner: vm, visibility, hardware: `{"level":${next() % 3}}` }]
  return { vm, start, end: start + count, runs }
}

/** The n-th group of a history that uses everything the store keeps. Entries 3n+1 to 3n+3. */
export function sampleGroup(n: number): Group {
  const source = numbers(n + 1)
  const next = (): number => source.next().value
  const vm = `vm-${n % 5}`
  const first = n * ENTRIES + 1
  const seqs = Array.from({ length: ENTRIES }, (_, i) => first + i)
  const rows: Rows = {
    hosts: new Map([
      [
        `host-${n % 2}`,
        { name: `host-${n % 2}`, technology: 'tdx', memoryBytes: 2 ** 40, state: 'running', revision: n },
      ],
    ]),
    vms: new Map<string, VmRow | null>([
      [vm, vmRow(vm, n)],
      ...(n % 23 === 22 ? [[`vm-${(n + 1) % 5}`, null] as const] : []),
    ]),
    memfiles: new Map([
      [
        `file-${n % 7}`,
        n % 11 === 10
          ? null
          : {
              id: `file-${n % 7}`,
              name: 'ram',
              host: 'host-0',
              vm,
              state: 'bound',
              pages: 4096,
              allocatedPages: n,
              revision: n,
            },
      ],
    ]),
    memslots: new Map([
      [
        `${vm}/${n % 3}`,
        {
          vm,
          slot: n % 3,
          firstGfn: 0,
          pages: 4096,
          memfile: `file-${n % 7}`,
          memfileFirstPage: 0,
          sharedHvaFrame: n % 2 === 0 ? null : 0x7f000,
          readOnly: false,
          dirtyLog: n % 2 === 0,
          revision: n,
        },
      ],
    ]),
    windows: Array.from({ length: 6 }, () => sampleWindow(next, vm)),
  }
  const page = (fill: number): Uint8Array => new Uint8Array(PAGE).fill(fill)
  return {
    entries: seqs.map((seq) =>
      entry(seq, {
        host: `host-${seq % 2}`,
        vm: seq % 3 === 0 ? null : vm,
        command: JSON.stringify({ seq, text: 'ä€🙂'.repeat(next() % 9) }),
        firstGfn: seq % 3 === 0 ? null : next() % 4000,
        endGfn: seq % 3 === 0 ? null : 4096,
        attachment: seq % 10 === 0 ? new Uint8Array(3000).fill(seq % 4) : null,
      }),
    ),
    rows,
    replies: [
      { key: `key-${n}`, fingerprint: 'f'.repeat(16), seq: first, status: 200, headers: '{}', body: `{"n":${n}}` },
    ],
    checkpoints:
      n % 6 === 5
        ? [
            {
              host: `host-${n % 4 > 1 ? 1 : 0}`,
              seq: first + 1,
              state: new TextEncoder().encode(`state ${n} ${'x'.repeat(600)}`),
              contents: new Map([
                [n, page(n % 256)],
                [7, page(7)],
              ]),
            },
          ]
        : [],
  }
}

const TABLES = [
  'meta',
  'table_sums',
  'blobs',
  'journal',
  'hosts',
  'vms',
  'memfiles',
  'memslots',
  'page_runs',
  'checkpoints',
  'page_contents',
  'replies',
]

/** A digest over every row of a database that no store has open. */
export function dump(directory: string): string {
  const db = new Database(path.join(directory, 'gmemd.db'), { readonly: true })
  try {
    const digest = createHash('sha256')
    for (const table of TABLES) {
      const rows = db.prepare<[], unknown[]>(`SELECT * FROM ${table}`).raw().all()
      digest.update(`${table} ${JSON.stringify(rows)}\n`)
    }
    return digest.digest('hex')
  } finally {
    db.close()
  }
}

export const rowsOf = (directory: string, sql: string): unknown[] => {
  const db = new Database(path.join(directory, 'gmemd.db'), { readonly: true })
  try {
    return db.prepare(sql).all()
  } finally {
    db.close()
  }
}
