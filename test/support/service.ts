import assert from 'node:assert/strict'
import type { TestContext } from 'node:test'
import { Engine } from '../../src/domain/engine.ts'
import type { JournalPort } from '../../src/domain/journal.ts'
import { presentHost } from '../../src/domain/present.ts'
import { backends, measurers } from '../../src/hw/registry.ts'
import { registerRoutes } from '../../src/routes/index.ts'
import type { App } from '../../src/server/app.ts'
import { parseJsonBody } from '../../src/server/json-body.ts'
import { testApp } from './app.ts'
import { MemoryJournal } from './memory-journal.ts'

type Json = Record<string, unknown>
export type Answer = {
  readonly status: number
  readonly body: ReturnType<typeof JSON.parse>
  readonly headers: Readonly<Record<string, unknown>>
  readonly text: string
}

export type Service = {
  readonly app: App
  readonly engine: Engine
  readonly store: JournalPort
  readonly send: (
    method: 'GET' | 'POST' | 'PUT' | 'DELETE',
    url: string,
    body?: unknown,
    headers?: Json,
  ) => Promise<Answer>
  /** The same, but for the given status the test fails. */
  readonly get: (url: string, status?: number) => Promise<Answer['body']>
  readonly post: (url: string, body?: unknown, status?: number) => Promise<Answer['body']>
  readonly put: (url: string, body: unknown, status?: number) => Promise<Answer['body']>
  readonly remove: (url: string, status?: number) => Promise<Answer['body']>
  /** A VM with `size` of memory from address 0: a memfile and the VMM's own. Gives their ids. */
  readonly machine: (options?: Json, size?: string) => Promise<{ readonly vm: string; readonly memfile: string }>
}

/** What a refusal says, in short. */
export const gist = ({ status, body }: Pick<Answer, 'status' | 'body'>) => [
  status,
  body.code,
  body.errno ?? body.errors?.[0]?.pointer ?? null,
]
const silent = { command: () => {}, failure: () => {} }

/** The whole API over a journal in memory, with one host per technology. */
export async function service(t: TestContext, store: JournalPort = new MemoryJournal()): Promise<Service> {
  const engine = await Engine.open(store, backends, silent)
  for (const technology of backends.keys()) {
    if (engine.hosts.has(technology)) continue
    const command = { type: 'host.create', technology, memory: 2 ** 40, seed: `test/${technology}` } as const
    await engine.replaceHost(technology, command, {}, presentHost)
  }
  const api = { engine, backends, measurers, seed: 'test', parseJson: parseJsonBody }
  const app = await testApp(t, { registerRoutes: (routes) => registerRoutes(routes, api) })
  const send: Service['send'] = async (method, url, body, headers = {}) => {
    const payload = body === undefined ? {} : { payload: JSON.stringify(body) }
    const type = body === undefined ? {} : { 'content-type': 'application/json' }
    const reply = await app.inject({ method, url, headers: { ...type, ...headers }, ...payload })
    const json = String(reply.headers['content-type']).includes('json')
    return { status: reply.statusCode, body: json ? reply.json() : undefined, headers: reply.headers, text: reply.body }
  }
  const expect = (answer: Answer, status: number) => {
    assert.equal(answer.status, status, answer.text)
    return answer.body
  }
  const get: Service['get'] = async (url, status = 200) => expect(await send('GET', url), status)
  const post: Service['post'] = async (url, body = {}, status = 200) => expect(await send('POST', url, body), status)
  const put: Service['put'] = async (url, body, status = 200) => expect(await send('PUT', url, body), status)
  const remove: Service['remove'] = async (url, status = 200) => expect(await send('DELETE', url), status)
  const machine: Service['machine'] = async (options = {}, size = '64MiB') => {
    const vm = (await post('/v1/vms', { technology: 'sw-protected', ...options }, 201)).id
    const memfile = (await post('/v1/memfiles', { size }, 201)).id
    await post(`/v1/memfiles/${memfile}/bind`, { vm })
    await put(`/v1/vms/${vm}/memslots/0`, { gpa: '0x0', size, memfile }, 201)
    return { vm, memfile }
  }
  return { app, engine, store, send, get, post, put, remove, machine }
}
