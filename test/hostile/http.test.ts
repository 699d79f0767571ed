import assert from 'node:assert/strict'
import { once } from 'node:events'
import { connect } from 'node:net'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { CURSOR_CHARACTERS, HEADER_BYTES, IDEMPOTENCY_KEY_CHARACTERS, URL_BYTES } from '../../src/routes/limits.ts'
import { operationsOf } from '../support/grammar.ts'
import { assertReplays, attack } from '../support/grammar-attack.ts'
import { httpClient } from '../support/process.ts'
import { type Service, service } from '../support/service.ts'

// Paths, ids, methods, headers and cursors as nobody should send them.

const IDS: readonly string[] = [
  ...['nope', '0', '-1', 'vm-', 'vm-0', 'VM-3', 'vm-3%00', 'vm-3%20', '%20vm-3', 'vm%2d3', 'null', 'undefined', 'true'],
  ...[
    '..',
    '.',
    '%2e%2e',
    '..%2f..%2fetc%2fpasswd',
    '%2e%2e%2f',
    '..%5c..%5c',
    '%2f',
    '%252e%252e',
    'a%2fb',
    ';',
    '%23',
    '%3f',
  ],
  ...[
    '__proto__',
    'constructor',
    'prototype',
    'toString',
    'hasOwnProperty',
    '%00',
    '%0d%0aX:1',
    '%ff',
    '%c0%af',
    '%e4%bd',
  ],
  ...['x'.repeat(128), 'x'.repeat(129), 'x'.repeat(1500), '%F0%9F%98%80', '*', '{vm}', ':vm', '$', "'%20or%20'1'='1"],
]

test('ids that are none of ours, at every path', async (t) => {
  const all = await service(t)
  for (const { method, path, forms, takesBytes } of operationsOf(all.app)) {
    if (!path.includes('{')) continue
    for (const id of IDS) {
      const url = path.replace(/\{\w+\}/g, () => id)
      const bytes = { payload: Buffer.alloc(16), headers: { 'content-type': 'application/octet-stream' } }
      const outcome = await attack(all, {
        method,
        url,
        ...(takesBytes ? bytes : forms.length > 0 ? { payload: {} } : {}),
      })
      assert.ok([400, 404, 405, 414].includes(outcome.status), `${method} ${url}: ${outcome.text}`)
    }
  }
  assertReplays(all)
})

async function listening(t: TestContext): Promise<{ all: Service; port: number; url: string }> {
  const all = await service(t)
  await all.app.listen({ port: 0, host: '127.0.0.1' })
  const address = all.app.server.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  return { all, port, url: `http://127.0.0.1:${port}` }
}

test('paths as they come over the wire', async (t) => {
  const { all, url } = await listening(t)
  const { vm } = await all.machine()
  const client = httpClient(url)
  t.after(client.close)
  const good = `/v1/vms/${vm}`
  assert.equal((await client.send({ method: 'GET', path: good })).status, 200)
  const tricks = [
    ...[`/v1/../v1/vms/${vm}`, `/v1/./vms/${vm}`, `//v1/vms/${vm}`, `/v1//vms/${vm}`, `${good}/`, `/V1/vms/${vm}`],
    ...[
      `${good}/..`,
      `${good}%00`,
      `${good};x=1`,
      `${good}%2f`,
      `/v1/vms%2f${vm}`,
      '/..%2f..%2fetc/passwd',
      '/%2e%2e/',
    ],
    ...[
      '/docs/..%2f..%2f..%2fetc%2fpasswd',
      '/docs/static/..%2f..%2fpackage.json',
      '/docs/static/%2e%2e/%2e%2e/package.json',
    ],
    ...['/.git/config', '/package.json', '/v1', '/', '/v1/vms/%', '/v1/vms/%zz', '/v1/vms/%c3%28', `${good}#x`],
  ]
  for (const path of tricks) {
    const { status, body } = await client.send({ method: 'GET', path })
    assert.ok([400, 404].includes(status), `${path}: ${status}`)
    assert.equal(typeof body.requestId, 'string', path)
  }
  for (const path of [
    `${good}?x=1`,
    `${good}?`,
    `${good}?vm=other`,
    `${good}?__proto__=1`,
    `${good}?a[]=1`,
    `${good}?%00`,
  ]) {
    const { status } = await client.send({ method: 'GET', path })
    assert.ok(path.endsWith('?') ? status === 200 : status === 400, `${path}: ${status}`)
  }
})

