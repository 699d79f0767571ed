import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import Type from 'typebox'
import * as limits from '../../src/routes/limits.ts'
import type { App } from '../../src/server/app.ts'
import { documented, testApp } from '../support/app.ts'

const Text = Type.Object({ text: Type.String() }, { additionalProperties: false })
const Small = Type.Object({ length: Type.Integer() }, { additionalProperties: false })

function routes(app: App): void {
  const handler = ({ body }: { body: { text: string } }) => ({ length: body.text.length })
  app.post('/small', { schema: { ...documented('small'), body: Text, response: { 200: Small } } }, handler)
  const bulk = { ...documented('bulk'), body: Text, response: { 200: Small } }
  app.post('/bulk', { bodyLimit: limits.BULK_BODY_BYTES, schema: bulk }, handler)
  const Id = Type.Object({ id: Type.String() })
  const item = { ...documented('item'), params: Id, response: { 200: Id } }
  app.get('/items/:id', { schema: item }, ({ params }) => params)
}

async function listening(t: TestContext): Promise<number> {
  const app = await testApp(t, { registerRoutes: routes })
  await app.listen({ port: 0, host: '127.0.0.1' })
  const address = app.server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** Everything that comes back for bytes sent raw. */
async function raw(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.write(bytes)
  return text(socket)
}

const bodyOf = (bytes: number): string => JSON.stringify({ text: 'x'.repeat(bytes - '{"text":""}'.length) })

for (const [url, bytes] of [
  ['/small', limits.BODY_BYTES],
  ['/bulk', limits.BULK_BODY_BYTES],
] as const) {
  test(`${url} takes ${bytes} bytes and refuses one more`, async (t) => {
    const app = await testApp(t, { registerRoutes: routes })
    const headers = { 'content-type': 'application/json' }
    const post = (size: number) => app.inject({ method: 'POST', url, headers, payload: bodyOf(size) })
    assert.equal((await post(bytes)).statusCode, 200)
    const over = await post(bytes + 1)
    assert.deepEqual([over.statusCode, over.json().code], [413, 'body-too-large'])
  })
}

test('URL and path parameter are bounded', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const get = async (url: string) => (await app.inject({ url })).statusCode
  assert.equal(await get(`/nope?${'x'.repeat(limits.URL_BYTES - 6)}`), 404)
  assert.equal(await get(`/nope?${'x'.repeat(limits.URL_BYTES - 5)}`), 414)
  assert.equal(await get(`/items/${'x'.repeat(limits.PARAM_CHARACTERS)}`), 200)
  assert.equal(await get(`/items/${'x'.repeat(limits.PARAM_CHARACTERS + 1)}`), 414)
})

test('headers are bounded', async (t) => {
  const port = await listening(t)
  const request = (size: number) =>
    raw(port, `GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\nX-Long: ${'x'.repeat(size)}\r\n\r\n`)
  assert.match(await request(limits.HEADER_BYTES - 200), /^HTTP\/1\.1 200 /)
  const over = await request(limits.HEADER_BYTES)
  assert.match(over, /^HTTP\/1\.1 431 /)
  assert.equal(JSON.parse(over.slice(over.indexOf('{'))).code, 'headers-too-large')
})

for (const [name, bytes] of Object.entries({
  'not HTTP': 'hello\r\n\r\n',
  'a NUL in a header': 'GET / HTTP/1.1\r\nHost: x\r\nA: \0\r\n\r\n',
  'both lengths': 'POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n',
  'two lengths': 'POST /small HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nContent-Length: 3\r\n\r\n{}',
  'a bad chunk':
    'POST /small HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n',
  'HTTP/0.9': 'GET /healthz\r\n\r\n',
})) {
  test(`${name} is answered 400 with a problem document`, async (t) => {
    const reply = await raw(await listening(t), bytes)
    assert.match(reply, /^HTTP\/1\.1 400 .*\r\n/)
    assert.match(reply, /application\/problem\+json/)
    assert.equal(JSON.parse(reply.slice(reply.indexOf('{'))).code, 'malformed-request')
  })
}

test('a client beyond the rate is told when to go on, on unknown paths too', async (t) => {
  const app = await testApp(t, { registerRoutes: routes, rateLimit: { requests: 2, windowMs: 60_000 } })
  const get = () => app.inject({ url: '/nope' })
  assert.equal((await get()).statusCode, 404)
  assert.equal((await get()).statusCode, 404)
  const over = await get()
  assert.deepEqual([over.statusCode, over.json().code], [429, 'rate-limited'])
  assert.ok(Number(over.headers['retry-after']) >= 1)
  assert.equal((await app.inject({ url: '/items/a' })).statusCode, 429)
})

test('the time-outs are set', async (t) => {
  const { server } = await testApp(t)
  assert.equal(server.headersTimeout, limits.HEADERS_TIMEOUT_MS)
  assert.equal(server.requestTimeout, limits.REQUEST_TIMEOUT_MS)
  assert.equal(server.keepAliveTimeout, limits.KEEP_ALIVE_TIMEOUT_MS)
  assert.equal(server.timeout, limits.CONNECTION_TIMEOUT_MS)
  assert.equal(server.maxConnections, limits.CONNECTIONS)
})

test('slow headers are cut with 408', async (t) => {
  const app = await testApp(t)
  app.server.headersTimeout = 200
  app.server.requestTimeout = 300
  await app.listen({ port: 0, host: '127.0.0.1' })
  const address = app.server.address()
  const start = performance.now()
  const reply = await raw(typeof address === 'object' && address !== null ? address.port : 0, 'GET / HTTP/1.1\r\nHo')
  assert.match(reply, /^HTTP\/1\.1 408 /)
  assert.ok(performance.now() - start < 200 + 2 * limits.TIMEOUT_CHECK_MS)
})
