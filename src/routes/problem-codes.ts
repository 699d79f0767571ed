import type { RefusalKind } from '../domain/refusal.ts'

/** What one stable `code` of a problem document means. */
export type ProblemDefinition = { readonly status: number; readonly title: string; readonly meaning: string }

/** The codes that the service itself answers with, whatever the technology. */
export const SERVICE_CODES = {
  'validation-failed': {
    status: 400,
    title: 'The request does not match its schema',
    meaning:
      'A field of the body, query, path or headers is missing, unknown or of the wrong form. Every one is in `errors`.',
  },
  'body-required': {
    status: 400,
    title: 'A JSON body is required',
    meaning: 'The operation has required fields and the request came without a body.',
  },
  'malformed-json': {
    status: 400,
    title: 'The body is not JSON',
    meaning: 'Bad syntax, bytes that are not UTF-8, a byte order mark, or a lone surrogate in a string.',
  },
  'duplicate-key': {
    status: 400,
    title: 'A JSON object has the same key twice',
    meaning: 'Which of the two was meant cannot be known, so neither is taken.',
  },
  'forbidden-key': {
    status: 400,
    title: 'A JSON object has a forbidden key',
    meaning: '`__proto__`, or `constructor` holding `prototype`.',
  },
  'inexact-number': {
    status: 400,
    title: 'A JSON number would be rounded',
    meaning:
      'An integer beyond 2^53-1, minus zero, or more digits than a double keeps. Send 64-bit values as hex strings.',
  },
  'json-too-complex': {
    status: 400,
    title: 'The JSON body is too deep or has too many keys',
    meaning: 'The bounds on nesting and on the number of object members hold for every body.',
  },
  'malformed-request': {
    status: 400,
    title: 'The request is not valid HTTP',
    meaning: 'The request line, the headers, the URL encoding or the framing of the body could not be understood.',
  },
  'no-such-route': {
    status: 404,
    title: 'There is no such path',
    meaning: 'No operation is served under this path with any method.',
  },
  'method-not-allowed': {
    status: 405,
    title: 'The path does not take this method',
    meaning: 'The `Allow` header lists the methods that it takes.',
  },
  'request-timeout': {
    status: 408,
    title: 'The request took too long to arrive',
    meaning: 'Headers or body were not complete within the time-out.',
  },
  'idempotency-in-progress': {
    status: 409,
    title: 'A request with this Idempotency-Key is still running',
    meaning: 'Retry later with the same key and body to get its reply.',
  },
  'precondition-failed': {
    status: 412,
    title: 'The If-Match precondition does not hold',
    meaning: 'The resource has changed since the representation with that ETag was read. Read it again.',
  },
  'body-too-large': {
    status: 413,
    title: 'The request body is too large',
    meaning: 'Bodies are bounded: 64 KiB, 1 MiB for batches, 64 MiB for firmware images.',
  },
  'url-too-long': {
    status: 414,
    title: 'The request URL is too long',
    meaning: 'Path and query are bounded to 2 KiB, one path parameter to 128 characters.',
  },
  'unsupported-media-type': {
    status: 415,
    title: 'The body has an unsupported media type',
    meaning: 'Bodies are application/json in UTF-8 without content coding, except where an operation says otherwise.',
  },
  'idempotency-key-reused': {
    status: 422,
    title: 'The Idempotency-Key was used for a different request',
    meaning: 'A key names one request: method, path and body must be the same on a retry.',
  },
  'rate-limited': {
    status: 429,
    title: 'Too many requests',
    meaning: 'The `Retry-After` header says when to go on.',
  },
  'headers-too-large': {
    status: 431,
    title: 'The request headers are too large',
    meaning: 'Request line and headers together are bounded to 16 KiB.',
  },
  'internal-error': {
    status: 500,
    title: 'Internal error',
    meaning: 'A fault of gmemd. The log has it under the same requestId.',
  },
  'storage-failed': {
    status: 503,
    title: 'The journal could not be written',
    meaning: 'The state is what is on disk. The outcome of this request is not in it; retry after the time given.',
  },
  'not-ready': {
    status: 503,
    title: 'The service is not ready',
    meaning: 'It is starting, or its storage failed and is being opened again.',
  },
  'shutting-down': {
    status: 503,
    title: 'The service is stopping',
    meaning: 'The request was not started. Retry against the next instance.',
  },
  'storage-full': {
    status: 507,
    title: 'The storage is full',
    meaning: 'Nothing of the request was kept. Reads go on; writes resume when there is space.',
  },
} as const satisfies Readonly<Record<string, ProblemDefinition>>

export type ServiceCode = keyof typeof SERVICE_CODES

/** Status and title of a refusal whose code has no entry of its own. */
export const REFUSAL_KINDS: Readonly<Record<RefusalKind, { readonly status: number; readonly title: string }>> = {
  invalid: { status: 400, title: 'The request is not valid' },
  'not-found': { status: 404, title: 'There is no such thing' },
  conflict: { status: 409, title: 'The current state does not allow this' },
  kernel: { status: 422, title: 'Refused by the rules of the kernel' },
}

/** What a refusal's code means; its status follows from its kind, of which it may have more than one. */
export type RefusalDefinition = {
  readonly kinds: readonly RefusalKind[]
  readonly title: string
  readonly meaning: string
}

export type ProblemRow = ProblemDefinition & { readonly code: string }

/** Every code with its status, title and meaning, ordered by status and then by name. */
export function problemTable(refusals: Readonly<Record<string, RefusalDefinition>>): readonly ProblemRow[] {
  const rows: ProblemRow[] = Object.entries(SERVICE_CODES).map(([code, definition]) => ({ code, ...definition }))
  for (const [code, { kinds, title, meaning }] of Object.entries(refusals)) {
    for (const kind of kinds) rows.push({ code, status: REFUSAL_KINDS[kind].status, title, meaning })
  }
  return rows.sort((a, b) => a.status - b.status || (a.code < b.code ? -1 : 1))
}
