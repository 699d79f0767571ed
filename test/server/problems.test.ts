import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import Type from 'typebox'
import { errorsDocument } from '../../scripts/errors.ts'
import { StorageError } from '../../src/domain/journal.ts'
import { conflict, invalid, kernelRefusal, notFound, type Result } from '../../src/domain/refusal.ts'
import { ServiceError, unwrap } from '../../src/routes/errors.ts'
import { SERVICE_CODES, type ServiceCode } from '../../src/routes/problem-codes.ts'
import { AddressInput } from '../../src/routes/schemas/address.ts'
import { MutationHeaders } from '../../src/routes/schemas/headers.ts'
import { problems } from '../../src/routes/schemas/problem.ts'
import type { App } from '../../src/server/app.ts'
import { problemOf } from '../../src/server/problems.ts'
import { documented, testApp } from '../support/app.ts'

const Entry = Type.Object(
  { gpa: AddressInput, kind: Type.Union([Type.Literal('read'), Type.Literal('write')]) },
  { additionalProperties: false },
)
const Body = Type.Object(
  {
    count: Type.Optional(Type.Integer({ minimum: 1, maximum: 9 })),
    entries: Type.Optional(Type.Array(Entry)),
    choice: Type.Optional(
      Type.Union([
        Type.Object({ type: Type.Literal('a'), size: Type.Integer() }, { additionalProperties: false }),
        Type.Object({ type: Type.Literal('b'), name: Type.String() }, { additionalProperties: false }),
      ]),
    ),
    form: Type.Optional(
      Type.Union([
        Type.Object({ image: Type.String() }, { additionalProperties: false }),
        Type.Object({ entries: Type.Array(Entry) }, { additionalProperties: false }),
      ]),
    ),
  },
  { additionalProperties: false },
)
const Needs = Type.Object({ name: Type.String(), 'a/b': Type.Integer() }, { additionalProperties: false })
const Params = Type.Object({ id: Type.String({ pattern: '^[a-z]+$' }) })

const refusals: Readonly<Record<string, Result<never>>> = {
  invalid: invalid('some-code', 'bad', '/gpa'),
  missing: notFound('vm', 'x'),
  conflict: conflict('wrong-state', 'no', { currentState: 'bound', allowedStates: ['unbound'] }),
  kernel: kernelRefusal('EEXIST', 'slot-overlaps', 'overlaps', '/gpa'),
}

function routes(app: App): void {
  app.post('/echo', { schema: { ...documented('echo'), body: Body, response: { 200: Body } } }, ({ body }) => body)
  app.post('/needs', { schema: { ...documented('needs'), body: Needs, response: { 200: Needs } } }, ({ body }) => body)
  app.post('/bare', { schema: { ...documented('bare'), response: { 204: Type.Null() } } }, (_request, reply) => {
    reply.code(204).send(null)
  })
  app.delete(
    '/things/:id',
    { schema: { ...documented('remove'), params: Params, headers: MutationHeaders, response: { 204: Type.Null() } } },
    (_request, reply) => {
      reply.code(204).send(null)
    },
  )
  app.get(
    '/refusals/:id',
    { schema: { ...documented('refuse'), params: Params, response: { 200: Type.Null(), ...problems(404, 409, 422) } } },
    ({ params }) => unwrap(refusals[params.id] ?? notFound('refusal', params.id)),
  )
  app.get('/fault', { schema: { ...documented('fault'), response: { 200: Type.Null() } } }, () => {
    throw new TypeError('secret path /home/x')
  })
}

type Fields = readonly (readonly [string, string, string])[]

async function fieldsOf(app: App, url: string, payload?: unknown): Promise<Fields> {
  const json = payload === undefined ? {} : { payload: payload as object }
  const reply = await app.inject({ method: 'POST', url, ...json })
  assert.equal(reply.statusCode, 400, reply.body)
  const body = reply.json()
  assert.equal(body.code, 'validation-failed')
  return body.errors.map((error: Record<string, string>) => [error.in, error.pointer, error.detail])
}

