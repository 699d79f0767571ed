import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

const entry = (gpa: unknown, more: object = {}) => ({ gpa, operation: 'shared', ...more })

test('entries are answered one by one, with the exits they caused', async (t) => {
  const { post, machine } = await service(t)
  const { vm } = await machine()
  const entries = [
    { gpa: '0x100000', pages: 2, operation: 'private' },
    { gpa: 0x200000, pageSize: '2M', operation: 'private' },
    { gpa: '0x100000', operation: 'shared' },
  ]
  const changed = await post(`/v1/vms/${vm}/page-states`, { entries })
  assert.equal(changed.completed, 3)
  assert.deepEqual(changed.entries, Array(3).fill({ status: { name: 'SUCCESS', code: 0 } }))
  assert.deepEqual(
    changed.exits.map((exit: Record<string, unknown>) => [exit.reason, exit.gpa, exit.length, exit.private, exit.ret]),
    [
      ['KVM_EXIT_HYPERCALL', '0x100000', 8192, true, 0],
      ['KVM_EXIT_HYPERCALL', '0x200000', 2097152, true, 0],
      ['KVM_EXIT_HYPERCALL', '0x100000', 4096, false, 0],
    ],
  )
})

test('a malformed entry is named', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const ok = entry('0x0')
  const refused = async (...entries: unknown[]) => gist(await send('POST', `/v1/vms/${vm}/page-states`, { entries }))
  assert.deepEqual(await refused(ok, ok, ok, entry('0x1001')), [400, 'misaligned-address', '/entries/3/gpa'])
  assert.deepEqual(await refused(ok, entry('0x10000000000000')), [400, 'gpa-beyond-limit', '/entries/1/gpa'])
  assert.deepEqual(await refused(entry('0xfffffffffffff000')), [400, 'gpa-beyond-limit', '/entries/0/gpa'])
  assert.deepEqual(await refused(entry('0xffffffffff000', { pages: 2 })), [400, 'gpa-beyond-limit', '/entries/0/pages'])
  const invalid = (pointer: string) => [400, 'validation-failed', pointer]
  assert.deepEqual(await refused(entry('0X10')), invalid('/entries/0/gpa'))
  assert.deepEqual(await refused(entry(-4096)), invalid('/entries/0/gpa'))
  assert.deepEqual(await refused(entry('0x0', { pages: 0 })), invalid('/entries/0/pages'))
  assert.deepEqual(await refused(entry('0x0', { pages: 2 ** 28 + 1 })), invalid('/entries/0/pages'))
  assert.deepEqual(await refused(entry('0x0', { pageSize: '4k' })), invalid('/entries/0/pageSize'))
  assert.deepEqual(await refused(entry('0x0', { operation: 'x' })), invalid('/entries/0/operation'))
  assert.deepEqual(await refused(entry('0x0', { x: 1 })), invalid('/entries/0/x'))
  assert.deepEqual(await refused(), invalid('/entries'))
})

test('a thousand entries pass and one more does not', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const batch = (count: number) => ({ entries: Array.from({ length: count }, (_, i) => entry(i * 4096)) })
  assert.equal((await send('POST', `/v1/vms/${vm}/page-states`, batch(1000))).status, 200)
  assert.equal((await send('POST', `/v1/vms/${vm}/page-states`, batch(1001))).status, 400)
})

test('an unknown vCPU is a bad field', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  const answer = await send('POST', `/v1/vms/${vm}/page-states`, { vcpu: 3, entries: [entry('0x0')] })
  assert.deepEqual(gist(answer), [400, 'no-such-vcpu', '/vcpu'])
})

