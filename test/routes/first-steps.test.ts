import assert from 'node:assert/strict'
import { test } from 'node:test'
import { service } from '../support/service.ts'

test('a software-protected VM from nothing to an access', async (t) => {
  const { send, get, post } = await service(t)
  const made = await send('POST', '/v1/vms', { technology: 'sw-protected', name: 'first' })
  assert.equal(made.status, 201, made.text)
  const vm = made.body.id
  assert.equal(made.headers.location, `/v1/vms/${vm}`)
  assert.equal(made.headers['gmemd-seq'], String(made.body.seq))
  const memfile = await post('/v1/memfiles', { size: '64MiB' }, 201)
  assert.equal(memfile.state, 'unbound')
  const bound = await post(`/v1/memfiles/${memfile.id}/bind`, { vm })
  assert.deepEqual([bound.state, bound.vm, bound.technology], ['bound', vm, 'sw-protected'])
  const slot = await send('PUT', `/v1/vms/${vm}/memslots/0`, { gpa: '0x0', size: '64MiB', memfile: memfile.id })
  assert.equal(slot.status, 201, slot.text)
  const filled = await post(`/v1/memfiles/${memfile.id}/fallocate`, { offset: 0, length: '2MiB' })
  assert.equal(filled.populatedBytes, 2097152)
  const changed = await post(`/v1/vms/${vm}/page-states`, {
    entries: [{ gpa: '0x200000', pages: 16, operation: 'private' }],
  })
  assert.deepEqual([changed.completed, changed.entries[0].status.name], [1, 'SUCCESS'])
  const write = { gpa: '0x200ffe', kind: 'write', data: 'AQIDBA==' }
  assert.equal((await post(`/v1/vms/${vm}/vcpus/0/accesses`, write)).outcome, 'ok')
  const read = await post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: '0x200ffe', kind: 'read', length: 4 })
  assert.deepEqual([read.outcome, read.data], ['ok', 'AQIDBA=='])
  assert.equal((await get(`/v1/vms/${vm}`)).state, 'running')
})
