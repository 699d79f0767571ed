import assert from 'node:assert/strict'
import { readdirSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import type { Checkpoint, StorageError } from '../../src/domain/journal.ts'
import { surplusCheckpoint } from '../../src/store/checkpoints.ts'
import { REPLIES_BATCH, REPLIES_KEPT } from '../../src/store/limits.ts'
import { openStore } from '../../src/store/store.ts'
import { entry, group, rowsOf, sampleGroup, temporaryDirectory, vmRow } from './support.ts'

const bytes = (text: string): Uint8Array => new TextEncoder().encode(text)
const plain = (value: Uint8Array | null): number[] | null => (value === null ? null : [...value])

for (const place of ['files', 'memory']) {
  test(`what is committed comes back after closing or reopening (${place})`, async (t) => {
    const directory = place === 'files' ? path.join(temporaryDirectory(t), 'new', 'directory') : ':memory:'
    const first = openStore({ directory })
    assert.deepEqual(await first.open(), { lastSeq: 0, checkpoints: [], entries: [], replies: [] })
    const groups = Array.from({ length: 5 }, (_, n) => sampleGroup(n))
    await Promise.all(groups.map((one) => first.commit(one)))
    let store = first
    if (place === 'files') {
      await first.close()
      store = openStore({ directory })
      await store.open()
    }
    const state = await store.reopen()
    assert.equal(state.lastSeq, 15)
    assert.deepEqual(
      state.entries.map((one) => ({ ...one, attachment: plain(one.attachment) })),
      groups.flatMap((one) => one.entries).map((one) => ({ ...one, attachment: plain(one.attachment) })),
    )
    assert.deepEqual(
      state.replies,
      groups.flatMap((one) => one.replies),
    )
    await store.close()
    await store.close()
    await assert.rejects(store.list({ after: 0, limit: 1 }), { name: 'StorageError', code: 'io' })
  })
}

test('the directory is private, and closing leaves neither log nor holder', async (t) => {
  const directory = path.join(temporaryDirectory(t), 'data')
  const store = openStore({ directory })
  await store.open()
  await store.commit(sampleGroup(0))
  assert.ok(readdirSync(directory).includes('gmemd.pid'))
  await store.close()
  assert.deepEqual(readdirSync(directory).sort(), ['gmemd.created', 'gmemd.db', 'gmemd.lock'])
})

test('the journal is listed by VM and host, and searched by guest frame, newest first', async () => {
  const store = openStore({ directory: ':memory:' })
  await store.open()
  const entries = [
    entry(1, { vm: 'a', firstGfn: 0, endGfn: 10 }),
    entry(2, { vm: 'b', firstGfn: 0, endGfn: 10, host: 'other' }),
    entry(3, { vm: 'a', firstGfn: 10, endGfn: 12 }),
    entry(4, { vm: 'a', firstGfn: 5, endGfn: 11 }),
    entry(5),
  ]
  await store.commit(group({ entries }))
  const seqs = (found: readonly { seq: number }[]): number[] => found.map(({ seq }) => seq)
  assert.deepEqual(seqs(await store.list({ after: 0, limit: 9 })), [1, 2, 3, 4, 5])
  assert.deepEqual(seqs(await store.list({ vm: 'a', after: 1, limit: 9 })), [3, 4])
  assert.deepEqual(seqs(await store.list({ host: 'other', after: 0, limit: 9 })), [2])
  assert.deepEqual(seqs(await store.list({ host: 'other', vm: 'a', after: 0, limit: 9 })), [])
  assert.deepEqual(seqs(await store.list({ after: 0, limit: 2 })), [1, 2])
  assert.deepEqual(seqs(await store.touching('a', 10, 9)), [4, 3])
  assert.deepEqual(seqs(await store.touching('a', 9, 1)), [4])
  assert.deepEqual(seqs(await store.touching('a', 12, 9)), [])
  await store.close()
})

test('an attachment is stored once and shared by the entries that carry it', async (t) => {
  const directory = temporaryDirectory(t)
  const store = openStore({ directory })
  await store.open()
  const pool = new Uint8Array(10_000).fill(9)
  const image = pool.subarray(100, 5_100)
  await store.commit(
    group({ entries: [entry(1, { attachment: image }), entry(2, { attachment: new Uint8Array(image) })] }),
  )
  assert.equal(pool.length, 10_000, 'the buffer of the caller was not taken away')
  const found = await store.list({ after: 0, limit: 9 })
  assert.equal(found[0]?.attachment?.length, 5_000)
  assert.equal(found[0]?.attachment, found[1]?.attachment)
  await store.close()
  assert.equal(rowsOf(directory, 'SELECT 1 FROM blobs').length, 1)
})

test('recovery starts from the newest checkpoint of each host, time travel from the nearest', async () => {
  const store = openStore({ directory: ':memory:' })
  await store.open()
  const checkpoint = (host: string, seq: number): Checkpoint => ({
    host,
    seq,
    state: bytes(`${host}@${seq}`),
    contents: new Map([[seq, bytes('page')]]),
  })
  for (let seq = 1; seq <= 12; seq++) {
    const host = seq % 2 === 0 ? 'even' : 'odd'
    const checkpoints = seq % 4 === 0 ? [checkpoint('even', seq)] : []
    await store.commit(group({ entries: [entry(seq, { host })], checkpoints }))
  }
  const state = await store.reopen()
  assert.deepEqual(state.checkpoints, [checkpoint('even', 12)])
  assert.deepEqual(
    state.entries.map(({ seq }) => seq),
    [1, 3, 5, 7, 9, 11],
  )
  const past = await store.history('even', 10)
  assert.deepEqual(past.checkpoint, checkpoint('even', 8))
  assert.deepEqual(
    past.entries.map(({ seq }) => seq),
    [10],
  )
  const start = await store.history('even', 3)
  assert.equal(start.checkpoint, null)
  assert.deepEqual(
    start.entries.map(({ seq }) => seq),
    [2],
  )
  await store.close()
})

test('four checkpoints of a host are kept: the newest two, and older ones spread over the past', async (t) => {
  const directory = temporaryDirectory(t)
  const store = openStore({ directory })
  await store.open()
  for (let seq = 1; seq <= 64; seq++) {
    const contents = new Map([[1, bytes('page')]])
    await store.commit(
      group({ entries: [entry(seq)], checkpoints: [{ host: 'host-a', seq, state: bytes(`${seq}`), contents }] }),
    )
  }
  await store.close()
  const kept = rowsOf(directory, 'SELECT seq FROM checkpoints ORDER BY seq').map((row) => (row as { seq: number }).seq)
  assert.equal(kept.length, 4)
  assert.deepEqual(kept.slice(-2), [63, 64])
  const gaps = kept.map((seq, i) => seq - (kept[i - 1] ?? 0))
  assert.ok(Math.max(...gaps) <= 40, `the longest way to replay is ${Math.max(...gaps)} of 64`)
  assert.equal(rowsOf(directory, 'SELECT 1 FROM page_contents').length, 4)
  assert.equal(surplusCheckpoint([1, 2, 3], 4), undefined)
})

test('the newest replies are kept, and the newest of a key', async () => {
  const store = openStore({ directory: ':memory:' })
  await store.open()
  const reply = (n: number, key = `key-${n}`) => ({
    key,
    fingerprint: 'f',
    seq: 0,
    status: 200,
    headers: '{}',
    body: `${n}`,
  })
  const total = REPLIES_KEPT + REPLIES_BATCH + 5
  for (let n = 0; n < total; n += 500) {
    const replies = Array.from({ length: Math.min(500, total - n) }, (_, i) => reply(n + i))
    await store.commit(group({ replies }))
  }
  await store.commit(group({ replies: [reply(-1, `key-${total - 3}`)] }))
  const { replies } = await store.reopen()
  assert.ok(replies.length <= REPLIES_KEPT)
  assert.ok(replies.length >= REPLIES_KEPT - 1)
  assert.equal(replies.at(-1)?.body, '-1')
  assert.equal(replies.filter(({ key }) => key === `key-${total - 3}`).length, 1)
  assert.equal(replies.at(-2)?.body, `${total - 1}`)
  await store.close()
})

test('a deleted VM takes its slots and runs with it', async (t) => {
  const directory = temporaryDirectory(t)
  const store = openStore({ directory })
  await store.open()
  const run = { start: 0, count: 4, owner: 'a', visibility: 'private', hardware: '{}' }
  const slot = {
    vm: 'a',
    slot: 1,
    firstGfn: 0,
    pages: 4,
    memfile: null,
    memfileFirstPage: 0,
    sharedHvaFrame: 5,
    readOnly: true,
    dirtyLog: false,
    revision: 1,
  }
  const window = { vm: 'a', start: 0, end: 4, runs: [run] }
  await store.commit(
    group({ rows: { vms: new Map([['a', vmRow('a')]]), memslots: new Map([['a/1', slot]]), windows: [window] } }),
  )
  await store.commit(group({ rows: { vms: new Map([['a', null]]), windows: [{ ...window, runs: [] }] } }))
  await store.close()
  for (const table of ['vms', 'memslots', 'page_runs'])
    assert.deepEqual(rowsOf(directory, `SELECT * FROM ${table}`), [])
  const again = openStore({ directory })
  await again.open()
  await again.close()
})

test('an entry out of sequence is refused as a whole, and nothing goes on until the store is reopened', async (t) => {
  const store = openStore({ directory: temporaryDirectory(t) })
  await store.open()
  await store.commit(group({ entries: [entry(1)] }))
  await assert.rejects(store.commit(group({ entries: [entry(3)] })), { code: 'io' })
  await assert.rejects(store.commit(group({ entries: [entry(2)] })), (error: StorageError) => error.code === 'io')
  assert.equal((await store.reopen()).lastSeq, 1)
  await store.commit(group({ entries: [entry(2)] }))
  await store.close()
})