test('every bad field of a body is named', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  assert.deepEqual(
    await fieldsOf(app, '/echo', { count: '5', entries: [{ gpa: '0X1', kind: 'poke' }, { x: 1 }], 'y/z': 1 }),
    [
      ['body', '/y~1z', 'is not a known field'],
      ['body', '/count', 'must be an integer'],
      [
        'body',
        '/entries/0/gpa',
        'must be an address: a hex string of up to 64 bits such as "0x80000000", or an integer from 0 to 9007199254740991',
      ],
      ['body', '/entries/0/kind', 'must be "read" or "write"'],
      ['body', '/entries/1/gpa', 'is required'],
      ['body', '/entries/1/kind', 'is required'],
      ['body', '/entries/1/x', 'is not a known field'],
    ],
  )
})

test('the closest member of a union speaks', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  assert.deepEqual(await fieldsOf(app, '/echo', { choice: { type: 'b', name: 1 } }), [
    ['body', '/choice/name', 'must be a string'],
  ])
  assert.deepEqual(await fieldsOf(app, '/echo', { choice: { type: 'c' } }), [
    ['body', '/choice', 'has none of the forms that are taken here'],
  ])
  const many = Array.from({ length: 4 }, () => ({}))
  const fields = await fieldsOf(app, '/echo', { form: { entries: many } })
  assert.deepEqual(fields[0], ['body', '/form/entries/0/gpa', 'is required'])
})

test('a hundred errors are listed and the rest counted', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const payload = Object.fromEntries(Array.from({ length: 150 }, (_, n) => [`f${n}`, n]))
  const reply = await app.inject({ method: 'POST', url: '/echo', payload })
  assert.equal(reply.json().errors.length, 100)
  assert.match(reply.json().detail, /and 149 more/)
})

test('an absent body stands for {} only where that is enough', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  assert.deepEqual((await app.inject({ method: 'POST', url: '/echo' })).json(), {})
  const headers = { 'content-type': 'application/json' }
  assert.deepEqual((await app.inject({ method: 'POST', url: '/echo', headers })).json(), {})
  const nothing = await app.inject({ method: 'POST', url: '/echo', headers, payload: 'null' })
  assert.deepEqual([nothing.statusCode, nothing.json().code], [400, 'validation-failed'])
  const reply = await app.inject({ method: 'POST', url: '/needs' })
  assert.deepEqual([reply.statusCode, reply.json().code], [400, 'body-required'])
  assert.deepEqual(await fieldsOf(app, '/needs', {}), [
    ['body', '/name', 'is required'],
    ['body', '/a~1b', 'is required'],
  ])
})

test('an operation without a body schema takes no body, and one without a query schema no query', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  assert.equal((await app.inject({ method: 'POST', url: '/bare' })).statusCode, 204)
  assert.equal((await app.inject({ method: 'POST', url: '/bare', payload: {} })).statusCode, 204)
  assert.deepEqual(await fieldsOf(app, '/bare', { x: 1 }), [['body', '', 'must be absent or {}']])
  assert.deepEqual(await fieldsOf(app, '/bare?dry=1'), [['query', '/dry', 'is not a known field']])
})

test('path and headers are checked and named', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const path = await app.inject({ method: 'DELETE', url: '/things/A1' })
  assert.deepEqual([path.statusCode, path.json().errors[0].in, path.json().errors[0].pointer], [400, 'path', '/id'])
  const headers = { 'idempotency-key': 'x y' }
  const header = await app.inject({ method: 'DELETE', url: '/things/a', headers })
  assert.deepEqual([header.statusCode, header.json().errors[0].in], [400, 'headers'])
  assert.equal(
    (await app.inject({ method: 'DELETE', url: '/things/a', headers: { 'idempotency-key': 'x' } })).statusCode,
    204,
  )
})

test('a refusal carries what the domain said', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const get = async (id: string) =>
    (await app.inject({ url: `/refusals/${id}`, headers: { 'x-request-id': 'r-1' } })).json()
  assert.deepEqual(await get('kernel'), {
    type: 'urn:gmemd:problem:slot-overlaps',
    title: 'The range meets another slot',
    status: 422,
    detail: 'overlaps',
    code: 'slot-overlaps',
    requestId: 'r-1',
    errno: 'EEXIST',
    errors: [{ in: 'body', pointer: '/gpa', detail: 'overlaps' }],
  })
  const { status, currentState, allowedStates } = await get('conflict')
  assert.deepEqual([status, currentState, allowedStates], [409, 'bound', ['unbound']])
  assert.equal((await get('missing')).code, 'no-such-vm')
  assert.equal((await get('invalid')).status, 400)
})

