import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

test('a memfile is unbound, bound once, released', async (t) => {
  const { send, get, post, remove } = await service(t)
  const made = await send('POST', '/v1/memfiles', { size: '2MiB', name: 'ram' })
  const { id } = made.body
  assert.deepEqual([made.status, made.body.state, made.body.vm], [201, 'unbound', null])
  assert.deepEqual([made.body.size, made.body.pageSize, made.body.allocated], [2097152, 4096, 0])
  const range = { offset: 0, length: 4096 }
  assert.deepEqual(gist(await send('POST', `/v1/memfiles/${id}/fallocate`, range)), [409, 'memfile-unbound', null])
  assert.deepEqual(gist(await send('POST', `/v1/memfiles/${id}/bind`, { vm: 'vm-0' })), [404, 'no-such-vm', null])
  const vm = (await post('/v1/vms', { technology: 'sw-protected' }, 201)).id
  assert.equal((await post(`/v1/memfiles/${id}/bind`, { vm })).vm, vm)
  const again = await send('POST', `/v1/memfiles/${id}/bind`, { vm })
  assert.deepEqual([...gist(again), again.body.currentState], [409, 'memfile-not-unbound', null, 'bound'])
  await remove(`/v1/vms/${vm}`)
  assert.equal((await get(`/v1/memfiles/${id}`)).state, 'released')
  await remove(`/v1/memfiles/${id}`)
  assert.deepEqual(gist(await send('GET', `/v1/memfiles/${id}`)), [404, 'no-such-memfile', null])
  assert.deepEqual(gist(await send('POST', `/v1/memfiles/${id}/fallocate`, range)), [404, 'no-such-memfile', null])
})

test('an unplaced memfile moves to the host of its VM; a placed one does not', async (t) => {
  const { send, get, post } = await service(t)
  const vms = {
    'sw-protected': (await post('/v1/vms', { technology: 'sw-protected' }, 201)).id,
    'sev-snp': (await post('/v1/vms', { technology: 'sev-snp' }, 201)).id,
  }
  for (const [technology, vm] of Object.entries(vms)) {
    const memfile = await post('/v1/memfiles', { size: 4096, name: technology }, 201)
    const bound = await send('POST', `/v1/memfiles/${memfile.id}/bind`, { vm })
    assert.deepEqual([bound.body.technology, bound.body.name, bound.body.vm], [technology, technology, vm])
    assert.equal(bound.headers.etag, `"${bound.body.revision}"`)
    assert.equal((await get(`/v1/memfiles/${memfile.id}`)).host, technology)
  }
  assert.equal((await get('/v1/memfiles')).items.length, 2)
  assert.equal((await get(`/v1/memfiles?vm=${vms['sev-snp']}`)).items.length, 1)
  const placed = await post('/v1/memfiles', { size: 4096, technology: 'sw-protected' }, 201)
  const refused = await send('POST', `/v1/memfiles/${placed.id}/bind`, { vm: vms['sev-snp'] })
  assert.deepEqual(gist(refused), [422, 'memfile-on-other-host', 'EINVAL'])
  assert.equal((await post(`/v1/memfiles/${placed.id}/bind`, { vm: vms['sw-protected'] })).state, 'bound')
  // Bound already, so where it may go is no question.
  assert.equal((await send('POST', `/v1/memfiles/${placed.id}/bind`, { vm: vms['sev-snp'] })).status, 409)
})

test('what a new memfile may not be', async (t) => {
  const { send } = await service(t)
  const refused = async (body: object) => gist(await send('POST', '/v1/memfiles', body))
  assert.deepEqual(await refused({}), [400, 'validation-failed', '/size'])
  assert.deepEqual(await refused({ size: -1 }), [400, 'validation-failed', '/size'])
  assert.deepEqual(await refused({ size: '99999999999TiB' }), [400, 'size-out-of-range', '/size'])
  assert.deepEqual(await refused({ size: 0 }), [422, 'bad-memfile-size', 'EINVAL'])
  assert.deepEqual(await refused({ size: 4097 }), [422, 'bad-memfile-size', 'EINVAL'])
  assert.deepEqual(await refused({ size: 4096, pageSize: 2097152 }), [422, 'bad-memfile-size', 'EINVAL'])
  assert.deepEqual(await refused({ size: '0x8000000000000000' }), [422, 'bad-memfile-size', 'EINVAL'])
  assert.deepEqual(await refused({ size: 4096, pageSize: 8192 }), [400, 'validation-failed', '/pageSize'])
  assert.deepEqual(await refused({ size: 4096, technology: 'x' }), [400, 'no-such-technology', '/technology'])
  assert.deepEqual(await refused({ size: 4096, host: 'x' }), [404, 'no-such-host', null])
})

test('a file longer than what JSON readers keep is given with all its digits', async (t) => {
  const { send } = await service(t)
  const made = await send('POST', '/v1/memfiles', { size: '0x7ffffffffffff000' })
  assert.equal(made.status, 201)
  assert.match(made.text, /"size":9223372036854771712,/)
  assert.match((await send('GET', `/v1/memfiles/${made.body.id}`)).text, /"size":9223372036854771712,/)
})

