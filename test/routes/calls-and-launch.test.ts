import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backends } from '../../src/hw/registry.ts'
import { ovmfImage } from '../support/ovmf-image.ts'
import { gist, service } from '../support/service.ts'

test('a raw call answers with its own status', async (t) => {
  const { post, machine } = await service(t)
  const { vm } = await machine()
  const call = { call: 'MAP_GPA_RANGE', gpa: '0x100000', pages: 1, attributes: 16 }
  const done = await post(`/v1/vms/${vm}/calls`, call)
  assert.deepEqual([done.call, done.status], ['MAP_GPA_RANGE', { name: 'SUCCESS', code: 0 }])
  assert.equal(done.exits.length, 1)
  const odd = await post(`/v1/vms/${vm}/calls`, { ...call, gpa: 1 })
  assert.deepEqual(odd.status, { name: 'KVM_EINVAL', code: -22 })
  assert.equal(odd.rax, -22)
})

test('a malformed call is told what the call takes', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const refused = async (body: unknown) => gist(await send('POST', `/v1/vms/${vm}/calls`, body))
  const call = { call: 'MAP_GPA_RANGE', gpa: 0, pages: 1, attributes: 0 }
  assert.deepEqual(await refused({}), [400, 'validation-failed', '/call'])
  assert.deepEqual(await refused({ call: 'RMPUPDATE' }), [400, 'no-such-call', '/call'])
  assert.deepEqual(await refused({ ...call, size: 0 }), [400, 'validation-failed', '/size'])
  assert.deepEqual(await refused({ ...call, cpl: 4 }), [400, 'validation-failed', '/cpl'])
  assert.deepEqual(await refused({ ...call, by: 'kernel' }), [400, 'validation-failed', '/by'])
  assert.deepEqual(await refused({ ...call, vcpu: 1 }), [400, 'no-such-vcpu', '/vcpu'])
})

test('every call takes its own example', async (t) => {
  const { send, post } = await service(t)
  for (const { technology, calls } of backends.values()) {
    const vm = (await post('/v1/vms', { technology }, 201)).id
    for (const { name, example } of calls) {
      const answer = await send('POST', `/v1/vms/${vm}/calls`, { call: name, ...example })
      assert.notEqual(answer.status, 400, `${technology} ${name}: ${answer.text}`)
      if (answer.body.hostCrashed !== undefined) assert.fail(`${technology} ${name} crashes the host`)
    }
  }
})

test('an SNP guest is populated, measured, finished and runs', async (t) => {
  const { send, get, post, machine } = await service(t)
  const { vm } = await machine({ technology: 'sev-snp' })
  const launching = await send('POST', `/v1/vms/${vm}/vcpus/0/accesses`, { gpa: 0, kind: 'read' })
  assert.deepEqual([...gist(launching), launching.body.currentState], [409, 'vm-not-running', null, 'launching'])
  const data = Buffer.alloc(4096, 7).toString('base64')
  const update = await post(`/v1/vms/${vm}/launch/update`, { gpa: '0x1000', data, pageType: 'NORMAL' })
  assert.deepEqual([update.completed, update.next], [4096, null])
  const zero = await post(`/v1/vms/${vm}/launch/update`, { gpa: '0x2000', length: '8KiB', pageType: 'ZERO' })
  assert.equal(zero.completed, 8192)
  const log = await get(`/v1/vms/${vm}/launch`)
  assert.equal(log.digest, zero.digest)
  assert.ok(log.steps.length >= 2)
  const finished = await post(`/v1/vms/${vm}/launch/finish`)
  assert.match(finished.digest, /^[0-9a-f]{96}$/)
  assert.equal((await get(`/v1/vms/${vm}`)).state, 'running')
  const evidence = await get(`/v1/vms/${vm}/attestation?nonce=00ff`)
  assert.deepEqual([evidence.nonce, evidence.simulated, evidence.measurement], ['00ff', true, finished.digest])
  assert.equal(Buffer.from(evidence.report, 'base64').length, 1184)
  assert.equal((await get(`/v1/vms/${vm}/attestation?nonce=_-8`)).nonce, 'ffef')
  await get(`/v1/vms/${vm}/attestation?nonce=a`, 400)
  const chain = await get('/v1/hosts/sev-snp/certificates')
  assert.deepEqual(
    chain.items.map(({ name }: { name: string }) => name),
    ['VCEK', 'ASK', 'ARK'],
  )
})

test('what a launch update may not be', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine({ technology: 'sev-snp' })
  const refused = async (body: object) => gist(await send('POST', `/v1/vms/${vm}/launch/update`, body))
  assert.deepEqual(await refused({ gpa: 0 }), [400, 'length-required', '/length'])
  assert.deepEqual(await refused({ gpa: 0, length: '65MiB' }), [400, 'length-too-large', '/length'])
  assert.deepEqual(await refused({ gpa: 0, length: 0, data: 'AA==' }), [400, 'length-mismatch', '/length'])
  assert.deepEqual(await refused({ gpa: 0, length: 4096, pageType: 'X' }), [400, 'validation-failed', '/pageType'])
  assert.deepEqual(await refused({ gpa: 0, length: 4096, type: 'X' }), [400, 'validation-failed', '/type'])
  assert.deepEqual(await refused({ gpa: 1, length: 4096 }), [422, 'launch-range', 'EINVAL'])
  assert.deepEqual(await refused({ gpa: 0, data: 'AA==' }), [422, 'launch-range', 'EINVAL'])
  const finish = await send('POST', `/v1/vms/${vm}/launch/finish`, { vcpuType: 'i486' })
  assert.deepEqual(gist(finish), [400, 'validation-failed', '/vcpuType'])
  const plain = await machine()
  const none = await send('POST', `/v1/vms/${plain.vm}/launch/update`, { gpa: 0, length: 4096 })
  assert.deepEqual(gist(none), [422, 'not-measured', 'ENOTTY'])
})

test('a firmware image is launched whole', async (t) => {
  const { app, get, post } = await service(t)
  const vm = (await post('/v1/vms', { technology: 'sev-snp', vcpus: 2 }, 201)).id
  const launch = (query: string, payload: Buffer, type = 'application/octet-stream', on = vm) =>
    app.inject({
      method: 'POST',
      url: `/v1/vms/${on}/launch/image${query}`,
      headers: { 'content-type': type },
      payload,
    })
  const image = Buffer.from(ovmfImage())
  assert.equal((await launch('?vmm=xen', image)).statusCode, 400)
  assert.equal((await launch('?colour=red', image)).statusCode, 400)
  assert.equal((await launch('', image, 'application/json')).statusCode, 415)
  assert.equal((await launch('', Buffer.alloc(0))).statusCode, 400)
  const done = await launch('?vmm=qemu&vcpuType=EPYC-v4', image)
  assert.equal(done.statusCode, 200, done.body)
  const { digest, memory } = done.json()
  assert.ok(memory.length > 0)
  assert.equal((await get(`/v1/vms/${vm}/launch`)).digest, digest)
  assert.equal((await get(`/v1/vms/${vm}`)).state, 'running')
  const plain = (await post('/v1/vms', { technology: 'sw-protected' }, 201)).id
  const none = await launch('', image, 'application/octet-stream', plain)
  assert.deepEqual([none.statusCode, none.json().errno], [422, 'ENOTTY'])
})