test('methods that a path does not take', async (t) => {
  const all = await service(t)
  const operations = operationsOf(all.app)
  const known = new Map<string, Set<string>>()
  for (const { path, method } of operations) known.set(path, (known.get(path) ?? new Set()).add(method))
  for (const [path, methods] of known) {
    const url = path.replace(/\{\w+\}/g, 'x')
    for (const method of ['GET', 'POST', 'PUT', 'DELETE', 'PATCH', 'OPTIONS']) {
      if (methods.has(method)) continue
      const outcome = await attack(all, { method, url })
      assert.deepEqual([outcome.status, outcome.body.code], [405, 'method-not-allowed'], `${method} ${url}`)
      for (const one of methods)
        assert.match(String(outcome.headers.allow), new RegExp(`\\b${one}\\b`), `${method} ${url}`)
    }
  }
})

/** Everything that comes back for bytes sent raw. */
async function raw(port: number, bytes: string): Promise<string> {
  const socket = connect(port, '127.0.0.1')
  await once(socket, 'connect')
  socket.on('error', () => {})
  socket.end(bytes)
  return text(socket)
}

test('methods and bytes that are hardly HTTP', async (t) => {
  const { all, port } = await listening(t)
  const before = all.engine.lastSeq
  const body = '{"technology":"sw-protected"}'
  const head = (line: string, headers: string): string => `${line}\r\nHost: x\r\nConnection: close\r\n${headers}\r\n`
  const post = (headers: string, sent = body): string =>
    `${head('POST /v1/vms HTTP/1.1', `Content-Type: application/json\r\n${headers}`)}${sent}`
  const requests = [
    ...['TRACE / HTTP/1.1', 'CONNECT x:1 HTTP/1.1', 'PROPFIND / HTTP/1.1', 'BREW /v1/vms HTTP/1.1'].map((line) =>
      head(line, ''),
    ),
    head('GET /v1/vms HTTP/9.9', ''),
    head(`GET /v1/vms\u0001 HTTP/1.1`, ''),
    post(`Content-Length: ${body.length}\r\nContent-Length: ${body.length + 1}\r\n`),
    post(`Content-Length: ${body.length}\r\nTransfer-Encoding: chunked\r\n`),
    post(`Content-Length: -1\r\n`),
    post(`Content-Length: 0x1d\r\n`),
    post(`Content-Length: 99999999999999999999\r\n`),
    post(`Transfer-Encoding: chunked, identity\r\n`, `1d\r\n${body}\r\n0\r\n\r\n`),
    post(`Transfer-Encoding: chunked\r\n`, `ffffffffffffffffff\r\n${body}\r\n0\r\n\r\n`),
    post(`Transfer-Encoding: chunked\r\n`, `1d;${'x'.repeat(20000)}\r\n${body}\r\n0\r\n\r\n`),
    post(`Transfer-Encoding: chunked\r\n`, `1d\n${body}\n0\n\n`),
    post(`Idempotency-Key: a\rb\r\nContent-Length: ${body.length}\r\n`),
    post(`Idempotency-Key: ${'\u00e9'}\r\nContent-Length: ${body.length}\r\n`),
    post(`X Bad: 1\r\nContent-Length: ${body.length}\r\n`),
  ]
  for (const request of requests) {
    const reply = await raw(port, request)
    assert.match(reply, /^HTTP\/1\.1 4\d\d |^$/, `${request.slice(0, 200)}\n${reply}`)
  }
  assert.equal(all.engine.lastSeq, before)
  assert.match(await raw(port, post(`Content-Length: ${body.length}\r\n`)), /^HTTP\/1\.1 201 /)
})

