import { createHash } from 'node:crypto'
import type { HostCommand } from '../domain/apply.ts'
import type { Command } from '../domain/commands.ts'
import type { Engine, Executed, ExecuteOptions } from '../domain/engine.ts'
import type { Host } from '../domain/host.ts'
import type { StoredReply } from '../domain/journal.ts'
import { notFound, type Refusal, type Result } from '../domain/refusal.ts'
import type { MutationRequest, Reply } from './api.ts'
import { RefusalError, ServiceError } from './errors.ts'
import { formatEtag, ifMatchHolds } from './schemas/headers.ts'

export type Json = Record<string, unknown>

/**
 * How one operation answers. Made once when its route is registered, so that a request costs no closure of it.
 * `Target` is what the command is executed on: its host, where nothing else is said.
 */
export type Effect<C extends Command, Target = Host> = {
  /** 200 where nothing else is said. */
  readonly status?: (value: Json) => number
  /** The reply's body, without `seq`; the command's value as it is where nothing is said. */
  readonly present?: (value: Json) => Json
  /** The revision that If-Match is held against and that the reply's ETag shows; undefined when there is no such thing. */
  readonly revision?: (target: Target, command: C) => number | undefined
  /** Where what was made is to be found, on 201. */
  readonly location?: (value: Json, command: C) => string
} & (Target extends Host ? { readonly execute?: Execute<C, Target> } : { readonly execute: Execute<C, Target> })

type Execute<C, Target> = (
  engine: Engine,
  target: Target,
  command: C,
  options: ExecuteOptions,
) => Promise<Result<Executed>>

/** Executes a command and answers when it is durable. Without a target what the path names does not exist. */
export type Mutate<C extends Command, Target> = (
  request: MutationRequest,
  reply: Reply,
  target: Target | undefined,
  command: C,
) => Promise<unknown>

type StoredHeaders = { readonly etag?: string; readonly location?: string }

const NO_OPTIONS: ExecuteOptions = {}

/** The way of every mutation: Idempotency-Key, If-Match, one command, and a reply once it is durable. */
export function mutation<C extends Command, Target = Host>(
  engine: Engine,
  effect: Effect<C, Target>,
): Mutate<C, Target> {
  const { revision, present, location } = effect
  const statusOf = effect.status ?? (() => 200)
  const execute: Execute<C, Target> =
    effect.execute ??
    ((_engine, target, command, options) => engine.execute(target as Host, command as HostCommand, options))

  const checkPrecondition = (request: MutationRequest, target: Target, command: C): void => {
    const header = request.headers['if-match']
    if (header === undefined || revision === undefined) return
    const current = revision(target, command)
    if (current === undefined || !ifMatchHolds(header, current)) throw new ServiceError('precondition-failed')
  }

  /** What was just made has its revision in its representation alone: the command could not name it. */
  const madeRevision = ({ revision: made }: Json): number | undefined =>
    location !== undefined && typeof made === 'number' ? made : undefined

  const bodyOf = ({ value, seq }: Executed): Json => {
    const body = present === undefined ? { ...value } : present(value)
    body.seq = seq
    return body
  }

  const once = async (
    request: MutationRequest,
    reply: Reply,
    target: Target | undefined,
    command: C,
    key: string,
  ): Promise<unknown> => {
    engine.assertServing()
    const fingerprint = fingerprintOf(request)
    const earlier = earlierReply(engine, key, fingerprint)
    if (earlier !== undefined) return replay(request, reply, earlier)
    if (target === undefined) return answerMissing(engine, request, command)
    checkPrecondition(request, target, command)
    let made: StoredReply | undefined
    const store = (executed: Executed): StoredReply => {
      const headers: StoredHeaders = {
        ...etagOf(revision?.(target, command) ?? madeRevision(executed.value)),
        ...(location === undefined ? {} : { location: location(executed.value, command) }),
      }
      made = { key, fingerprint, seq: executed.seq, headers: JSON.stringify(headers), ...written(reply, executed) }
      return made
    }
    const written = (to: Reply, executed: Executed): Pick<StoredReply, 'status' | 'body'> => {
      if (executed.partial !== undefined) return { status: PARTIAL, body: JSON.stringify(executed) }
      const status = statusOf(executed.value)
      to.code(status)
      return { status, body: String(to.serialize(bodyOf(executed))) }
    }
    engine.replies.running.set(key, fingerprint)
    try {
      const result = await execute(engine, target, command, { reply: store })
      if (!result.ok) throw refusalError(request, result.refusal)
    } finally {
      engine.replies.running.delete(key)
    }
    if (made === undefined) throw new Error('an accepted command left no reply for its key')
    return send(request, reply, made)
  }

  return (request, reply, target, command) => {
    const key = request.headers['idempotency-key']
    if (key !== undefined) return once(request, reply, target, command, String(key))
    if (target === undefined) return answerMissing(engine, request, command)
    checkPrecondition(request, target, command)
    const executing = execute(engine, target, command, NO_OPTIONS)
    // The command is applied by now, and nobody else's command is: this is the revision it made.
    const after = revision?.(target, command)
    return executing.then((result) => {
      if (!result.ok) throw refusalError(request, result.refusal)
      const { value, seq, partial } = result.value
      reply.header('gmemd-seq', seq)
      if (partial !== undefined) throw refusalError(request, partial, result.value)
      const shown = after ?? madeRevision(value)
      if (shown !== undefined) reply.header('etag', formatEtag(shown))
      if (location !== undefined) reply.header('location', location(value, command))
      const status = statusOf(value)
      if (status !== 200) reply.code(status)
      return bodyOf(result.value)
    })
  }
}

