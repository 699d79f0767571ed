import assert from 'node:assert/strict'
import { once } from 'node:events'
import { get as httpGet, type IncomingMessage } from 'node:http'
import { type TestContext, test } from 'node:test'
import { EVENT_QUEUE_BYTES } from '../../src/routes/limits.ts'
import type { App } from '../../src/server/app.ts'
import { gist, service } from '../support/service.ts'

type Event = { readonly id: number; readonly event: string; readonly data: Record<string, unknown> }

async function listen(app: App): Promise<number> {
  await app.listen({ port: 0, host: '127.0.0.1' })
  const address = app.server.address()
  return typeof address === 'object' && address !== null ? address.port : 0
}

/** One connection to the event stream over a real socket. */
async function connect(t: TestContext, port: number, query = '', headers: Record<string, string> = {}) {
  const request = httpGet({ port, host: '127.0.0.1', path: `/v1/events${query}`, headers })
  t.after(() => request.destroy())
  const [response] = (await once(request, 'response')) as [IncomingMessage]
  const events: Event[] = []
  let text = ''
  response.setEncoding('utf8').on('data', (chunk: string) => {
    text += chunk
    for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
      const fields = new Map(
        text
          .slice(0, end)
          .split('\n')
          .map((line) => line.split(/: (.*)/s, 2) as [string, string]),
      )
      text = text.slice(end + 2)
      if (!fields.has('data')) continue
      events.push({
        id: Number(fields.get('id')),
        event: fields.get('event') ?? '',
        data: JSON.parse(fields.get('data') ?? ''),
      })
    }
  })
  const ended = new Promise<void>((resolve) => response.once('close', resolve))
  const until = async (count: number) => {
    for (let wait = 0; events.length < count && wait < 200; wait++) await new Promise((r) => setTimeout(r, 10))
    return events
  }
  return { response, events, ended, until, close: () => request.destroy() }
}

test('the journal is every accepted command in order, without contents of memory', async (t) => {
  const { get, post, send, machine } = await service(t)
  const { vm } = await machine()
  const secret = Buffer.from('a canary in guest memory').toString('base64')
  await post(`/v1/vms/${vm}/vcpus/0/accesses`, { gpa: '0x1000', kind: 'write', data: secret })
  await send('PUT', `/v1/vms/${vm}/memslots/1`, { gpa: 1, size: 1 })
  const whole = await get('/v1/journal')
  assert.deepEqual(
    whole.items.map(({ seq }: { seq: number }) => seq),
    whole.items.map((_: unknown, index: number) => index + 1),
  )
  const { items } = await get(`/v1/journal?vm=${vm}`)
  assert.deepEqual(
    items.map(({ type }: { type: string }) => type),
    ['vm.create', 'memfile.bind', 'memslot.set', 'access'],
  )
  const [last] = items.slice(-1)
  assert.deepEqual([last.host, last.gpa, last.length], ['sw-protected', '0x1000', 4096])
  assert.equal(last.command.data, '(24 bytes)')
  assert.equal(last.outcome.outcome, 'ok')
  assert.ok(!JSON.stringify(whole).includes(secret))
  const first = await get('/v1/journal?after=2&limit=2')
  assert.deepEqual(first.items, whole.items.slice(2, 4))
  const second = await get(`/v1/journal?after=2&limit=100&cursor=${first.nextCursor}`)
  assert.deepEqual(second.items, whole.items.slice(4))
  const elsewhere = await get('/v1/journal?host=sev-snp')
  assert.deepEqual(
    elsewhere.items.map(({ type }: { type: string }) => type),
    ['host.create', 'memfile.create', 'memfile.leave'],
  )
  await get('/v1/journal?after=-1', 400)
})

test('events come as they become durable, and go on where a reader was', async (t) => {
  const { app, get, post } = await service(t)
  const port = await listen(app)
  const live = await connect(t, port)
  assert.equal(live.response.headers['content-type'], 'text/event-stream; charset=utf-8')
  assert.equal(live.response.headers['cache-control'], 'no-store')
  const { id, seq } = await post('/v1/vms', { technology: 'sw-protected' }, 201)
  const [event] = await live.until(1)
  assert.deepEqual([event?.id, event?.event, event?.data.vm], [seq, 'vm.create', id])
  live.close()
  for (let i = 0; i < 5; i++) await post('/v1/vms', { technology: 'sw-protected' }, 201)
  const back = await connect(t, port, '', { 'last-event-id': String(seq) })
  await back.until(5)
  const other = (await post('/v1/vms', { technology: 'sev-snp' }, 201)).id
  await back.until(6)
  const { items } = await get(`/v1/journal?after=${seq}`)
  assert.deepEqual(
    back.events.map(({ data }) => data),
    items,
  )
  const filtered = await connect(t, port, `?after=0&vm=${other}`)
  assert.equal((await filtered.until(1))[0]?.data.vm, other)
  assert.equal(filtered.events.length, 1)
})

test('no gap, no duplicate, no reordering over many reconnects under load', async (t) => {
  const { app, engine, post } = await service(t)
  const port = await listen(app)
  const seen: number[] = []
  let writing = true
  const writer = (async () => {
    for (let i = 0; i < 400; i++) await post('/v1/memfiles', { size: 4096 }, 201)
    writing = false
  })()
  while (writing || (seen.at(-1) ?? 0) < engine.durableSeq) {
    const stream = await connect(t, port, '?after=0', seen.length === 0 ? {} : { 'last-event-id': String(seen.at(-1)) })
    await stream.until(1 + (seen.length % 17))
    stream.close()
    seen.push(...stream.events.map(({ id }) => id))
  }
  await writer
  assert.deepEqual(
    seen,
    seen.map((_, index) => index + 1),
  )
})

test('a reader that does not keep up is told of the gap and let go; others are not held up', async (t) => {
  const { app, post, machine } = await service(t)
  const { vm } = await machine()
  const port = await listen(app)
  const slow = await connect(t, port)
  slow.response.pause()
  const quick = await connect(t, port)
  const entries = Array.from({ length: 1000 }, (_, i) => ({ gpa: i * 4096, operation: i & 1 ? 'private' : 'shared' }))
  // Beyond what the queue and the sockets' own buffers take.
  const rounds = Math.ceil((EVENT_QUEUE_BYTES + 16 * 1024 * 1024) / 60_000)
  let last = 0
  for (let i = 0; i < rounds; i++) last = (await post(`/v1/vms/${vm}/page-states`, { entries })).seq
  await quick.until(rounds)
  assert.equal(quick.events.at(-1)?.id, last)
  slow.response.resume()
  await slow.ended
  const gap = slow.events.at(-1)
  assert.equal(gap?.event, 'gap')
  assert.equal(gap?.data.after, slow.events.at(-2)?.id)
})

test('streams end when the service stops', async (t) => {
  const { app } = await service(t)
  const port = await listen(app)
  const stream = await connect(t, port)
  await app.close()
  await stream.ended
})

test('a position that is none is refused', async (t) => {
  const { send } = await service(t)
  assert.deepEqual(gist(await send('GET', '/v1/events?after=99')), [400, 'out-of-range', '/after'])
  const bad = await send('GET', '/v1/events', undefined, { 'last-event-id': 'x' })
  assert.deepEqual(gist(bad), [400, 'validation-failed', '/last-event-id'])
})
