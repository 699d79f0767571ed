import type { Refusal, Result } from '../domain/refusal.ts'
import { SERVICE_CODES, type ServiceCode } from './problem-codes.ts'

/** One field at fault. The pointer is relative to the part of the request it is in. */
export type FieldError = {
  readonly in: 'body' | 'query' | 'path' | 'headers'
  readonly pointer: string
  readonly detail: string
}

/** A refusal of the domain on its way to the client. The only way in which one becomes an exception. */
export class RefusalError extends Error {
  readonly refusal: Refusal
  readonly part: FieldError['in']
  /** What a request had changed, durably, before it was refused; undefined when it had changed nothing. */
  readonly progress: Readonly<Record<string, unknown>> | undefined

  /** `part` is where the refusal's pointer points: the body unless a path or query value was parsed. */
  constructor(refusal: Refusal, part: FieldError['in'] = 'body', progress?: Readonly<Record<string, unknown>>) {
    super(refusal.detail)
    this.name = 'RefusalError'
    this.refusal = refusal
    this.part = part
    this.progress = progress
  }
}

export type ServiceErrorOptions = {
  readonly errors?: readonly FieldError[]
  readonly retryAfterSeconds?: number
  readonly headers?: Readonly<Record<string, string>>
  /** For the log only. */
  readonly cause?: unknown
}

/** A condition of the service itself, named by a code of its table. The client sees `detail`, never `cause`. */
export class ServiceError extends Error {
  readonly code: ServiceCode
  readonly options: ServiceErrorOptions

  constructor(code: ServiceCode, detail?: string, options: ServiceErrorOptions = {}) {
    super(detail ?? SERVICE_CODES[code].meaning, options.cause === undefined ? {} : { cause: options.cause })
    this.name = 'ServiceError'
    this.code = code
    this.options = options
  }
}

/** The value of a result, or its refusal thrown at the door. */
export function unwrap<T>(result: Result<T>, part: FieldError['in'] = 'body'): T {
  if (result.ok) return result.value
  throw new RefusalError(result.refusal, part)
}