test('cursors and limits that no list gave', async (t) => {
  const all = await service(t)
  const { vm, memfile } = await all.machine()
  await all.machine()
  const encoded = (value: string): string => Buffer.from(value).toString('base64url')
  const cursors = [
    ...[
      '',
      ' ',
      'x',
      '=',
      'a=',
      '%00',
      '..',
      'bnVsbA==',
      '____',
      'x'.repeat(CURSOR_CHARACTERS),
      'x'.repeat(CURSOR_CHARACTERS + 1),
    ],
    ...[
      '-1',
      '1e9',
      '99999999999999999999',
      '9007199254740993',
      'NaN',
      '\u0000',
      'vm-99999',
      '\ud800',
      '0x10',
      '__proto__',
    ].map(encoded),
  ]
  const limits = ['0', '-1', '1001', '1e3', '01', '1.0', '%20', '', '99999', 'x', '１', '1,2']
  for (const { method, path, parameters } of operationsOf(all.app)) {
    if (method !== 'GET' || !parameters.some(({ name }) => name === 'cursor')) continue
    const url = path.replace('{vm}', vm).replace('{memfile}', memfile)
    for (const cursor of cursors) {
      const { status } = await attack(all, { method, url: `${url}?cursor=${encodeURIComponent(cursor)}` })
      assert.ok(status === 400 || status === 200, `${url} ${cursor}: ${status}`)
    }
    for (const limit of limits) {
      const { status, text: reply } = await attack(all, { method, url: `${url}?limit=${limit}` })
      assert.equal(status, 400, `${url} ${limit}: ${reply}`)
    }
    assert.equal((await attack(all, { method, url: `${url}?limit=1&limit=2` })).status, 400, url)
    assert.equal((await attack(all, { method, url: `${url}?limit=1000` })).status, 200, url)
  }
})

test('headers and URLs at their bounds', async (t) => {
  const { all, url, port } = await listening(t)
  const client = httpClient(url)
  t.after(client.close)
  const make = (headers: Record<string, string>) =>
    client.send({ method: 'POST', path: '/v1/memfiles', body: { size: 4096 }, headers })
  assert.equal((await make({ 'idempotency-key': 'k'.repeat(IDEMPOTENCY_KEY_CHARACTERS) })).status, 201)
  assert.equal((await make({ 'idempotency-key': 'k'.repeat(IDEMPOTENCY_KEY_CHARACTERS + 1) })).status, 400)
  assert.equal((await make({ 'idempotency-key': 'two words' })).status, 400)
  const { id } = (await make({})).body
  const remove = (tag: string) =>
    client.send({ method: 'DELETE', path: `/v1/memfiles/${id}`, headers: { 'if-match': tag } })
  for (const tag of ['7', 'W/"7"', '"7', '"a" "b"', '""x', `"${'x'.repeat(1100)}"`]) {
    assert.equal((await remove(tag)).status, 400, tag)
  }
  for (const tag of ['"0"', '"x", "y"', '""']) assert.equal((await remove(tag)).status, 412, tag)
  const query = '/v1/vms?host='
  const longest = `${query}${'x'.repeat(URL_BYTES - query.length)}`
  assert.equal((await client.send({ method: 'GET', path: longest })).status, 400)
  assert.equal((await client.send({ method: 'GET', path: `${longest}x` })).status, 414)
  const large = await raw(port, `GET /v1/vms HTTP/1.1\r\nHost: x\r\nX-Long: ${'x'.repeat(HEADER_BYTES)}\r\n\r\n`)
  assert.match(large, /^HTTP\/1\.1 431 /)
  assert.equal((await remove('*')).status, 200)
  assertReplays(all)
})
