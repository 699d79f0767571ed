import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { StorageError } from '../../src/domain/journal.ts'
import { openStore } from '../../src/store/store.ts'
import { entry, group, sampleGroup, temporaryDirectory } from './support.ts'

const MAX_PAGES = 120
const code = (error: unknown): string => (error as StorageError).code

test('a full disk takes nothing of a group, and fails what is behind it until the store is reopened', async (t) => {
  const directory = temporaryDirectory(t)
  const small = openStore({ directory, maxPages: MAX_PAGES })
  await small.open()
  await small.commit(sampleGroup(0))
  const before = await small.reopen()
  const huge = group({ entries: [entry(4, { attachment: new Uint8Array(MAX_PAGES * 4096) })] })
  const outcomes = await Promise.allSettled([
    small.commit(huge),
    small.commit(group({ entries: [entry(5)] })),
    small.commit(group({ entries: [entry(4)] })),
  ])
  for (const outcome of outcomes) {
    assert.equal(outcome.status, 'rejected')
    if (outcome.status === 'rejected') assert.equal(code(outcome.reason), 'full')
  }
  assert.deepEqual(await small.list({ after: 3, limit: 9 }), [])
  assert.deepEqual(await small.reopen(), before)
  await small.commit(group({ entries: [entry(4)] }))
  assert.equal((await small.list({ after: 3, limit: 9 })).length, 1)
  assert.equal(await small.probe(), true)
  const after = await small.reopen()
  assert.equal(after.lastSeq, before.lastSeq + 1)
  await small.close()
})

test('a probe fails while the disk is full, and writes go on once there is space', async (t) => {
  const directory = temporaryDirectory(t)
  const small = openStore({ directory, maxPages: MAX_PAGES })
  await small.open()
  let n = 0
  const fill = async (): Promise<void> => {
    for (;;) {
      await small.commit(sampleGroup(n))
      n += 1
    }
  }
  await assert.rejects(fill(), { code: 'full' })
  assert.ok(n > 3)
  assert.equal(await small.probe(), false)
  assert.equal((await small.list({ after: 0, limit: 10_000 })).length, n * 3)
  await small.close()
  const large = openStore({ directory })
  assert.equal((await large.open()).lastSeq, n * 3)
  await large.commit(sampleGroup(n))
  assert.equal(await large.probe(), true)
  await large.close()
})

test('a group fails as a whole', async (t) => {
  const store = openStore({ directory: temporaryDirectory(t) })
  await store.open()
  const good = sampleGroup(0)
  await assert.rejects(
    store.commit({ ...good, checkpoints: [{ host: 'h', seq: 99, state: new Uint8Array(1), contents: new Map() }] }),
    { code: 'io' },
  )
  assert.deepEqual(await store.reopen(), { lastSeq: 0, checkpoints: [], entries: [], replies: [] })
  await store.commit(good)
  await store.close()
})
