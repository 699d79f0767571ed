import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gist, service } from '../support/service.ts'

const ROUNDS = 1000
const WRITERS = 4

test('with If-Match exactly one of several writers wins, every time', async (t) => {
  const { send, machine } = await service(t)
  const { vm } = await machine()
  let { etag } = (await send('GET', `/v1/vms/${vm}`)).headers
  for (let round = 0; round < ROUNDS; round++) {
    const operation = round % 2 === 0 ? 'private' : 'shared'
    const change = { entries: [{ gpa: '0x0', operation }] }
    const write = () => send('POST', `/v1/vms/${vm}/page-states`, change, { 'if-match': etag })
    const answers = await Promise.all(Array.from({ length: WRITERS }, write))
    const [winner, ...more] = answers.filter(({ status }) => status === 200)
    assert.deepEqual([more.length, winner === undefined], [0, false], `round ${round}`)
    for (const { status } of answers) assert.ok(status === 200 || status === 412)
    etag = winner?.headers.etag
  }
})

test('what carries an ETag honours If-Match', async (t) => {
  const { send, machine } = await service(t)
  const { vm, memfile } = await machine()
  const stale = { 'if-match': '"1"' }
  const range = { offset: 0, length: 4096 }
  const requests = [
    ['POST', `/v1/memfiles/${memfile}/fallocate`, range],
    ['POST', `/v1/memfiles/${memfile}/punch-hole`, range],
    ['POST', `/v1/memfiles/${memfile}/bind`, { vm }],
    ['DELETE', `/v1/memfiles/${memfile}`, undefined],
    ['PUT', `/v1/vms/${vm}/memslots/0`, { gpa: 0, size: 0 }],
    ['PUT', `/v1/vms/${vm}/memslots/9`, { gpa: '0x80000000', size: 4096 }],
    ['DELETE', `/v1/vms/${vm}/memslots/0`, undefined],
    ['POST', `/v1/vms/${vm}/page-states`, { entries: [{ gpa: 0, operation: 'private' }] }],
    ['POST', `/v1/vms/${vm}/vcpus/0/accesses`, { gpa: 0, kind: 'read' }],
    ['DELETE', `/v1/vms/${vm}`, undefined],
  ] as const
  for (const [method, url, body] of requests) {
    assert.deepEqual(gist(await send(method, url, body, stale)), [412, 'precondition-failed', null], `${method} ${url}`)
  }
  const bad = await send('DELETE', `/v1/vms/${vm}`, undefined, { 'if-match': 'W/"1"' })
  assert.deepEqual(gist(bad), [400, 'validation-failed', '/if-match'])
  for (const url of [`/v1/memfiles/${memfile}/fallocate`, `/v1/memfiles/${memfile}/punch-hole`]) {
    const { etag } = (await send('GET', `/v1/memfiles/${memfile}`)).headers
    const done = await send('POST', url, range, { 'if-match': etag })
    assert.equal(done.status, 200)
    assert.equal(done.headers.etag, (await send('GET', `/v1/memfiles/${memfile}`)).headers.etag)
    assert.notEqual(done.headers.etag, etag)
  }
  assert.equal((await send('DELETE', `/v1/vms/${vm}`, undefined, { 'if-match': '*' })).status, 200)
})
