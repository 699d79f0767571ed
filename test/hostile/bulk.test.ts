import assert from 'node:assert/strict'
import { test } from 'node:test'
import { assertReplays, attack, launchImage } from '../support/grammar-attack.ts'
import { service } from '../support/service.ts'

// Small requests that name a great deal of memory: they must not cost what they name.

const MOST = 2 ** 28
const PAGES_IN_A_BUFFER = 253
const REPLY_BYTES = 4_000_000
/** On an idle machine it takes a tenth of a second. */
const PATIENCE_MS = 5000

test('a terabyte of pages is converted piece by piece in one request, and listed in part', async (t) => {
  const all = await service(t)
  const { vm } = await all.machine({ technology: 'sev-snp' })
  await launchImage(all, vm)
  const payload = { entries: [{ gpa: '0x100000000', pages: MOST, operation: 'shared' }] }
  const start = performance.now()
  const { status, body, text } = await attack(all, { method: 'POST', url: `/v1/vms/${vm}/page-states`, payload })
  assert.ok(performance.now() - start < PATIENCE_MS)
  assert.deepEqual([status, body.completed], [200, 1])
  assert.equal(body.exits.length + body.exitsOmitted, Math.ceil(MOST / PAGES_IN_A_BUFFER))
  assert.ok(text.length < REPLY_BYTES)
  const { items } = await all.get(`/v1/journal?after=${body.seq - 1}`)
  assert.equal(items[0].outcome.exits, Math.ceil(MOST / PAGES_IN_A_BUFFER))
  assertReplays(all)
})

test('a batch names at most so many pages', async (t) => {
  const all = await service(t)
  const { vm } = await all.machine()
  const url = `/v1/vms/${vm}/page-states`
  const entries = (last: number) => [
    { gpa: 0, pages: MOST / 2, operation: 'shared' },
    { gpa: 0, pages: last, operation: 'shared' },
  ]
  const at = await attack(all, { method: 'POST', url, payload: { entries: entries(MOST / 2) } })
  assert.deepEqual([at.status, at.body.completed], [200, 2], at.text)
  const over = await attack(all, { method: 'POST', url, payload: { entries: entries(MOST / 2 + 1) } })
  assert.deepEqual([over.status, over.body.code], [400, 'too-many-pages'])
  assert.equal(over.body.errors[0].pointer, '/entries/1/pages')
})

test('a gibibyte is converted and accepted in time that grows with it', async (t) => {
  const all = await service(t)
  const { vm } = await all.machine({ technology: 'sev-snp' }, '16GiB')
  await launchImage(all, vm)
  const entry = { gpa: '0x100000000', pages: 2 ** 20, operation: 'private' }
  const payload = { accept: true, entries: [entry] }
  const start = performance.now()
  const { body } = await attack(all, { method: 'POST', url: `/v1/vms/${vm}/page-states`, payload })
  assert.ok(performance.now() - start < PATIENCE_MS)
  assert.deepEqual([body.completed, body.entries[0].status.code], [1, 0])
})
