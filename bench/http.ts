import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import type { IncomingMessage } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import autocannon from 'autocannon'
import { type FastifySchema, fastify, LogController } from 'fastify'
import * as limits from '../src/routes/limits.ts'
import { type Figure, show } from './figure.ts'

/**
 * Durable conversions of one 4 KiB page over HTTP against a Fastify route that does nothing: the same schemas of request
 * and reply, the same server options, the same clients, in turns in one run. Server, bare server and client are a process
 * each. Each connection converts pages of its own: first all of them to private, then all back.
 */
const CONNECTIONS = 64
const PAGES_EACH = 256
const ROUNDS = 5
const SECONDS = 4
const WARM_SECONDS = 10
const TECHNOLOGY = 'sev-snp'
const ROUTE = '/v1/vms/:vm/page-states'

type Server = { readonly url: string; readonly child: ChildProcess }
type Load = { readonly requests: number; readonly seconds: number; readonly failed: number; readonly p99: number }
type Json = Readonly<Record<string, unknown>>

/** A program that prints "… listening on URL" once it is ready. */
async function start(file: string, args: readonly string[], env: Readonly<Record<string, string>>): Promise<Server> {
  const child = spawn(process.execPath, [file, ...args], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      output += chunk
      const found = /listening on (\S+)\n/.exec(output)?.[1]
      if (found !== undefined) resolve(found)
    })
    child.once('exit', (code) => reject(new Error(`${file} ended with ${code} before it was ready`)))
  })
  return { url, child }
}

async function stop({ child }: Server): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill('SIGTERM')
  await gone
}

async function call(method: string, url: string, body?: object): Promise<Json> {
  const sent = body === undefined ? {} : { headers: { 'content-type': 'application/json' }, body: JSON.stringify(body) }
  const response = await fetch(url, { method, ...sent })
  if (!response.ok) throw new Error(`${method} ${url}: ${response.status} ${await response.text()}`)
  return (await response.json()) as Json
}

/** A running VM with a page for every connection and turn. */
async function prepareVm(url: string): Promise<string> {
  const vm = await call('POST', `${url}/v1/vms`, { technology: TECHNOLOGY })
  const size = CONNECTIONS * PAGES_EACH * 4096
  const memfile = await call('POST', `${url}/v1/memfiles`, { size, host: vm.host })
  await call('POST', `${url}/v1/memfiles/${memfile.id}/bind`, { vm: vm.id })
  await call('PUT', `${url}/v1/vms/${vm.id}/memslots/0`, { gpa: 0, size, memfile: memfile.id })
  await call('POST', `${url}/v1/vms/${vm.id}/launch/finish`, {})
  return String(vm.id)
}

const conversion = (page: number, operation: string) => ({
  entries: [{ gpa: `0x${(page * 4096).toString(16)}`, operation }],
})

const newestSeq = async (url: string, vm: string): Promise<number> =>
  Number((await call('POST', `${url}/v1/vms/${vm}/page-states`, conversion(0, 'shared'))).seq)

