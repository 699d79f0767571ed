import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../src/domain/journal.ts'
import { MemoryJournal } from '../support/memory-journal.ts'
import { gist, service } from '../support/service.ts'

const key = (value: string) => ({ 'idempotency-key': value })
const body = { technology: 'sw-protected', name: 'once' }

/** A journal whose commits wait until they are let go. */
function gatedJournal() {
  const store = new MemoryJournal()
  const { promise, resolve } = Promise.withResolvers<void>()
  return {
    store,
    close: () => {
      store.gate = promise
    },
    open: () => {
      store.gate = undefined
      resolve()
    },
  }
}

test('a retry gets the first reply, to the byte, and changes nothing', async (t) => {
  const { send, get } = await service(t)
  const first = await send('POST', '/v1/vms', body, key('k1'))
  assert.equal(first.status, 201)
  assert.equal(first.headers['idempotency-replayed'], undefined)
  const again = await send('POST', '/v1/vms', body, key('k1'))
  assert.deepEqual([again.status, again.text], [201, first.text])
  assert.equal(again.headers['idempotency-replayed'], 'true')
  for (const name of ['location', 'etag', 'gmemd-seq', 'content-type']) {
    assert.equal(again.headers[name], first.headers[name], name)
  }
  assert.equal((await get('/v1/vms')).items.length, 1)
})

test('a keyed reply is the one that a request without a key gets', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const change = { entries: [{ gpa: '0x0', operation: 'private' }] }
  const plain = await send('POST', `/v1/vms/${vm}/page-states`, change)
  const keyed = await send('POST', `/v1/vms/${vm}/page-states`, change, key('k'))
  assert.deepEqual({ ...keyed.body, seq: 0 }, { ...plain.body, seq: 0 })
  assert.deepEqual(Object.keys(keyed.headers).sort(), Object.keys(plain.headers).sort())
  assert.equal(keyed.headers['content-type'], plain.headers['content-type'])
})

test('of 100 identical requests at once one has an effect', async (t) => {
  const { send, get } = await service(t)
  const answers = await Promise.all(Array.from({ length: 100 }, () => send('POST', '/v1/vms', body, key('same'))))
  const made = answers.filter(({ status }) => status === 201)
  assert.ok(made.length >= 1)
  assert.equal(new Set(made.map(({ text }) => text)).size, 1)
  for (const answer of answers) {
    if (answer.status !== 201) assert.deepEqual(gist(answer), [409, 'idempotency-in-progress', null])
  }
  assert.equal((await get('/v1/vms')).items.length, 1)
})

test('while a request runs, its retry is told so and another request refused', async (t) => {
  const gated = gatedJournal()
  const { send } = await service(t, gated.store)
  gated.close()
  const running = send('POST', '/v1/vms', body, key('k'))
  await new Promise((resolve) => setTimeout(resolve, 20))
  const retry = await send('POST', '/v1/vms', body, key('k'))
  assert.deepEqual(gist(retry), [409, 'idempotency-in-progress', null])
  assert.equal(retry.headers['retry-after'], '1')
  const other = await send('POST', '/v1/vms', { ...body, name: 'other' }, key('k'))
  assert.deepEqual(gist(other), [422, 'idempotency-key-reused', null])
  gated.open()
  assert.equal((await running).status, 201)
  assert.equal((await send('POST', '/v1/vms', body, key('k'))).headers['idempotency-replayed'], 'true')
})

test('a key names one method, path and body', async (t) => {
  const { send, post } = await service(t)
  assert.equal((await send('POST', '/v1/vms', body, key('k'))).status, 201)
  const reused = [422, 'idempotency-key-reused', null]
  assert.deepEqual(gist(await send('POST', '/v1/vms', { technology: 'sw-protected' }, key('k'))), reused)
  const { id } = await post('/v1/memfiles', { size: 4096 }, 201)
  assert.deepEqual(gist(await send('DELETE', `/v1/memfiles/${id}`, undefined, key('k'))), reused)
  const bad = await send('POST', '/v1/vms', body, key('k'.repeat(129)))
  assert.deepEqual(gist(bad), [400, 'validation-failed', '/idempotency-key'])
})

test('a retry of what cannot be repeated still gets its reply', async (t) => {
  const { send, post } = await service(t)
  const { id } = await post('/v1/vms', body, 201)
  const deleted = await send('DELETE', `/v1/vms/${id}`, undefined, key('d'))
  assert.equal(deleted.status, 200)
  const again = await send('DELETE', `/v1/vms/${id}`, undefined, key('d'))
  assert.deepEqual([again.status, again.text], [200, deleted.text])
  const host = { name: 'lab', technology: 'sw-protected', memory: '1GiB' }
  const made = await send('POST', '/v1/hosts', host, key('h'))
  assert.equal((await send('POST', '/v1/hosts', host, key('h'))).text, made.text)
})

test('a refusal is not kept: the retry may succeed', async (t) => {
  const { send, post } = await service(t)
  const { id } = await post('/v1/memfiles', { size: 4096 }, 201)
  const range = { offset: 0, length: 4096 }
  const url = `/v1/memfiles/${id}/fallocate`
  assert.equal((await send('POST', url, range, key('k'))).status, 409)
  const vm = (await post('/v1/vms', body, 201)).id
  await post(`/v1/memfiles/${id}/bind`, { vm })
  assert.equal((await send('POST', url, range, key('k'))).status, 200)
})

test('keys survive a restart, and only with their effect', async (t) => {
  const store = new MemoryJournal()
  const first = await service(t, store)
  const made = await first.send('POST', '/v1/vms', body, key('kept'))
  store.failure = new StorageError('io', 'the disk is gone')
  const lost = await first.send('POST', '/v1/vms', { ...body, name: 'lost' }, key('lost'))
  assert.deepEqual(gist(lost), [503, 'storage-failed', null])
  const second = await service(t, store)
  assert.equal((await second.send('POST', '/v1/vms', body, key('kept'))).text, made.text)
  const retried = await second.send('POST', '/v1/vms', { ...body, name: 'lost' }, key('lost'))
  assert.deepEqual([retried.status, retried.headers['idempotency-replayed']], [201, undefined])
  assert.equal((await second.get('/v1/vms')).items.length, 2)
})
