import assert from 'node:assert/strict'
import { test } from 'node:test'
import { gzipSync } from 'node:zlib'
import { BATCH_ENTRIES, BODY_BYTES, BULK_BODY_BYTES, JSON_DEPTH } from '../../src/routes/limits.ts'
import { attack } from '../support/grammar-attack.ts'
import { type Service, service } from '../support/service.ts'

// reliability.md G34 and the bounds of G32, at the API's own operations instead of a test's.

type Sent = { readonly url: string; readonly method: string; readonly body: string }

/** Operations that take JSON, each with a body that works, and a member of it that may be added to. */
async function endpoints(all: Service): Promise<Sent[]> {
  const { vm, memfile } = await all.machine()
  const entry = '{"gpa":"0x1000","operation":"private"}'
  return [
    { method: 'POST', url: '/v1/vms', body: '{"technology":"sw-protected","config":{}}' },
    { method: 'POST', url: '/v1/memfiles', body: '{"size":4096}' },
    { method: 'POST', url: `/v1/memfiles/${memfile}/fallocate`, body: '{"offset":0,"length":4096}' },
    { method: 'PUT', url: `/v1/vms/${vm}/memslots/3`, body: '{"gpa":"0x40000000","size":4096}' },
    { method: 'POST', url: `/v1/vms/${vm}/page-states`, body: `{"entries":[${entry}]}` },
    { method: 'POST', url: `/v1/vms/${vm}/vcpus/0/accesses`, body: '{"gpa":0,"kind":"read"}' },
    { method: 'POST', url: `/v1/vms/${vm}/calls`, body: '{"call":"MAP_GPA_RANGE","gpa":0,"pages":1,"attributes":16}' },
    { method: 'POST', url: '/v1/measurements', body: '{"technology":"sev-snp","inputs":{"mode":"pages","pages":[]}}' },
  ]
}

/** The body with something put at its start, as its first members. */
const prefixed = (body: string, members: string): string => `{${members},${body.slice(1)}`

