import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

/** An active Realm with RAM from 0x80000000, through the API alone. */
async function activeRealm(t: Parameters<typeof service>[0], options: object = {}) {
  const api = await service(t)
  const { post, put } = api
  const vm = (await post('/v1/vms', { technology: 'cca', ...options }, 201)).id
  const memfile = (await post('/v1/memfiles', { size: '4MiB', technology: 'cca' }, 201)).id
  await post(`/v1/memfiles/${memfile}/bind`, { vm })
  await put(`/v1/vms/${vm}/memslots/0`, { gpa: '0x80000000', size: '4MiB', memfile }, 201)
  await post(`/v1/vms/${vm}/launch/finish`, { ripas: [{ gpa: '0x80000000', length: '0x400000' }] })
  return { ...api, vm, memfile, at: `/v1/vms/${vm}` }
}

const priv = (gpa: string, more: object = {}) => ({ gpa, kind: 'read', private: true, length: 1, ...more })
const set = (ripas: string, flags: number, top = '0x80004000') => ({
  call: 'RSI_IPA_STATE_SET',
  base: '0x80000000',
  top,
  ripas,
  flags,
})

test('arm-cca.md 4: the alias in an address; with private: true it is a contradiction', async (t) => {
  const { send, post, at } = await activeRealm(t)
  const access = (body: object) => post(`${at}/vcpus/0/accesses`, body)
  await access({ gpa: '0x10080000000', kind: 'write', data: 'AQI=' })
  assert.equal((await access({ gpa: '0x80000000', kind: 'read', private: false, length: 2 })).data, 'AQI=')
  const both = await send('POST', `${at}/vcpus/0/accesses`, priv('0x10080000000'))
  assert.deepEqual(gist(both), [400, 'private-shared-address', '/private'])
  const beyond = await access({ gpa: '0x20000000000', kind: 'read', length: 1 })
  assert.deepEqual([beyond.outcome, beyond.fault.name], ['guest-fault', 'ADDRESS_SIZE_FAULT'])
})

test('arm-cca.md 7, 9: the guest asks over HTTP, manual: one exit over the range, the VMM’s answer, x1', async (t) => {
  const { get, post, put, at } = await activeRealm(t, { conversion: 'manual', privacy: 'attributes' })
  const asked = await post(`${at}/calls`, set('EMPTY', 1))
  assert.deepEqual(asked.status, { name: 'PENDING', code: -1 })
  const { reason, gpa, length, private: isPrivate, flags, errno } = asked.waiting
  assert.deepEqual(
    [reason, gpa, length, isPrivate, flags, errno],
    ['KVM_EXIT_MEMORY_FAULT', '0x80000000', 16384, false, 0, 'EFAULT'],
  )
  const done = await post(`${at}/exits/${asked.waiting.id}/resume`, { ret: 0 })
  assert.deepEqual([done.result.status.code, done.result.x1, done.result.response], [0, '0x80004000', 'ACCEPT'])
  const back = await post(`${at}/calls`, set('RAM', 1))
  assert.deepEqual([back.waiting.flags, back.waiting.private], [8, true])
  const refused = await post(`${at}/exits/${back.waiting.id}/resume`, { ret: -14 })
  assert.deepEqual(
    [refused.result.status.code, refused.result.x1, refused.result.response],
    [0, '0x80000000', 'REJECT'],
  )
  const entries = [{ gpa: '0x80000000', pages: 4, operation: 'private' }]
  const neutral = await post(`${at}/page-states`, { entries })
  await put(`${at}/attributes`, { gpa: '0x80000000', length: '16KiB', attributes: ['private'] })
  const accepted = await post(`${at}/exits/${neutral.waiting.id}/resume`, { ret: 0 })
  assert.deepEqual(accepted.result.entries, [{ status: { name: 'RSI_SUCCESS', code: 0 } }])
  assert.deepEqual((await get(`${at}/exits`)).items, [])
})

