import assert from 'node:assert/strict'
import { test } from 'node:test'
import { StorageError } from '../../src/domain/journal.ts'
import { MemoryJournal } from '../support/memory-journal.ts'
import { gist, service } from '../support/service.ts'

const soon = () => new Promise((resolve) => setTimeout(resolve, 20))

for (const [code, status, problem] of [
  ['full', 507, 'storage-full'],
  ['io', 503, 'storage-failed'],
] as const) {
  test(`a group that was not written (${code}) is answered ${status}, and nothing of it stays`, async (t) => {
    const store = new MemoryJournal()
    const { send, get } = await service(t, store)
    const before = await get('/v1/hosts')
    const { promise, resolve } = Promise.withResolvers<void>()
    store.gate = promise
    store.failure = new StorageError(code, 'no')
    const create = (name: string) => send('POST', '/v1/vms', { technology: 'sw-protected', name })
    const creating = [create('a'), create('b')]
    await soon()
    // It sees VMs that never come to be, and is answered without them.
    const reading = send('GET', '/v1/vms')
    await soon()
    resolve()
    for (const answer of await Promise.all(creating)) assert.deepEqual(gist(answer), [status, problem, null])
    const read = await reading
    assert.deepEqual([read.status, read.body.items], [200, []])
    assert.deepEqual(await get('/v1/hosts'), before)
    assert.equal((await create('c')).status, 201)
  })
}

test('what is gone only until the disk says otherwise is not called gone', async (t) => {
  const store = new MemoryJournal()
  const { send, post, get } = await service(t, store)
  const { id } = await post('/v1/vms', { technology: 'sw-protected' }, 201)
  const { promise, resolve } = Promise.withResolvers<void>()
  store.gate = promise
  store.failure = new StorageError('io', 'no')
  const url = `/v1/vms/${id}`
  const deleting = send('DELETE', url)
  await soon()
  const after = [send('GET', url), send('DELETE', url)]
  await soon()
  resolve()
  assert.equal((await deleting).status, 503)
  assert.deepEqual(
    (await Promise.all(after)).map(({ status }) => status),
    [200, 503],
  )
  assert.equal((await get(url)).id, id)
})

test('a read waits for what it shows to be durable', async (t) => {
  const store = new MemoryJournal()
  const { send } = await service(t, store)
  const { promise, resolve } = Promise.withResolvers<void>()
  store.gate = promise
  const made = send('POST', '/v1/vms', { technology: 'sw-protected' })
  await soon()
  let answered = false
  const read = send('GET', '/v1/vms').then((answer) => {
    answered = true
    return answer
  })
  await soon()
  assert.equal(answered, false)
  resolve()
  assert.equal((await read).body.items.length, 1)
  assert.equal((await made).status, 201)
})
