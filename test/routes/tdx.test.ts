import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

/** A running TD with memory from 0x40000000, through the API alone. */
async function runningTd(t: Parameters<typeof service>[0], options: object = {}) {
  const api = await service(t)
  const { post, put } = api
  const vm = (await post('/v1/vms', { technology: 'tdx', ...options }, 201)).id
  const memfile = (await post('/v1/memfiles', { size: '4MiB', technology: 'tdx' }, 201)).id
  await post(`/v1/memfiles/${memfile}/bind`, { vm })
  await put(`/v1/vms/${vm}/memslots/0`, { gpa: '0x40000000', size: '4MiB', memfile }, 201)
  await post(`/v1/vms/${vm}/launch/finish`)
  return { ...api, vm, memfile, at: `/v1/vms/${vm}` }
}

const priv = (gpa: string, more: object = {}) => ({ gpa, kind: 'read', private: true, length: 1, ...more })

test('intel-tdx.md 0.1: statuses are 64-bit words, as hex strings', async (t) => {
  const { post, at } = await runningTd(t)
  const entries = [{ gpa: '0x40000000', pages: 2, operation: 'private' }]
  const first = await post(`${at}/page-states`, { accept: true, entries })
  assert.deepEqual(first.entries, [{ status: { name: 'TDX_SUCCESS', code: '0x0' } }])
  const again = await post(`${at}/page-states`, { accept: true, entries })
  assert.deepEqual(again.entries, [{ status: { name: 'TDX_PAGE_ALREADY_ACCEPTED', code: '0xb0a00000000' } }])
  const refused = await post(`${at}/calls`, { call: 'TDH.MEM.PAGE.REMOVE', gpa: '0x40000000' })
  assert.deepEqual(refused.status, { name: 'TDX_GPA_RANGE_NOT_BLOCKED', code: '0xc0000b0600000001' })
})

test('intel-tdx.md d.1: the shared bit in an address; with private: true it is a contradiction', async (t) => {
  const { send, post, at } = await runningTd(t)
  const access = (body: object) => post(`${at}/vcpus/0/accesses`, body)
  await access({ gpa: '0x800040000000', kind: 'write', data: 'AQI=' })
  assert.equal((await access({ gpa: '0x40000000', kind: 'read', private: false, length: 2 })).data, 'AQI=')
  const both = await send('POST', `${at}/vcpus/0/accesses`, priv('0x800040000000'))
  assert.deepEqual(gist(both), [400, 'private-shared-address', '/private'])
})

test('intel-tdx.md d.2: a dead guest: the exit says EIO, the VM "dead", everything after 409; delete ends it', async (t) => {
  const { send, get, post, remove, at, vm, memfile } = await runningTd(t)
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 8192 })
  const died = await post(`${at}/vcpus/0/accesses`, priv('0x40001000'))
  assert.deepEqual(
    [died.outcome, died.exit.reason, died.exit.errno, died.fault.errorCode],
    ['exit', 'KVM_EXIT_INTERNAL_ERROR', 'EIO', '0x6'],
  )
  assert.equal((await get(at)).state, 'dead')
  const after = await send('POST', `${at}/vcpus/0/accesses`, priv('0x40000000'))
  assert.deepEqual([...gist(after), after.body.currentState], [409, 'vm-not-running', null, 'dead'])
  const call = await send('POST', `${at}/calls`, { call: 'TDG.VP.INFO' })
  assert.deepEqual([...gist(call), call.body.currentState], [409, 'vm-not-running', null, 'dead'])
  assert.deepEqual(gist(await send('GET', `${at}/attestation`)), [422, 'td-not-running', 'EINVAL'])
  assert.equal((await remove(at)).state, 'deleted')
  const { keys, use } = await get('/v1/hosts/tdx')
  assert.deepEqual([keys.inUse, use.private], [0, 0], vm)
})

test('intel-tdx.md c.1: a page in the lists and explained: pending, accepted, of which table', async (t) => {
  const { get, post, at, memfile } = await runningTd(t)
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 8192 })
  await post(`${at}/calls`, { call: 'TDG.MEM.PAGE.ACCEPT', gpa: '0x40000000' })
  const { items } = await get(`${at}/page-states?gpa=0x40000000&length=12288`)
  assert.deepEqual(
    items.map(({ gpa, owner, visibility, hardware }: Record<string, unknown>) => [gpa, owner, visibility, hardware]),
    [
      ['0x40000000', 'guest', 'private', { sept: 'MAPPED', pageSize: '4K', accepted: true, pamt: 'PT_REG' }],
      ['0x40001000', 'guest', 'private', { sept: 'PENDING', pageSize: '4K', accepted: false, pamt: 'PT_REG' }],
      ['0x40002000', 'host', 'shared', {}],
    ],
  )
  const page = await get(`${at}/pages/0x40001000`)
  assert.deepEqual([page.owner, page.hardware.sept], ['guest', 'PENDING'])
})

test('intel-tdx.md d.4: MapGPA over HTTP, manual: exit, conversion, resume', async (t) => {
  const { get, post, put, at } = await runningTd(t, { conversion: 'manual', privacy: 'attributes' })
  const asked = await post(`${at}/calls`, { call: 'TDG.VP.VMCALL', r11: '0x10001', r12: '0x40000000', r13: '0x300000' })
  assert.deepEqual(asked.waiting.hypercall, { nr: 12, args: ['0x40000000', '0x200', '0x10'] })
  await put(`${at}/attributes`, { gpa: '0x40000000', length: '2MiB', attributes: ['private'] })
  const second = await post(`${at}/exits/${asked.waiting.id}/resume`, { ret: 0 })
  assert.equal(second.result.waiting.gpa, '0x40200000')
  const done = await post(`${at}/exits/${second.result.waiting.id}/resume`, { ret: -11 })
  assert.deepEqual([done.result.r10, done.result.r11], ['0x1', '0x40200000'])
  assert.deepEqual((await get(`${at}/exits`)).items, [])
})