test('arm-cca.md 7: a hole without the guest’s consent: in the lists, explained, and for ever an exit', async (t) => {
  const { get, post, at, memfile } = await activeRealm(t)
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 12288 })
  await post(`/v1/memfiles/${memfile}/punch-hole`, { offset: 4096, length: 4096 })
  const value = await post(`${at}/vcpus/0/accesses`, priv('0x80001000'))
  assert.deepEqual(
    [value.outcome, value.exit.reason, value.exit.id, value.fault.name],
    ['exit', 'KVM_EXIT_INTERNAL_ERROR', null, 'REC_EXIT_SYNC'],
  )
  const shown = async () => {
    const { items } = await get(`${at}/page-states?gpa=0x80000000&length=16384`)
    return items.map(({ gpa, owner, hardware }: Record<string, unknown>) => [gpa, owner, hardware])
  }
  const page = (hipas: string, ripas: string, granule: string, pas: string) => ({ hipas, ripas, granule, pas })
  const ram = page('ASSIGNED', 'RAM', 'DATA', 'REALM')
  assert.deepEqual(await shown(), [
    ['0x80000000', 'guest', ram],
    ['0x80001000', 'rmm', page('ASSIGNED', 'DESTROYED', 'DATA', 'REALM')],
    ['0x80002000', 'guest', ram],
    ['0x80003000', 'host', {}],
  ])
  const stopped = await post(`${at}/calls`, set('RAM', 0))
  assert.deepEqual([stopped.x1, stopped.response], ['0x80001000', 'ACCEPT'])
  const explained = await get(`${at}/pages/0x80001000`)
  assert.equal(explained.hardware.ripas, 'DESTROYED')
  assert.deepEqual((await post(`${at}/calls`, set('RAM', 1))).x1, '0x80004000')
  assert.equal((await post(`${at}/vcpus/0/accesses`, priv('0x80001000'))).outcome, 'ok')
  assert.deepEqual((await shown())[0], ['0x80000000', 'guest', ram])
  const { length } = (await get(`${at}/page-states?gpa=0x80000000&length=16384`)).items[0]
  assert.equal(length, 16384, 'one run again')
})

test('arm-cca.md 3: a Realm that is off: "dead", 409 afterwards, no token; delete gives all back', async (t) => {
  const { send, get, post, remove, at, memfile } = await activeRealm(t)
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 8192 })
  await post(`${at}/calls`, { call: 'PSCI_SYSTEM_OFF' })
  assert.equal((await get(at)).state, 'dead')
  const after = await send('POST', `${at}/vcpus/0/accesses`, priv('0x80000000'))
  assert.deepEqual([...gist(after), after.body.currentState], [409, 'vm-not-running', null, 'dead'])
  assert.deepEqual(gist(await send('GET', `${at}/attestation`)), [422, 'realm-not-active', 'EINVAL'])
  assert.deepEqual(gist(await send('POST', `${at}/launch/finish`, {})), [422, 'realm-not-new', 'EPERM'])
  assert.equal((await remove(at)).state, 'deleted')
  const { keys, use } = await get('/v1/hosts/cca')
  assert.deepEqual([keys.inUse, use.private], [0, 0])
})

test('arm-cca.md 2: host accesses over HTTP: SIGBUS, an SMMU fault, and the end of the host', async (t) => {
  const { get, post, at, memfile } = await activeRealm(t)
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 4096 })
  const { hpa } = await get(`${at}/pages/0x80000000`)
  const access = (as: string) => post(`${at}/host-accesses`, { as, hpa, kind: 'read', length: 1 })
  assert.deepEqual((await access('user')).fault.name, 'SIGBUS')
  assert.deepEqual((await access('device')).fault.name, 'SMMU_GPF')
  assert.equal((await access('kernel')).outcome, 'host-crash')
  assert.equal((await get('/v1/hosts/cca')).state, 'crashed')
})