test('an unexpected error tells the client nothing but an id that is in the log', async (t) => {
  const logged: unknown[] = []
  const app = await testApp(t, { registerRoutes: routes })
  app.log.error = (entry: unknown) => void logged.push(entry)
  const reply = await app.inject({ url: '/fault' })
  assert.equal(reply.statusCode, 500)
  assert.equal(reply.json().code, 'internal-error')
  assert.doesNotMatch(reply.body, /secret|home|TypeError|stack/)
  assert.match(JSON.stringify(logged), new RegExp(reply.json().requestId))
})

test('unknown paths are 404, known paths with other methods 405 with Allow', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const missing = await app.inject({ url: '/v1/nope' })
  assert.deepEqual([missing.statusCode, missing.json().code], [404, 'no-such-route'])
  assert.match(String(missing.headers['content-type']), /^application\/problem\+json/)
  for (const method of ['PUT', 'PATCH', 'OPTIONS', 'TRACE', 'PROPFIND'] as const) {
    const other = await app.inject({ method: method as 'PUT', url: '/things/abc?x=1' })
    assert.deepEqual([other.statusCode, other.headers.allow], [405, 'DELETE'], method)
  }
  assert.equal((await app.inject({ method: 'POST', url: '/healthz' })).headers.allow, 'GET, HEAD')
})

test('bodies that are not plain UTF-8 JSON are 415', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const status = async (headers: Record<string, string>) =>
    (await app.inject({ method: 'POST', url: '/echo', headers, payload: '{}' })).statusCode
  assert.equal(await status({ 'content-type': 'application/json' }), 200)
  assert.equal(await status({ 'content-type': 'application/json; charset=UTF-8' }), 200)
  assert.equal(await status({ 'content-type': 'Application/JSON;charset="utf-8"' }), 200)
  assert.equal(await status({ 'content-type': 'application/json', 'content-encoding': 'identity' }), 200)
  for (const type of [
    'text/plain',
    'application/json; charset=utf-16',
    'application/x-www-form-urlencoded',
    'x',
    'a/b',
  ]) {
    assert.equal(await status({ 'content-type': type }), 415, type)
  }
  assert.equal(await status({}), 415)
  assert.equal(await status({ 'content-type': 'application/json', 'content-encoding': 'gzip' }), 415)
})

test('a bad URL is a problem document too', async (t) => {
  const app = await testApp(t, { registerRoutes: routes })
  const reply = await app.inject({ url: '/things/%zz', method: 'DELETE' })
  assert.deepEqual([reply.statusCode, reply.json().code], [400, 'malformed-request'])
})

test('each service code has its status, and those that can be retried say when', () => {
  for (const code of Object.keys(SERVICE_CODES) as ServiceCode[]) {
    const { document } = problemOf(new ServiceError(code), 'r')
    assert.deepEqual([document.code, document.status], [code, SERVICE_CODES[code].status])
  }
  assert.equal(problemOf(new ServiceError('storage-failed'), 'r').headers['retry-after'], '1')
  assert.equal(problemOf(new ServiceError('not-ready', 'x', { retryAfterSeconds: 9 }), 'r').headers['retry-after'], '9')
  assert.equal(problemOf('a thrown string', 'r').document.status, 500)
  assert.equal(problemOf(Object.assign(new Error('x'), { statusCode: 418 }), 'r').document.status, 500)
})

test('a failing store is our condition, and its words stay in the log', () => {
  const full = problemOf(new StorageError('full', '/data/x.db is full'), 'r')
  assert.deepEqual([full.document.status, full.document.code], [507, 'storage-full'])
  const failed = problemOf(new StorageError('io', 'EIO on /data/x.db'), 'r')
  assert.deepEqual([failed.document.status, failed.headers['retry-after']], [503, '1'])
  assert.doesNotMatch(JSON.stringify([full, failed]), /data/)
})

test('docs/errors.md is what the tables say', () => {
  const stored = readFileSync(new URL('../../docs/errors.md', import.meta.url), 'utf8')
  assert.equal(stored, errorsDocument(), 'run "node scripts/node24.mjs scripts/errors.ts" and commit the result')
})