/** That something does not exist is durable as well: it may have been deleted a moment ago. */
async function answerMissing(engine: Engine, request: MutationRequest, command: Command): Promise<never> {
  engine.assertServing()
  await engine.settled()
  const missing = 'vm' in command && command.type !== 'memfile.bind' ? notFound('vm', command.vm) : missingFile(command)
  throw missing.ok ? new Error('nothing is missing') : refusalError(request, missing.refusal)
}

const missingFile = (command: Command): Result<never> =>
  'memfile' in command ? notFound('memfile', String(command.memfile)) : notFound('host', '')

/** Status under which a partial outcome is stored: its problem document is written anew, with the id of its request. */
const PARTIAL = 422

const etagOf = (revision: number | undefined): StoredHeaders =>
  revision === undefined ? {} : { etag: formatEtag(revision) }

/** Method, URL and body, which a retry must repeat. */
function fingerprintOf({ method, url, body }: MutationRequest): string {
  const hash = createHash('sha256').update(`${method} ${url}\n`)
  return hash.update(Buffer.isBuffer(body) ? body : JSON.stringify(body ?? null)).digest('hex')
}

/** What was answered under this key before, if anything was. */
function earlierReply(engine: Engine, key: string, fingerprint: string): StoredReply | undefined {
  const running = engine.replies.running.get(key)
  const stored = running === undefined ? engine.replies.find(key) : undefined
  const known = running ?? stored?.fingerprint
  if (known !== undefined && known !== fingerprint) throw new ServiceError('idempotency-key-reused')
  if (running !== undefined) throw new ServiceError('idempotency-in-progress')
  return stored
}

function replay(request: MutationRequest, reply: Reply, stored: StoredReply): string {
  reply.header('idempotency-replayed', 'true')
  return send(request, reply, stored)
}

function send(request: MutationRequest, reply: Reply, { seq, status, headers, body }: StoredReply): string {
  reply.header('gmemd-seq', seq)
  if (status === PARTIAL) {
    const executed = JSON.parse(body) as Executed
    if (executed.partial !== undefined) throw refusalError(request, executed.partial, executed)
  }
  for (const [name, value] of Object.entries(JSON.parse(headers) as Record<string, string>)) reply.header(name, value)
  reply.code(status).type('application/json; charset=utf-8')
  return body
}

/** A refusal's pointer names a field of the body, or a parameter of the path. */
function refusalError({ params }: MutationRequest, refusal: Refusal, executed?: Executed): RefusalError {
  const name = refusal.pointer?.slice(1)
  const inPath = name !== undefined && Object.hasOwn(params as object, name)
  const done = executed === undefined ? undefined : { ...executed.value, seq: executed.seq }
  const progress = refusal.outputs === undefined ? done : { ...done, ...refusal.outputs }
  return new RefusalError(refusal, inPath ? 'path' : 'body', progress)
}