/** One turn of the client, in a process of its own. */
async function load(url: string, seconds: number): Promise<Load> {
  const child = spawn(process.execPath, [import.meta.filename, 'client', url, String(seconds)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.on('data', (chunk) => {
    output += chunk
  })
  const [code] = await once(child, 'exit')
  if (code !== 0) throw new Error(`the client ended with ${code}`)
  return JSON.parse(output) as Load
}

async function runClient(url: string, seconds: number): Promise<void> {
  const headers = { 'content-type': 'application/json' }
  let next = 0
  const result = await autocannon({
    url,
    connections: CONNECTIONS,
    duration: seconds,
    method: 'POST',
    setupClient: (client) => {
      const first = next++ * PAGES_EACH
      const pages = Array.from({ length: PAGES_EACH }, (_, page) => first + page)
      const requests = ['private', 'shared'].flatMap((operation) =>
        pages.map((page) => ({ method: 'POST' as const, headers, body: JSON.stringify(conversion(page, operation)) })),
      )
      client.setRequests(requests)
    },
  })
  const { errors, timeouts, non2xx } = result
  const seen = { requests: result['2xx'], seconds: result.duration, failed: errors + timeouts + non2xx }
  process.stdout.write(JSON.stringify({ ...seen, p99: result.latency.p99 } satisfies Load))
}

/** The schemas of the real route, as the application registers them, and the validator they are compiled with. */
async function realRoute() {
  const { buildApp } = await import('../src/server/app.ts')
  const { Metrics } = await import('../src/server/metrics.ts')
  const { pageStateRoutes } = await import('../src/routes/page-states.ts')
  const { validatorCompiler } = await import('../src/server/validation.ts')
  let schema: FastifySchema | undefined
  const app = await buildApp({
    metrics: new Metrics({ processMetrics: false }),
    health: { ready: () => ({ ok: true }) },
    instrument: (one) => {
      one.addHook('onRoute', (route) => {
        if (route.url === ROUTE && route.method === 'POST') schema = route.schema
      })
    },
    registerRoutes: (routes) => {
      // Registered for its schema, and never called.
      const nothing = undefined as never
      const api = { engine: nothing, backends: nothing, measurers: nothing, seed: '', parseJson: nothing }
      pageStateRoutes(routes as unknown as Parameters<typeof pageStateRoutes>[0], api)
    },
  })
  await app.close()
  if (schema === undefined) throw new Error(`there is no route ${ROUTE}`)
  return { schema, validatorCompiler }
}

/** A server with gmemd's own options and one route that answers `reply` at once. */
async function runBare(reply: Json): Promise<void> {
  const { schema, validatorCompiler } = await realRoute()
  const { ProblemSchema } = await import('../src/routes/schemas/problem.ts')
  let count = 0
  const app = fastify({
    logger: false,
    childLoggerFactory: (parent) => parent,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: (_request: IncomingMessage) => String(++count),
    requestIdHeader: false,
    bodyLimit: limits.BODY_BYTES,
    connectionTimeout: limits.CONNECTION_TIMEOUT_MS,
    requestTimeout: limits.REQUEST_TIMEOUT_MS,
    keepAliveTimeout: limits.KEEP_ALIVE_TIMEOUT_MS,
    http: {
      maxHeaderSize: limits.HEADER_BYTES,
      headersTimeout: limits.HEADERS_TIMEOUT_MS,
      connectionsCheckingInterval: limits.TIMEOUT_CHECK_MS,
    },
    routerOptions: { maxParamLength: limits.PARAM_CHARACTERS },
    return503OnClosing: false,
  })
  app.addSchema(ProblemSchema)
  app.setValidatorCompiler(validatorCompiler)
  app.post(ROUTE, { schema, bodyLimit: limits.BULK_BODY_BYTES }, async () => reply)
  const url = await app.listen({ host: '127.0.0.1', port: 0 })
  process.stdout.write(`bare listening on ${url}\n`)
  process.once('SIGTERM', () => process.exit(0))
}

const median = (values: readonly number[]): number => values.toSorted((a, b) => a - b)[values.length >> 1] ?? 0
const rateOf = ({ requests, seconds }: Load): number => requests / seconds

export async function httpBench(): Promise<Figure[]> {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-bench-'))
  const { PATH = '' } = process.env
  const main = path.join(import.meta.dirname, '../src/server/main.ts')
  const env = { PATH, GMEMD_PORT: '0', GMEMD_DATA: path.join(directory, 'data'), GMEMD_LOG_LEVEL: 'error' }
  const servers: Server[] = []
  try {
    const real = await start(main, [], env)
    servers.push(real)
    const vm = await prepareVm(real.url)
    const realUrl = `${real.url}/v1/vms/${vm}/page-states`
    const reply = await call('POST', realUrl, conversion(0, 'private'))
    const bare = await start(import.meta.filename, ['bare', JSON.stringify(reply)], { PATH })
    servers.push(bare)
    const bareUrl = `${bare.url}/v1/vms/${vm}/page-states`

    const before = await newestSeq(real.url, vm)
    const warm = await load(realUrl, WARM_SECONDS)
    await load(bareUrl, WARM_SECONDS)
    const turns: { real: Load; bare: Load }[] = []
    for (let round = 0; round < ROUNDS; round++) {
      const first = round % 2 === 0 ? await load(realUrl, SECONDS) : undefined
      const bareLoad = await load(bareUrl, SECONDS)
      turns.push({ real: first ?? (await load(realUrl, SECONDS)), bare: bareLoad })
    }
    const journalled = (await newestSeq(real.url, vm)) - before - 1
    verify([warm, ...turns.flatMap((turn) => [turn.real, turn.bare])])
    const answered = warm.requests + turns.reduce((sum, turn) => sum + turn.real.requests, 0)
    if (journalled < answered)
      throw new Error(`${answered} conversions were answered, ${journalled} are in the journal`)
    return figuresOf(turns)
  } finally {
    for (const server of servers) await stop(server)
    rmSync(directory, { recursive: true, force: true })
  }
}

function verify(loads: readonly Load[]): void {
  const failed = loads.reduce((sum, one) => sum + one.failed, 0)
  if (failed > 0) throw new Error(`${failed} requests failed`)
}

function figuresOf(turns: readonly { readonly real: Load; readonly bare: Load }[]): Figure[] {
  const name = `HTTP, ${CONNECTIONS} connections:`
  const ratios = turns.map(({ real, bare }) => rateOf(real) / rateOf(bare))
  const best = (side: 'real' | 'bare') => Math.max(...turns.map((turn) => rateOf(turn[side])))
  return [
    { name: `${name} durable conversions, median round`, value: median(turns.map((t) => rateOf(t.real))), unit: '/s' },
    { name: `${name} durable conversions, best round`, value: best('real'), unit: '/s' },
    { name: `${name} durable conversions, p99, median round`, value: median(turns.map((t) => t.real.p99)), unit: 'ms' },
    { name: `${name} bare Fastify route, median round`, value: median(turns.map((t) => rateOf(t.bare))), unit: '/s' },
    { name: `${name} bare Fastify route, best round`, value: best('bare'), unit: '/s' },
    { name: `${name} ratio, median of rounds`, value: median(ratios), unit: '' },
    { name: `${name} ratio, worst round`, value: Math.min(...ratios), unit: '' },
    { name: `${name} ratio, best round`, value: Math.max(...ratios), unit: '' },
  ]
}

if (import.meta.main) {
  const [role, ...args] = process.argv.slice(2)
  if (role === 'client') await runClient(String(args[0]), Number(args[1]))
  else if (role === 'bare') await runBare(JSON.parse(String(args[0])))
  else show(await httpBench())
}
