import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

test('guest and VMM see the same shared memory, each by its own way', async (t) => {
  const { post, machine } = await service(t)
  const { vm } = await machine()
  const data = Buffer.from('across a border').toString('base64')
  const write = { gpa: '0x1ff8', kind: 'write', data }
  assert.equal((await post(`/v1/vms/${vm}/vcpus/0/accesses`, write)).outcome, 'ok')
  const read = { as: 'user', gpa: '0x1ff8', kind: 'read', length: 15 }
  const seen = await post(`/v1/vms/${vm}/host-accesses`, read)
  assert.deepEqual([seen.outcome, seen.data], ['ok', data])
  assert.equal(
    Buffer.from((await post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: 0, kind: 'read' })).data, 'base64').length,
    8,
  )
  const nowhere = await post(`/v1/vms/${vm}/host-accesses`, { ...read, gpa: '0x80000000' })
  assert.deepEqual([nowhere.outcome, nowhere.fault.name], ['fault', 'SIGSEGV'])
  const mmio = await post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: '0xfee00010', kind: 'read', length: 4 })
  assert.deepEqual([mmio.outcome, mmio.exit.reason, mmio.exit.gpa], ['exit', 'KVM_EXIT_MMIO', '0xfee00010'])
})

test('what an access may not be', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const guest = async (body: object, vcpu = '0') =>
    gist(await send('POST', `/v1/vms/${vm}/vcpus/${vcpu}/accesses`, body))
  const read = { gpa: 0, kind: 'read' }
  assert.deepEqual(await guest(read, '1'), [404, 'no-such-vcpu', null])
  assert.deepEqual(await guest(read, 'x'), [400, 'validation-failed', '/vcpu'])
  assert.deepEqual(await guest({ ...read, length: 0 }), [400, 'validation-failed', '/length'])
  assert.deepEqual(await guest({ ...read, length: 65537 }), [400, 'validation-failed', '/length'])
  assert.deepEqual(await guest({ ...read, data: 'AA==' }), [400, 'data-without-write', '/data'])
  assert.deepEqual(await guest({ ...read, gpa: '0xfffffffffffff' }), [400, 'gpa-beyond-limit', '/gpa'])
  const write = { gpa: 0, kind: 'write' }
  assert.deepEqual(await guest(write), [400, 'write-without-data', '/data'])
  assert.deepEqual(await guest({ ...write, data: 'AB==' }), [400, 'not-base64', '/data'])
  assert.deepEqual(await guest({ ...write, data: 'AA' }), [400, 'not-base64', '/data'])
  assert.deepEqual(await guest({ ...write, data: 'A-_=' }), [400, 'validation-failed', '/data'])
  assert.deepEqual(await guest({ ...write, data: 'AA==', length: 2 }), [400, 'length-mismatch', '/length'])
  const full = Buffer.alloc(65536).toString('base64')
  assert.equal((await guest({ ...write, data: full }))[0], 200)
  const over = Buffer.alloc(65537).toString('base64')
  assert.deepEqual(await guest({ ...write, data: over }), [400, 'data-too-long', '/data'])
  const host = async (body: object) => gist(await send('POST', `/v1/vms/${vm}/host-accesses`, { as: 'user', ...body }))
  assert.deepEqual(await host({ kind: 'read' }), [400, 'gpa-or-hpa', '/gpa'])
  assert.deepEqual(await host({ kind: 'read', gpa: 0, hpa: 0 }), [400, 'gpa-or-hpa', '/gpa'])
  assert.deepEqual(await host({ kind: 'execute', gpa: 0 }), [400, 'validation-failed', '/kind'])
})

