import assert from 'node:assert/strict'
import { mkdtempSync, rmSync, statSync, writeFileSync } from 'node:fs'
import { Agent, get, request } from 'node:http'
import { connect, createServer } from 'node:net'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { text } from 'node:stream/consumers'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { type Child, startChild } from '../support/child.ts'

const MAIN = 'src/server/main.ts'
const SLOW = 'test/fixtures/slow-server.ts'

function scratch(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-'))
  t.after(() => rmSync(directory, { recursive: true, force: true }))
  return directory
}

async function until(condition: () => boolean): Promise<void> {
  for (let waited = 0; !condition(); waited += 10) {
    assert.ok(waited < 10_000, 'waited too long')
    await sleep(10)
  }
}

const refused = (port: number): Promise<boolean> =>
  new Promise((resolve) => {
    const socket = connect(port, '127.0.0.1')
    socket.once('connect', () => resolve(false)).once('error', () => resolve(true))
    socket.once('connect', () => socket.destroy())
  })

async function slowRequest(child: Child, agent?: Agent): Promise<{ url: URL; answer: Promise<string> }> {
  const url = new URL(await child.ready)
  const answer = new Promise<string>((resolve, reject) => {
    get(new URL('/slow', url), { ...(agent === undefined ? {} : { agent }) }, (reply) => {
      text(reply).then(resolve, reject)
    }).on('error', reject)
  })
  answer.catch(() => {})
  await until(() => child.output.stdout.includes('slow request begun'))
  return { url, answer }
}

test('one ready line, and SIGTERM to an idle server exits 0 soon', async (t) => {
  const child = startChild(t, MAIN)
  const url = await child.ready
  assert.equal((await fetch(`${url}/readyz`)).status, 200)
  const start = performance.now()
  child.process.kill('SIGTERM')
  assert.equal(await child.exited, 0)
  assert.ok(performance.now() - start < 2_000)
  assert.equal(child.output.stdout, `gmemd listening on ${url}\n`)
})

test('SIGTERM stops accepting at once, answers what is running, closes in order', async (t) => {
  const child = startChild(t, SLOW, { SLOW_MS: '600' })
  const { url, answer } = await slowRequest(child, new Agent({ keepAlive: true }))
  child.process.kill('SIGTERM')
  await sleep(100)
  assert.equal(await refused(Number(url.port)), true)
  assert.equal(await answer, '{"done":true}')
  assert.equal(await child.exited, 0)
  assert.match(child.output.stdout, /first closed\nsecond closed\n$/)
})

test('a request on a kept connection during the drain is told that the service stops', async (t) => {
  const child = startChild(t, SLOW, { SLOW_MS: '800' })
  const { url } = await slowRequest(child)
  const socket = connect(Number(url.port), '127.0.0.1')
  const reply = text(socket)
  // The first request occupies the connection, so the drain cannot close it; the second comes while it drains.
  socket.write('GET /slow HTTP/1.1\r\nHost: x\r\n\r\n')
  await until(() => child.output.stdout.split('begun').length > 2)
  child.process.kill('SIGTERM')
  await until(() => child.output.stderr.includes('stopping'))
  socket.write('GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n')
  const replies = await reply
  assert.match(replies, /\{"done":true\}/)
  assert.match(replies, /503 Service Unavailable.*"code":"shutting-down"/s)
  assert.equal(await child.exited, 0)
})

test('a request that never ends is cut, within five seconds', async (t) => {
  const child = startChild(t, SLOW, { SLOW_MS: '60000' })
  const { answer } = await slowRequest(child)
  const start = performance.now()
  child.process.kill('SIGTERM')
  await assert.rejects(answer)
  assert.equal(await child.exited, 0)
  assert.ok(performance.now() - start < 5_000)
})

test('a second signal exits at once', async (t) => {
  const child = startChild(t, SLOW, { SLOW_MS: '60000' })
  await slowRequest(child)
  child.process.kill('SIGTERM')
  await sleep(300)
  const start = performance.now()
  child.process.kill('SIGTERM')
  assert.equal(await child.exited, 143)
  assert.ok(performance.now() - start < 2_500)
})

