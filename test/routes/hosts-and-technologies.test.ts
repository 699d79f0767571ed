import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backends } from '../../src/hw/registry.ts'
import { gist, service } from '../support/service.ts'

test('technologies are described in the same words, with their calls', async (t) => {
  const { get } = await service(t)
  const { items } = await get('/v1/technologies')
  assert.deepEqual(
    items.map(({ technology }: { technology: string }) => technology),
    [...backends.keys()].sort(),
  )
  for (const { technology, calls } of items) {
    const full = await get(`/v1/technologies/${technology}`)
    assert.deepEqual(full.properties, backends.get(technology)?.properties)
    assert.equal(full.calls.length, calls.length)
    assert.equal(full.configSchema.type, 'object')
    for (const call of full.calls) assert.equal(call.schema.type, 'object', call.name)
  }
  assert.equal((await get('/v1/technologies/sgx', 404)).code, 'no-such-technology')
})

test('a host is made once, and is the home of what names it', async (t) => {
  const { send, get, post } = await service(t)
  const body = { name: 'lab', technology: 'sw-protected', memory: '1GiB' }
  const made = await send('POST', '/v1/hosts', body)
  assert.deepEqual([made.status, made.headers.location], [201, '/v1/hosts/lab'])
  assert.deepEqual([made.body.memory, made.body.capacity, made.body.state], [2 ** 30, 2 ** 30, 'up'])
  assert.deepEqual(gist(await send('POST', '/v1/hosts', body)), [409, 'host-exists', null])
  assert.equal((await post('/v1/vms', { technology: 'sw-protected', host: 'lab' }, 201)).host, 'lab')
  assert.equal((await get('/v1/hosts/lab')).vms, 1)
  assert.equal((await get('/v1/hosts')).items.length, backends.size + 1)
})

test('what a new host may not be', async (t) => {
  const { send } = await service(t)
  const refused = async (more: object) =>
    gist(await send('POST', '/v1/hosts', { name: 'lab', technology: 'sw-protected', memory: '1GiB', ...more }))
  assert.deepEqual(await refused({ name: 'Lab!' }), [400, 'validation-failed', '/name'])
  assert.deepEqual(await refused({ technology: 'x' }), [400, 'no-such-technology', '/technology'])
  assert.deepEqual(await refused({ memory: '1MiB' }), [400, 'memory-out-of-range', '/memory'])
  assert.deepEqual(await refused({ memory: '9TiB' }), [400, 'memory-out-of-range', '/memory'])
  assert.deepEqual(await refused({ memory: 2 ** 30 + 1 }), [422, 'misaligned-size', 'EINVAL'])
})

test('a machine that is up is not put anew; one that crashed is', async (t) => {
  const { get, post, send, machine } = await service(t)
  assert.deepEqual(gist(await send('POST', '/v1/hosts/nowhere/reboot')), [404, 'no-such-host', null])
  const up = await send('POST', '/v1/hosts/sev-snp/reboot')
  assert.deepEqual([...gist(up), up.body.currentState], [409, 'host-up', null, 'up'])
  // A kernel write to a page that the RMP gives to a guest is a fault that no kernel survives.
  const { vm, memfile } = await machine({ technology: 'sev-snp' })
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 4096 })
  const { privateHpa } = await get(`/v1/vms/${vm}/pages/0x0`)
  const write = { as: 'kernel', hpa: privateHpa, kind: 'write', data: 'AAAA' }
  const crash = await post(`/v1/vms/${vm}/host-accesses`, write)
  assert.equal(crash.outcome, 'host-crash')
  assert.equal(typeof crash.hostCrashed, 'string')
  const host = await get('/v1/hosts/sev-snp')
  assert.deepEqual([host.state, host.reason], ['crashed', crash.hostCrashed])
  assert.equal((await get(`/v1/vms/${vm}`)).state, 'crashed')
  const refused = await send('POST', `/v1/vms/${vm}/host-accesses`, write)
  assert.deepEqual(gist(refused), [409, 'host-crashed', null])
  const rebooted = await post('/v1/hosts/sev-snp/reboot')
  assert.deepEqual([rebooted.state, rebooted.vms, rebooted.use.private], ['up', 0, 0])
  await get(`/v1/vms/${vm}`, 404)
})