test('in manual mode a request waits until the VMM has converted and resumes it', async (t) => {
  const { send, get, post, machine } = await service(t)
  const { vm, memfile } = await machine({ conversion: 'manual' })
  const asked = { entries: [{ gpa: '0x100000', pages: 16, operation: 'private' }] }
  const waiting = await post(`/v1/vms/${vm}/page-states`, asked)
  assert.deepEqual([waiting.completed, waiting.entries[0].status.name], [0, 'NOT_PROCESSED'])
  const { items } = await get(`/v1/vms/${vm}/exits`)
  assert.deepEqual(items, [waiting.waiting])
  const [exit] = items
  assert.deepEqual([exit.reason, exit.gpa, exit.length, exit.private], ['KVM_EXIT_HYPERCALL', '0x100000', 65536, true])
  assert.equal(exit.hypercall.nr, 12)
  assert.deepEqual(await get(`/v1/vms/${vm}/exits/${exit.id}`), exit)
  const busy = await send('POST', `/v1/vms/${vm}/page-states`, asked)
  assert.deepEqual([...gist(busy), busy.body.currentState], [409, 'vcpu-waiting', null, 'waiting'])
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0x100000, length: 65536 })
  const resumed = await post(`/v1/vms/${vm}/exits/${exit.id}/resume`)
  assert.deepEqual([resumed.exit, resumed.ret, resumed.result.completed], [exit.id, 0, 1])
  assert.equal(resumed.result.entries[0].status.name, 'SUCCESS')
  assert.deepEqual((await get(`/v1/vms/${vm}/exits`)).items, [])
  assert.deepEqual(gist(await send('POST', `/v1/vms/${vm}/exits/${exit.id}/resume`)), [404, 'no-such-exit', null])
})

test('the VMM may refuse, by name, by number or in short', async (t) => {
  const { send, post, machine } = await service(t)
  const { vm } = await machine({ conversion: 'manual' })
  const answered = async (answer: object) => {
    const { waiting } = await post(`/v1/vms/${vm}/page-states`, { entries: [{ gpa: 0, operation: 'private' }] })
    const { ret, result } = await post(`/v1/vms/${vm}/exits/${waiting.id}/resume`, answer)
    return [ret, result.completed, result.entries[0].status.code]
  }
  assert.deepEqual(await answered({ ret: 'EAGAIN' }), [-11, 0, -11])
  assert.deepEqual(await answered({ ret: -12 }), [-12, 0, -12])
  assert.deepEqual(await answered({ refuse: true }), [-22, 0, -22])
  const refused = async (body: object) => gist(await send('POST', `/v1/vms/${vm}/exits/exit-1/resume`, body))
  assert.deepEqual(await refused({ ret: 1 }), [400, 'validation-failed', '/ret'])
  assert.deepEqual(await refused({ ret: 'EWHAT' }), [400, 'validation-failed', '/ret'])
  assert.deepEqual(await refused({ ret: 0, refuse: true }), [400, 'ret-or-refuse', '/refuse'])
  assert.deepEqual(await refused({ refuse: false }), [400, 'validation-failed', '/refuse'])
})

for (const [kind, by] of [
  ['mappings', {}],
  ['pins', { by: 'vfio' }],
] as const) {
  test(`${kind} are made, listed and dropped`, async (t) => {
    const { send, get, remove, machine } = await service(t)
    const { vm } = await machine()
    const url = `/v1/vms/${vm}/${kind}`
    const made = await send('POST', url, { gpa: '0x1000', length: '8KiB', ...by })
    assert.equal(made.status, 201, made.text)
    const { seq, ...item } = made.body
    assert.deepEqual(item, { id: item.id, gpa: '0x1000', length: 8192, ...by })
    assert.equal(made.headers.location, `${url}/${item.id}`)
    assert.ok(seq > 0)
    assert.deepEqual((await get(url)).items, [item])
    assert.equal((await remove(`${url}/${item.id}`)).id, item.id)
    assert.equal((await remove(`${url}/${item.id}`, 404)).code, `no-such-${kind.slice(0, -1)}`)
    const refused = async (body: object) => gist(await send('POST', url, body))
    assert.deepEqual(await refused({ gpa: 1, length: 4096 }), [400, 'gpa-unaligned', '/gpa'])
    assert.deepEqual(await refused({ gpa: '0x80000000', length: 4096 }), [422, 'not-shared-memory', 'EFAULT'])
    assert.deepEqual(await refused({ gpa: 0, length: '8GiB' }), [422, 'range-too-long', 'EINVAL'])
  })
}

test('private memory that the host cannot map is ENODEV', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const answer = await send('POST', `/v1/vms/${vm}/mappings`, { gpa: 0, length: 4096, memory: 'private' })
  assert.deepEqual(gist(answer), [422, 'memory-not-mappable', 'ENODEV'])
})