for (const fault of ['throw', 'reject']) {
  test(`an error that nobody catches (${fault}) is logged and exits 70`, async (t) => {
    const child = startChild(t, SLOW)
    await fetch(`${await child.ready}/${fault}`).catch(() => {})
    assert.equal(await child.exited, 70)
    assert.match(child.output.stderr, /"level":60.*(out of place|nobody waits)/)
  })
}

test('closed output is no reason to stop', async (t) => {
  const child = startChild(t, SLOW)
  const url = await child.ready
  child.process.stdout?.destroy()
  child.process.stderr?.destroy()
  for (let round = 0; round < 20; round++) assert.equal((await fetch(`${url}/healthz`)).status, 200)
  child.process.kill('SIGPIPE')
  assert.equal((await fetch(`${url}/healthz`)).status, 200)
  child.process.kill('SIGTERM')
  assert.equal(await child.exited, 0)
})

test('a log that nobody reads does not stop the service, nor its exit', { timeout: 30_000 }, async (t) => {
  const child = startChild(t, SLOW)
  const url = await child.ready
  child.process.stderr?.pause()
  const agent = new Agent({ keepAlive: true, maxSockets: 8 })
  const one = () =>
    new Promise<void>((resolve, reject) => {
      request(`${url}/healthz?${'x'.repeat(1_000)}`, { agent }, (reply) => {
        reply.resume().on('end', resolve)
      })
        .on('error', reject)
        .end()
    })
  for (let round = 0; round < 50; round++) await Promise.all(Array.from({ length: 40 }, one))
  agent.destroy()
  child.process.kill('SIGTERM')
  assert.equal(await child.exited, 0)
})

test('a wrong configuration says every problem and exits 78', async (t) => {
  const child = startChild(t, MAIN, { GMEMD_PORT: '70000', GMEMD_COLOUR: 'red' })
  assert.equal(await child.exited, 78)
  assert.equal(child.output.stdout, '')
  assert.equal(child.output.stderr.trim().split('\n').length, 2)
})

test('a port that is taken is one sentence and exit 78', async (t) => {
  const holder = createServer().listen(0, '127.0.0.1')
  t.after(() => holder.close())
  await until(() => holder.listening)
  const address = holder.address()
  const port = typeof address === 'object' && address !== null ? address.port : 0
  const child = startChild(t, MAIN, { GMEMD_PORT: String(port), GMEMD_LOG_LEVEL: 'silent' })
  assert.equal(await child.exited, 78)
  assert.match(child.output.stderr, /^gmemd cannot listen on 127\.0\.0\.1:\d+: .*EADDRINUSE.*\.\n$/)
})

/** Starts the server on a Unix socket, without the port that other tests give. */
function startOnSocket(t: TestContext, file: string): Child {
  const env: Record<string, string> = { GMEMD_SOCKET: file, GMEMD_LOG_LEVEL: 'silent' }
  return startChild(t, MAIN, env, ['GMEMD_PORT'])
}

test('a Unix socket is private, and a stale one is replaced', async (t) => {
  const file = path.join(scratch(t), 'gmemd.sock')
  const killed = startOnSocket(t, file)
  assert.equal(await killed.ready, `unix:${file}`)
  assert.equal(statSync(file).mode & 0o777, 0o600)
  killed.process.kill('SIGKILL')
  await killed.exited
  assert.ok(statSync(file).isSocket())
  const next = startOnSocket(t, file)
  await next.ready
  const status = await new Promise((resolve) =>
    get({ socketPath: file, path: '/healthz' }, (r) => resolve(r.statusCode)),
  )
  assert.equal(status, 200)
  const second = startOnSocket(t, file)
  assert.equal(await second.exited, 78)
  assert.match(second.output.stderr, /another process listens there/)
  next.process.kill('SIGTERM')
  assert.equal(await next.exited, 0)
  assert.equal(statSync(file, { throwIfNoEntry: false }), undefined)
})

test('a file that is not a socket is left alone', async (t) => {
  const file = path.join(scratch(t), 'data')
  writeFileSync(file, 'precious')
  const child = startOnSocket(t, file)
  assert.equal(await child.exited, 78)
  assert.match(child.output.stderr, /exists and is not a socket/)
  assert.equal(statSync(file).size, 8)
})
