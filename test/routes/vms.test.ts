import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

test('a VM is made with what was asked for, and read back the same', async (t) => {
  const { send, get } = await service(t)
  const asked = { technology: 'sw-protected', name: 'a', vcpus: 4, conversion: 'manual', privacy: 'attributes' }
  const { status, body, headers } = await send('POST', '/v1/vms', { ...asked, config: { exitHypercall: false } })
  assert.equal(status, 201)
  const { id, seq, ...vm } = body
  assert.equal(headers.location, `/v1/vms/${id}`)
  assert.equal(headers['gmemd-seq'], String(seq))
  assert.equal(headers.etag, `"${seq}"`)
  const rest = { host: 'sw-protected', state: 'running', revision: seq, config: { exitHypercall: false } }
  assert.deepEqual(vm, { ...asked, ...rest })
  assert.deepEqual(await get(`/v1/vms/${id}`), { id, ...vm })
  assert.equal((await send('GET', `/v1/vms/${id}`)).headers.etag, headers.etag)
})

test('what a new VM may not be', async (t) => {
  const { send } = await service(t)
  const refused = async (body: unknown) => gist(await send('POST', '/v1/vms', body))
  assert.deepEqual(await refused({}), [400, 'validation-failed', '/technology'])
  assert.deepEqual(await refused({ technology: 'sgx' }), [400, 'no-such-technology', '/technology'])
  const invalid = (pointer: string) => [400, 'validation-failed', pointer]
  const technology = 'sw-protected'
  assert.deepEqual(await refused({ technology, vcpus: 0 }), invalid('/vcpus'))
  assert.deepEqual(await refused({ technology, colour: 'red' }), invalid('/colour'))
  assert.deepEqual(await refused({ technology, config: { policy: 1 } }), invalid('/config/policy'))
  assert.deepEqual(await refused({ technology, config: { exitHypercall: 'yes' } }), invalid('/config/exitHypercall'))
  assert.deepEqual(await refused({ technology, name: '' }), invalid('/name'))
  assert.deepEqual(await refused({ technology, host: 'nowhere' }), [404, 'no-such-host', null])
  assert.deepEqual(await refused({ technology, host: 'sev-snp' }), [400, 'host-of-other-technology', '/host'])
  const bits = await refused({ technology: 'sev-snp', config: { policy: '0x0' } })
  assert.deepEqual(bits, [422, 'policy-reserved-bit', 'EINVAL'])
})

test('lists go on where the page before ended, and filter', async (t) => {
  const { get, post } = await service(t)
  const ids: string[] = []
  for (let i = 0; i < 12; i++) {
    const technology = i % 3 === 0 ? 'sev-snp' : 'sw-protected'
    ids.push((await post('/v1/vms', { technology }, 201)).id)
  }
  const seen: string[] = []
  for (let url: string | null = '/v1/vms?limit=5'; url !== null; ) {
    const page: { items: { id: string }[]; nextCursor: string | null } = await get(url)
    seen.push(...page.items.map(({ id }) => id))
    url = page.nextCursor === null ? null : `/v1/vms?limit=5&cursor=${page.nextCursor}`
  }
  assert.deepEqual(seen, ids)
  assert.equal((await get('/v1/vms?technology=sev-snp')).items.length, 4)
  assert.equal((await get('/v1/vms?host=sw-protected')).items.length, 8)
  await get('/v1/vms?limit=0', 400)
  await get('/v1/vms?colour=red', 400)
  await get('/v1/vms?cursor=!', 400)
})

test('a deleted VM is gone, and its pages are the host’s', async (t) => {
  const { get, post, remove, machine } = await service(t)
  const { vm, memfile } = await machine()
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: '2MiB' })
  assert.equal((await get('/v1/hosts/sw-protected')).use.private, 2097152)
  const gone = await remove(`/v1/vms/${vm}`)
  assert.equal(gone.id, vm)
  assert.equal((await get('/v1/hosts/sw-protected')).use.private, 0)
  assert.deepEqual((await get(`/v1/memfiles/${memfile}`)).state, 'released')
  for (const path of ['', '/memslots', '/page-states', '/accounting', '/exits', '/launch', '/pages/0x0', '/pins']) {
    assert.equal((await get(`/v1/vms/${vm}${path}`, 404)).code, 'no-such-vm', path)
  }
  assert.equal((await remove(`/v1/vms/${vm}`, 404)).code, 'no-such-vm')
  assert.equal((await post(`/v1/vms/${vm}/calls`, { call: 'X' }, 404)).code, 'no-such-vm')
})
