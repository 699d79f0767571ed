import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

test('a memslot is created, read, changed by its own rules, deleted', async (t) => {
  const { send, get, remove, machine } = await service(t)
  const { vm, memfile } = await machine()
  const url = `/v1/vms/${vm}/memslots/7`
  const body = { gpa: '0x100000000', size: '2MiB' }
  const made = await send('PUT', url, body)
  assert.deepEqual([made.status, made.body.change, made.headers.location], [201, 'created', url])
  assert.match(made.body.shared.hva, /^0x/)
  const read = await send('GET', url)
  const { seq, change, ...slot } = made.body
  assert.deepEqual(read.body, slot)
  assert.equal(read.headers.etag, made.headers.etag)
  assert.equal(seq, slot.revision)
  const logged = await send('PUT', url, { ...body, shared: { hva: slot.shared.hva }, dirtyLog: true })
  assert.deepEqual([logged.status, logged.body.change, logged.body.dirtyLog], [200, 'changed', true])
  assert.equal((await get(`/v1/vms/${vm}/memslots`)).items.length, 2)
  assert.equal((await send('PUT', url, { ...body, size: 0 })).body.change, 'deleted')
  await get(url, 404)
  const gone = await remove(`/v1/vms/${vm}/memslots/0`)
  assert.deepEqual([gone.slot, gone.memfile], [0, memfile])
  assert.deepEqual((await get(`/v1/vms/${vm}/memslots`)).items, [])
})

test('a bad memslot gets the errno of the kernel', async (t) => {
  const { send, machine } = await service(t)
  const { vm, memfile } = await machine()
  const put = async (slot: number | string, body: object) =>
    gist(await send('PUT', `/v1/vms/${vm}/memslots/${slot}`, body))
  const range = { gpa: '0x100000000', size: 4096 }
  assert.deepEqual(await put(1, { gpa: '0x1000', size: 4096 }), [422, 'slot-overlaps', 'EEXIST'])
  assert.deepEqual(await put(1, { ...range, gpa: 4097 }), [422, 'gpa-unaligned', 'EINVAL'])
  assert.deepEqual(await put(1, { ...range, size: 1 }), [422, 'size-unaligned', 'EINVAL'])
  assert.deepEqual(await put(1, { ...range, gpa: '0xfffffffffffff000' }), [422, 'gpa-wraps', 'EINVAL'])
  assert.deepEqual(await put(1, { ...range, memfile: 'memfile-0' }), [422, 'no-such-memfile', 'EBADF'])
  assert.deepEqual(await put(1, { ...range, memfile, readOnly: true }), [422, 'flags-conflict', 'EINVAL'])
  assert.deepEqual(await put(1, { ...range, memfile, memfileOffset: 1 }), [422, 'memfile-offset-unaligned', 'EINVAL'])
  assert.deepEqual(await put(32764, range), [422, 'slot-out-of-range', 'EINVAL'])
  assert.deepEqual(await put(1, { ...range, memfileOffset: 0 }), [400, 'offset-without-memfile', '/memfileOffset'])
  assert.deepEqual(await put(1, { ...range, shared: { at: 1 } }), [400, 'validation-failed', '/shared/at'])
  assert.deepEqual(await put('01', range), [400, 'validation-failed', '/slot'])
  const inPath = await send('PUT', `/v1/vms/${vm}/memslots/32764`, range)
  assert.deepEqual(inPath.body.errors[0].in, 'path')
})