test('the page map is runs: now, in a window, in pages of the list, and as it was', async (t) => {
  const { get, post, remove, machine } = await service(t)
  const { vm } = await machine({}, '4MiB')
  const before = (await post(`/v1/vms/${vm}/page-states`, { entries: [entry('0x0')] })).seq
  for (const gpa of ['0x10000', '0x30000', '0x200000']) {
    await post(`/v1/vms/${vm}/page-states`, { entries: [{ gpa, pages: 4, operation: 'private' }] })
  }
  const url = `/v1/vms/${vm}/page-states`
  const shape = ({ items }: { items: Record<string, unknown>[] }) =>
    items.map((run) => [run.gpa, run.length, run.visibility])
  const all = [
    ['0x0', 65536, 'shared'],
    ['0x10000', 16384, 'private'],
    ['0x14000', 114688, 'shared'],
    ['0x30000', 16384, 'private'],
    ['0x34000', 1884160, 'shared'],
    ['0x200000', 16384, 'private'],
    ['0x204000', 2080768, 'shared'],
  ]
  const now = await get(url)
  assert.deepEqual(shape(now), all)
  assert.deepEqual(now.items[1].backing, { private: true, shared: false })
  assert.deepEqual(shape(await get(`${url}?gpa=0x11000&length=8KiB`)), [['0x11000', 8192, 'private']])
  assert.deepEqual(shape(await get(`${url}?gpa=0x10000000&length=4096`)), [['0x10000000', 4096, 'shared']])
  const first = await get(`${url}?limit=4`)
  assert.deepEqual(shape(first), all.slice(0, 4))
  assert.deepEqual(shape(await get(`${url}?limit=4&cursor=${first.nextCursor}`)), all.slice(4))
  assert.deepEqual(shape(await get(`${url}?at=${before}`)), [['0x0', 4194304, 'shared']])
  assert.equal((await get(`${url}?at=2`, 404)).code, 'no-such-vm')
  assert.equal((await get(`${url}?at=999`, 400)).code, 'out-of-range')
  for (const query of [
    'gpa=1',
    'gpa=0x10000000001000',
    'length=0',
    'length=1',
    'gpa=x',
    'gpa=0xffffffffff000&length=8192',
  ]) {
    await get(`${url}?${query}`, 400)
  }
  await remove(`/v1/vms/${vm}`)
  await get(url, 404)
  assert.deepEqual(shape(await get(`${url}?at=${before}`)), [['0x0', 4194304, 'shared']])
})

test('attributes need their privacy model', async (t) => {
  const { send, get, put, machine } = await service(t)
  const body = { gpa: '0x100000', length: '2MiB', attributes: ['private'] }
  const { vm } = await machine({ privacy: 'attributes' })
  const set = await put(`/v1/vms/${vm}/attributes`, body)
  assert.ok(set.seq > 0)
  const { items } = await get(`/v1/vms/${vm}/page-states?gpa=0x100000&length=4MiB`)
  assert.deepEqual(
    items.map((run: Record<string, unknown>) => [run.visibility, run.length]),
    [
      ['private', 2097152],
      ['shared', 2097152],
    ],
  )
  const refused = async (more: object) => gist(await send('PUT', `/v1/vms/${vm}/attributes`, { ...body, ...more }))
  assert.deepEqual(await refused({ gpa: 1 }), [422, 'gpa-unaligned', 'EINVAL'])
  assert.deepEqual(await refused({ length: 0 }), [422, 'length-zero', 'EINVAL'])
  assert.deepEqual(await refused({ attributes: ['read'] }), [400, 'validation-failed', '/attributes/0'])
  const other = await machine()
  assert.deepEqual(gist(await send('PUT', `/v1/vms/${other.vm}/attributes`, body)), [
    422,
    'no-memory-attributes',
    'ENOTTY',
  ])
})

test('accounting and explanation say where memory is and why', async (t) => {
  const { get, post, machine } = await service(t)
  const { vm, memfile } = await machine()
  await post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: '0x1000', kind: 'write', data: 'AA==' })
  await post(`/v1/memfiles/${memfile}/fallocate`, { offset: 0, length: 8192 })
  await post(`/v1/vms/${vm}/pins`, { gpa: '0x1000', length: 4096 }, 201)
  const accounting = await get(`/v1/vms/${vm}/accounting`)
  assert.deepEqual(accounting, {
    private: 8192,
    shared: 4096,
    both: 4096,
    pinned: 4096,
    metadata: 0,
    slots: [{ slot: 0, private: 8192, shared: 4096, both: 4096 }],
  })
  const page = await get(`/v1/vms/${vm}/pages/0x1abc`)
  assert.deepEqual([page.gpa, page.slot, page.visibility, page.owner], ['0x1000', 0, 'private', 'guest'])
  assert.deepEqual(page.memfile, { id: memfile, offset: 4096 })
  assert.equal(page.hpa, page.privateHpa)
  assert.notEqual(page.sharedHpa, null)
  assert.equal(page.pins.length, 1)
  assert.deepEqual(
    page.history.map(({ type }: { type: string }) => type),
    ['pin.create', 'memfile.fallocate', 'access', 'memslot.set'],
  )
  await get(`/v1/vms/${vm}/pages/0x10000000000000`, 400)
  await get(`/v1/vms/${vm}/pages/-1`, 400)
})