const firstKey = (body: string): string => /^\{("\w+":)/.exec(body)?.[1] ?? ''

const CORPUS: Readonly<Record<string, (body: string) => string | Buffer>> = {
  'a duplicate key': (body) => prefixed(body, `${firstKey(body)}1`),
  'a duplicate key in disguise': (body) =>
    prefixed(body, `${firstKey(body).replace(/^"(.)/, (_, first) => `"\\u00${first.charCodeAt(0).toString(16)}`)}1`),
  __proto__: (body) => prefixed(body, '"__proto__":{"admin":true}'),
  'a disguised __proto__': (body) => prefixed(body, '"__pro\\u0074o__":{}'),
  'constructor.prototype': (body) => prefixed(body, '"constructor":{"prototype":{"admin":true}}'),
  'a lone surrogate': (body) => prefixed(body, '"x":"\\ud800"'),
  'a lone surrogate as a key': (body) => prefixed(body, '"\\udc00":1'),
  'bytes that are not UTF-8': (body) => Buffer.concat([Buffer.from(body.slice(0, -1)), Buffer.from([0xff, 0x7d])]),
  'an overlong encoding': (body) => Buffer.concat([Buffer.from(body.slice(0, -1)), Buffer.from([0xc0, 0xaf, 0x7d])]),
  'a byte order mark': (body) => `\ufeff${body}`,
  'UTF-16': (body) => Buffer.from(body, 'utf16le'),
  NaN: (body) => prefixed(body, '"x":NaN'),
  Infinity: (body) => prefixed(body, '"x":-Infinity'),
  'a comment': (body) => `/* hello */${body}`,
  'a trailing comma': (body) => `${body.slice(0, -1)},}`,
  'single quotes': (body) => body.replaceAll('"', "'"),
  'two values': (body) => `${body}${body}`,
  'a NUL after it': (body) => `${body}\0`,
  'half of it': (body) => body.slice(0, body.length / 2),
  'minus zero': (body) => prefixed(body, '"x":-0'),
  '1e400': (body) => prefixed(body, '"x":1e400'),
  '2^53 + 1': (body) => prefixed(body, '"x":9007199254740993'),
  'a control character in a string': (body) => prefixed(body, '"x":"\n"'),
  'an array too deep': (body) => prefixed(body, `"x":${'['.repeat(JSON_DEPTH)}${']'.repeat(JSON_DEPTH)}`),
  'half a million brackets': () => '['.repeat(500_000),
  'an object too deep': (body) => prefixed(body, `"x":${'{"a":'.repeat(JSON_DEPTH)}1${'}'.repeat(JSON_DEPTH)}`),
  'thousands of keys': (body) => prefixed(body, Array.from({ length: 5000 }, (_, n) => `"k${n}":1`).join()),
  'a hundred thousand keys': (body) => prefixed(body, Array.from({ length: 100_000 }, (_, n) => `"k${n}":1`).join()),
}

test('JSON that must not be taken', async (t) => {
  const all = await service(t)
  for (const { method, url, body } of await endpoints(all)) {
    for (const [what, spoil] of Object.entries(CORPUS)) {
      const outcome = await attack(all, { method, url, payload: spoil(body) })
      const large = outcome.status === 413 && spoil(body).length > BODY_BYTES
      assert.ok(outcome.status === 400 || large, `${what} to ${url}: ${outcome.text}`)
    }
    const whole = await attack(all, { method, url, payload: body })
    assert.ok(whole.status < 300, `${url} ${body}: ${whole.text}`)
  }
  assert.equal(Object.hasOwn(Object.prototype, 'admin'), false)
})

test('bodies of another type or coding', async (t) => {
  const all = await service(t)
  const types = [
    'text/plain',
    'application/xml',
    'application/json; charset=utf-16',
    'application/x-www-form-urlencoded',
  ]
  const odd = ['application/jsonx', 'json', '*/*', 'application/octet-stream', ',', 'application/json, text/plain']
  for (const { method, url, body } of await endpoints(all)) {
    for (const type of [...types, ...odd]) {
      const outcome = await attack(all, { method, url, payload: body, headers: { 'content-type': type } })
      assert.equal(outcome.status, 415, `${type} to ${url}: ${outcome.text}`)
    }
    for (const coding of ['gzip', 'br', 'deflate', 'identity, gzip']) {
      const payload = gzipSync(body)
      const outcome = await attack(all, { method, url, payload, headers: { 'content-encoding': coding } })
      assert.equal(outcome.status, 415, `${coding} to ${url}: ${outcome.text}`)
    }
    for (const type of ['application/json', 'application/json; charset=utf-8', 'Application/JSON;charset="UTF-8"']) {
      const outcome = await attack(all, { method, url, payload: body, headers: { 'content-type': type } })
      assert.notEqual(outcome.status, 415, `${type} to ${url}: ${outcome.text}`)
    }
  }
})

/** A body filled with white space to a size. */
const padded = (body: string, bytes: number): string => body.padEnd(bytes, ' ')

test('a body at its bound is taken, and one byte more is not', async (t) => {
  const all = await service(t)
  for (const { method, url, body } of await endpoints(all)) {
    const bulk = /page-states|accesses|calls|measurements/.test(url)
    const bound = bulk ? BULK_BODY_BYTES : BODY_BYTES
    const at = await attack(all, { method, url, payload: padded(body, bound) })
    assert.ok(at.status < 300, `${url}: ${at.text}`)
    const over = await attack(all, { method, url, payload: padded(body, bound + 1) })
    assert.deepEqual([over.status, over.body.code], [413, 'body-too-large'], url)
  }
})

test('a batch at its bound is taken, and one entry more is not', async (t) => {
  const all = await service(t)
  const { vm } = await all.machine()
  const url = `/v1/vms/${vm}/page-states`
  const batch = (count: number) => ({
    entries: Array.from({ length: count }, (_, n) => ({
      gpa: n * 4096,
      operation: n % 2 === 0 ? 'private' : 'shared',
    })),
  })
  const at = await attack(all, { method: 'POST', url, payload: batch(BATCH_ENTRIES) })
  assert.deepEqual([at.status, at.body.completed], [200, BATCH_ENTRIES], at.text.slice(0, 300))
  const over = await attack(all, { method: 'POST', url, payload: batch(BATCH_ENTRIES + 1) })
  assert.deepEqual([over.status, over.body.errors[0].pointer], [400, '/entries'])
})