test('ranges go to the kernel as they are, and its errno comes back', async (t) => {
  const { send, post, machine } = await service(t)
  const { memfile } = await machine({}, '2MiB')
  const at = async (operation: string, offset: unknown, length: unknown) =>
    gist(await send('POST', `/v1/memfiles/${memfile}/${operation}`, { offset, length }))
  for (const operation of ['fallocate', 'punch-hole']) {
    assert.deepEqual(await at(operation, 1, 4096), [422, 'offset-unaligned', 'EINVAL'])
    assert.deepEqual(await at(operation, 0, 4095), [422, 'length-unaligned', 'EINVAL'])
    assert.deepEqual(await at(operation, -4096, 4096), [422, 'offset-negative', 'EINVAL'])
    assert.deepEqual(await at(operation, 0, -4096), [422, 'length-not-positive', 'EINVAL'])
    assert.deepEqual(await at(operation, 0, 0), [422, 'length-not-positive', 'EINVAL'])
    assert.deepEqual(await at(operation, '0x7ffffffffffff000', '0x1000'), [422, 'range-too-big', 'EFBIG'])
    assert.deepEqual(await at(operation, '0xffffffffffffffff', 4096), [422, 'offset-negative', 'EINVAL'])
    assert.deepEqual(await at(operation, '4 KiB', 4096), [400, 'validation-failed', '/offset'])
    assert.deepEqual(await at(operation, 1.5, 4096), [400, 'validation-failed', '/offset'])
  }
  assert.deepEqual(await at('fallocate', '2MiB', 4096), [422, 'beyond-end', 'EINVAL'])
  const freed = await post(`/v1/memfiles/${memfile}/punch-hole`, { offset: '4MiB', length: 4096 })
  assert.equal(freed.freedBytes, 0)
})

test('extents are the populated runs, page by page', async (t) => {
  const { get, post, machine } = await service(t)
  const { memfile } = await machine()
  for (const offset of [0, 16384, 65536]) await post(`/v1/memfiles/${memfile}/fallocate`, { offset, length: 4096 })
  const all = await get(`/v1/memfiles/${memfile}/extents`)
  assert.deepEqual(
    all.items.map(({ offset, length }: { offset: number; length: number }) => [offset, length]),
    [
      [0, 4096],
      [16384, 4096],
      [65536, 4096],
    ],
  )
  const first = await get(`/v1/memfiles/${memfile}/extents?limit=2`)
  const second = await get(`/v1/memfiles/${memfile}/extents?limit=2&cursor=${first.nextCursor}`)
  assert.deepEqual([...first.items, ...second.items], all.items)
  assert.equal(second.nextCursor, null)
  const other = Buffer.from('no number').toString('base64url')
  assert.equal((await get(`/v1/memfiles/${memfile}/extents?cursor=${other}`, 400)).code, 'invalid-cursor')
})

test('every consumer of a memfile must give the same flags', async (t) => {
  const { send, post, machine } = await service(t)
  const { memfile } = await machine()
  const url = `/v1/memfiles/${memfile}/consumers`
  const flags = ['USER_INACCESSIBLE', 'UNMOVABLE', 'UNRECLAIMABLE']
  assert.equal((await post(url, { name: 'vfio', flags }, 201)).consumers.length, 2)
  assert.deepEqual(gist(await send('POST', url, { name: 'x', flags: ['UNMOVABLE'] })), [
    422,
    'notifier-flags-conflict',
    'EINVAL',
  ])
  assert.deepEqual(gist(await send('POST', url, { name: 'vfio', flags })), [422, 'consumer-exists', 'EEXIST'])
  assert.deepEqual(gist(await send('POST', url, { name: 'y', flags: ['BAD'] })), [400, 'validation-failed', '/flags/0'])
})

test('memory that runs out half-way stays, and the refusal says how far it went', async (t) => {
  const { get, send, post } = await service(t)
  await post('/v1/hosts', { name: 'small', technology: 'sw-protected', memory: '16MiB' }, 201)
  const vm = (await post('/v1/vms', { technology: 'sw-protected', host: 'small' }, 201)).id
  const memfile = (await post('/v1/memfiles', { size: '64MiB' }, 201)).id
  await post(`/v1/memfiles/${memfile}/bind`, { vm })
  const range = { offset: 0, length: '64MiB' }
  const key = { 'idempotency-key': 'half' }
  const half = await send('POST', `/v1/memfiles/${memfile}/fallocate`, range, key)
  assert.deepEqual(gist(half), [422, 'out-of-memory', 'ENOMEM'])
  const { allocated } = await get(`/v1/memfiles/${memfile}`)
  assert.ok(allocated > 0)
  assert.deepEqual(
    [half.body.progress.populatedBytes, half.body.progress.seq],
    [allocated, Number(half.headers['gmemd-seq'])],
  )
  const again = await send('POST', `/v1/memfiles/${memfile}/fallocate`, range, key)
  assert.equal(again.headers['idempotency-replayed'], 'true')
  assert.deepEqual({ ...again.body, requestId: half.body.requestId }, half.body)
})
