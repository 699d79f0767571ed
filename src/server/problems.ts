import type { FastifyError, FastifyReply, FastifyRequest } from 'fastify'
import { StorageError } from '../domain/journal.ts'
import type { Errno } from '../hw/shared/errno.ts'
import { type FieldError, RefusalError, ServiceError } from '../routes/errors.ts'
import { REFUSAL_KINDS, SERVICE_CODES, type ServiceCode } from '../routes/problem-codes.ts'
import { REFUSAL_CODES } from '../routes/refusal-codes.ts'

export const PROBLEM_TYPE = 'application/problem+json'

/** RFC 9457, with the members that gmemd adds. */
export type ProblemDocument = {
  readonly type: string
  readonly title: string
  readonly status: number
  readonly detail: string
  readonly code: string
  readonly requestId: string
  readonly errno?: Errno
  readonly hardware?: { readonly status: string; readonly code: number | string }
  readonly currentState?: string
  readonly allowedStates?: readonly string[]
  readonly errors?: readonly FieldError[]
  readonly progress?: Readonly<Record<string, unknown>>
}

export type Problem = { readonly document: ProblemDocument; readonly headers: Readonly<Record<string, string>> }

const RETRY_AFTER_SECONDS: Partial<Record<ServiceCode, number>> = {
  'idempotency-in-progress': 1,
  'rate-limited': 1,
  'storage-failed': 1,
  'not-ready': 1,
  'shutting-down': 1,
}

/** What the framework and its plugins call their errors. Their texts may quote the request, so ours are sent. */
const FRAMEWORK_CODES: Readonly<Record<string, ServiceCode>> = {
  FST_ERR_VALIDATION: 'validation-failed',
  FST_ERR_CTP_BODY_TOO_LARGE: 'body-too-large',
  FST_ERR_CTP_INVALID_MEDIA_TYPE: 'unsupported-media-type',
  FST_ERR_ROUTE_MISSING_CONTENT_TYPE: 'unsupported-media-type',
  FST_INVALID_MULTIPART_CONTENT_TYPE: 'unsupported-media-type',
  FST_ERR_CTP_INVALID_CONTENT_LENGTH: 'malformed-request',
  FST_ERR_BAD_URL: 'malformed-request',
  FST_ERR_INVALID_URL: 'malformed-request',
  FST_ERR_MAX_PARAM_LENGTH: 'url-too-long',
  FST_REQ_FILE_TOO_LARGE: 'body-too-large',
  FST_PARTS_LIMIT: 'body-too-large',
  FST_FILES_LIMIT: 'body-too-large',
  FST_FIELDS_LIMIT: 'body-too-large',
  FST_ERR_NOT_FOUND: 'no-such-route',
}

/** For client errors of plugins that have no code above: by status. */
const STATUS_CODES: Readonly<Record<number, ServiceCode>> = {
  400: 'malformed-request',
  // A path out of the folder of static files is nothing that is served.
  403: 'no-such-route',
  404: 'no-such-route',
  405: 'method-not-allowed',
  406: 'unsupported-media-type',
  408: 'request-timeout',
  412: 'precondition-failed',
  413: 'body-too-large',
  414: 'url-too-long',
  415: 'unsupported-media-type',
  416: 'malformed-request',
  429: 'rate-limited',
  431: 'headers-too-large',
}

/** The one mapping of errors to what the client sees. Whatever it does not know is a fault of ours: 500, no detail. */
export function problemOf(error: unknown, requestId: string): Problem {
  if (error instanceof RefusalError) return refusalProblem(error, requestId)
  return serviceProblem(error instanceof ServiceError ? error : serviceErrorOf(error), requestId)
}

function refusalProblem({ refusal, part, progress }: RefusalError, requestId: string): Problem {
  const { status, title } = REFUSAL_KINDS[refusal.kind]
  const { code, detail, errno, hardware, currentState, allowedStates, pointer } = refusal
  const document: ProblemDocument = {
    type: typeOf(code),
    title: REFUSAL_CODES[code]?.title ?? title,
    status,
    detail,
    code,
    requestId,
    ...(errno === undefined ? {} : { errno }),
    ...(hardware === undefined ? {} : { hardware }),
    ...(currentState === undefined ? {} : { currentState }),
    ...(allowedStates === undefined ? {} : { allowedStates }),
    ...(pointer === undefined ? {} : { errors: [{ in: part, pointer, detail }] }),
    ...(progress === undefined ? {} : { progress }),
  }
  return { document, headers: {} }
}

function serviceProblem(error: ServiceError, requestId: string): Problem {
  const { status, title } = SERVICE_CODES[error.code]
  const { errors, headers, retryAfterSeconds = RETRY_AFTER_SECONDS[error.code] } = error.options
  return {
    document: {
      type: typeOf(error.code),
      title,
      status,
      detail: error.message,
      code: error.code,
      requestId,
      ...(errors === undefined ? {} : { errors }),
    },
    headers: { ...headers, ...(retryAfterSeconds === undefined ? {} : { 'retry-after': String(retryAfterSeconds) }) },
  }
}

function serviceErrorOf(error: unknown): ServiceError {
  if (!(error instanceof Error)) return new ServiceError('internal-error')
  if (error instanceof StorageError) {
    return new ServiceError(error.code === 'full' ? 'storage-full' : 'storage-failed', undefined, { cause: error })
  }
  const { code, statusCode } = error as Partial<FastifyError>
  const known = code === undefined ? undefined : FRAMEWORK_CODES[code]
  if (known !== undefined) return new ServiceError(known)
  const byStatus = statusCode !== undefined && statusCode < 500 ? STATUS_CODES[statusCode] : undefined
  return new ServiceError(byStatus ?? 'internal-error')
}

/** A problem type names its code; nothing is served under it, docs/errors.md explains it. */
const typeOf = (code: string): string => `urn:gmemd:problem:${code}`

/** Answers with the problem, and logs what is our fault under the id that the client is given. */
export function sendProblem(error: unknown, request: FastifyRequest, reply: FastifyReply): void {
  const { document, headers } = problemOf(error, request.id)
  if (document.status >= 500) {
    const entry = { requestId: request.id, code: document.code, method: request.method, err: error }
    if (document.status === 500) request.log.error(entry, 'request failed')
    else request.log.warn(entry, 'request refused by the service')
  }
  reply.code(document.status).headers(headers).type(PROBLEM_TYPE).send(JSON.stringify(document))
}
