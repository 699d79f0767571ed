import { type ChildProcess, spawn, spawnSync } from 'node:child_process'
import { once } from 'node:events'
import { mkdtempSync, rmSync } from 'node:fs'
import { Agent, request as httpRequest } from 'node:http'
import { tmpdir } from 'node:os'
import path from 'node:path'
import type { TestContext } from 'node:test'

/** The real server as a process of its own, and a plain HTTP client that sends paths exactly as they are given. */

const root = path.join(import.meta.dirname, '../..')

export type Answer = {
  readonly status: number
  readonly headers: Readonly<Record<string, string | string[] | undefined>>
  readonly text: string
  readonly body: ReturnType<typeof JSON.parse>
}

export type Call = {
  readonly method: string
  readonly path: string
  /** Sent as JSON; a Buffer is sent as it is, as application/octet-stream. */
  readonly body?: unknown
  readonly headers?: Readonly<Record<string, string>>
}

export type Server = {
  readonly url: string
  readonly process: ChildProcess
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>
  /** Rejects when the connection dies before the answer is complete. */
  readonly send: (call: Call) => Promise<Answer>
  readonly get: (url: string) => Promise<Answer['body']>
  readonly stderr: () => string
  readonly kill: () => Promise<void>
  readonly stop: () => Promise<number | NodeJS.Signals>
}

export type ServerOptions = {
  readonly data: string
  readonly env?: Readonly<Record<string, string>>
  /** Put before the command line, e.g. strace with its options. */
  readonly wrapper?: readonly string[]
}

/** A process that did not come up: what it said, and how it ended. */
export class StartError extends Error {
  readonly code: number | NodeJS.Signals
  readonly stderr: string

  constructor(code: number | NodeJS.Signals, stderr: string) {
    super(`the server ended with ${code}: ${stderr}`)
    this.code = code
    this.stderr = stderr
  }
}

export function temporaryDirectory(t: TestContext): string {
  const directory = mkdtempSync(path.join(tmpdir(), 'gmemd-test-'))
  t.after(() => rmSync(directory, { recursive: true, force: true, maxRetries: 5 }))
  return directory
}

/** Why strace cannot be used here; false when it can. */
export function straceMissing(): string | false {
  const probe = spawnSync('strace', ['-f', '-qq', '-o', '/dev/null', 'true'])
  return probe.status === 0 ? false : 'strace is missing or may not trace here'
}

/** strace beside the process instead of above it, so that signals and exit codes are the process's own. */
export const strace = (...options: readonly string[]): readonly string[] => [
  'strace',
  '-D',
  '-f',
  '-qq',
  '-o',
  '/dev/null',
  ...options,
]

/** Starts the server and waits until it listens. Rejects with a {@link StartError} when it ends instead. */
export async function startServer(t: TestContext, { data, env = {}, wrapper = [] }: ServerOptions): Promise<Server> {
  const [command = '', ...args] = [...wrapper, process.execPath, path.join(root, 'src/server/main.ts')]
  const child = spawn(command, args, {
    cwd: root,
    env: {
      PATH: process.env.PATH ?? '',
      GMEMD_PORT: '0',
      GMEMD_DATA: data,
      GMEMD_SEED: 'test',
      GMEMD_LOG_LEVEL: 'error',
      ...env,
    },
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  const killChild = (): void => void child.kill('SIGKILL')
  t.after(killChild)
  const output = { stdout: '', stderr: '' }
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  const exited = once(child, 'close').then(([code, signal]): number | NodeJS.Signals => code ?? signal)
  const url = await new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      output.stdout += chunk
      const address = /^gmemd listening on (.*)\n/.exec(output.stdout)?.[1]
      if (address !== undefined) resolve(address)
    })
    child.once('error', reject)
    exited.then((code) => reject(new StartError(code, output.stderr)), reject)
  })
  const client = httpClient(url)
  return {
    url,
    process: child,
    exited,
    send: client.send,
    get: client.get,
    stderr: () => output.stderr,
    kill: async () => {
      killChild()
      await exited
      client.close()
    },
    stop: async () => {
      child.kill('SIGTERM')
      const code = await exited
      client.close()
      return code
    },
  }
}

/** What the server says when it refuses to start. */
export async function startRefused(t: TestContext, options: ServerOptions): Promise<StartError> {
  const outcome = await startServer(t, options).catch((error: unknown) => error)
  if (outcome instanceof StartError) return outcome
  throw new Error('the server started', { cause: outcome })
}

export type Client = Pick<Server, 'send' | 'get'> & { readonly close: () => void }

export function httpClient(url: string): Client {
  const agent = new Agent({ keepAlive: true })
  const { hostname, port } = new URL(url)
  const send = ({ method, path: target, body, headers = {} }: Call): Promise<Answer> =>
    new Promise((resolve, reject) => {
      const raw = Buffer.isBuffer(body)
      const payload = raw ? body : body === undefined ? undefined : Buffer.from(JSON.stringify(body))
      const type = raw ? 'application/octet-stream' : 'application/json'
      const length = payload === undefined ? {} : { 'content-type': type, 'content-length': String(payload.length) }
      const request = httpRequest(
        { agent, host: hostname, port, method, path: target, headers: { ...length, ...headers } },
        (response) => {
          const chunks: Buffer[] = []
          response.on('data', (chunk: Buffer) => chunks.push(chunk))
          response.once('error', reject)
          response.once('end', () => {
            const text = Buffer.concat(chunks).toString()
            const json = String(response.headers['content-type']).includes('json')
            const parsed: unknown = json ? JSON.parse(text) : undefined
            resolve({ status: response.statusCode ?? 0, headers: response.headers, text, body: parsed })
          })
        },
      )
      request.once('error', reject)
      request.end(payload)
    })
  const get = async (target: string): Promise<unknown> => {
    const { status, text, body } = await send({ method: 'GET', path: target })
    if (status !== 200) throw new Error(`GET ${target}: ${status} ${text}`)
    return body
  }
  return { send, get, close: () => agent.destroy() }
}

/** A directory for V8's compile cache, filled by one start, so that every further start costs half. */
export async function warmCache(t: TestContext): Promise<Readonly<Record<string, string>>> {
  const env = { NODE_COMPILE_CACHE: temporaryDirectory(t) }
  const server = await startServer(t, { data: ':memory:', env })
  await server.stop()
  return env
}
