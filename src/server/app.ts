import { randomBytes } from 'node:crypto'
import type { IncomingMessage } from 'node:http'
import rateLimit from '@fastify/rate-limit'
import type { TypeBoxTypeProvider } from '@fastify/type-provider-typebox'
import {
  type FastifyBaseLogger,
  type FastifyInstance,
  fastify,
  LogController,
  type RawReplyDefaultExpression,
  type RawRequestDefaultExpression,
  type RawServerDefault,
} from 'fastify'
import type { Logger } from 'pino'
import { ServiceError } from '../routes/errors.ts'
import { healthRoutes } from '../routes/health.ts'
import * as limits from '../routes/limits.ts'
import { trackMethods } from './allowed-methods.ts'
import { answerClientError } from './client-error.ts'
import { registerJsonBody } from './json-body.ts'
import { Lifecycle } from './lifecycle.ts'
import type { Metrics } from './metrics.ts'
import { registerDocs, registerOpenApi } from './openapi.ts'
import { sendProblem } from './problems.ts'
import { closeOpenParts, validatorCompiler } from './validation.ts'

export type App = FastifyInstance<
  RawServerDefault,
  RawRequestDefaultExpression,
  RawReplyDefaultExpression,
  FastifyBaseLogger,
  TypeBoxTypeProvider
>

export type AppOptions = {
  readonly metrics: Metrics
  /** Registers the routes of the API. */
  readonly registerRoutes: (app: App) => void | Promise<void>
  /** Whether storage and hosts take requests. The state of the process is added to it. */
  readonly health: { readonly ready: () => { readonly ok: boolean; readonly reason?: string } }
  readonly lifecycle?: Lifecycle
  /** Nothing is logged without one. */
  readonly logger?: Logger
  readonly rateLimit?: { readonly requests: number; readonly windowMs: number }
  /** Called before anything is registered; tests hang their hooks here. */
  readonly instrument?: (app: App) => void
}

/** The API answers data only: nothing in it may be interpreted, framed or cached. */
const API_HEADERS = {
  'cache-control': 'no-store',
  'content-security-policy': "default-src 'none'; frame-ancestors 'none'",
  'referrer-policy': 'no-referrer',
  'x-content-type-options': 'nosniff',
} as const

/** Builds the application without listening. */
export async function buildApp(options: AppOptions): Promise<App> {
  const { metrics, logger, lifecycle = new Lifecycle() } = options
  const nextRequestId = requestIds()
  const app: App = fastify({
    ...(logger === undefined ? { logger: false } : { loggerInstance: logger as FastifyBaseLogger }),
    // A child logger for each request costs as much as routing it; log entries name the requestId themselves.
    childLoggerFactory: (parent) => parent,
    logController: new LogController({ disableRequestLogging: true }),
    genReqId: (request: IncomingMessage) => requestIdOf(request) ?? nextRequestId(),
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
    // Requests that arrive while the server closes get a problem document from the first hook below.
    return503OnClosing: false,
    frameworkErrors: sendProblem,
    clientErrorHandler: (error, socket) => answerClientError(error, socket, nextRequestId()),
  }).withTypeProvider<TypeBoxTypeProvider>()
  app.server.maxConnections = limits.CONNECTIONS

  options.instrument?.(app)
  app.setValidatorCompiler(validatorCompiler)
  closeOpenParts(app)
  registerJsonBody(app)
  app.setErrorHandler(sendProblem)
  app.addHook('onRequest', (request, reply, done) => {
    reply.headers(API_HEADERS)
    if (lifecycle.draining) done(new ServiceError('shutting-down', undefined, { headers: { connection: 'close' } }))
    else if (request.raw.httpVersionMajor < 1) done(new ServiceError('malformed-request'))
    else if ((request.raw.url ?? '').length > limits.URL_BYTES) done(new ServiceError('url-too-long'))
    else done()
  })
  if (logger?.isLevelEnabled('debug') === true) logRequests(app)
  observeRequests(app, metrics)
  await registerRateLimit(app, options.rateLimit ?? limits.RATE_LIMIT)
  registerNotFound(app, metrics)
  await registerOpenApi(app)
  const ready = () => {
    const own = lifecycle.ready()
    return own.ok ? options.health.ready() : own
  }
  healthRoutes(app, { ready, metrics })
  registerDocs(app, Object.keys(API_HEADERS))
  await options.registerRoutes(app)
  await app.ready()
  return app
}

/** An id that the client chose, if it is one that can go into a log line. */
function requestIdOf({ headers }: IncomingMessage): string | undefined {
  const id = headers['x-request-id']
  if (typeof id !== 'string' || id.length > limits.REQUEST_ID_CHARACTERS) return undefined
  return /^[\w.:-]+$/.test(id) ? id : undefined
}

/** Ids that are unique over restarts: a random start and a counter. */
function requestIds(): () => string {
  const prefix = randomBytes(5).toString('hex')
  let count = 0
  return () => `${prefix}-${(++count).toString(36)}`
}

function logRequests(app: App): void {
  app.addHook('onResponse', (request, reply, done) => {
    const { id: requestId, method, url } = request
    const milliseconds = Math.round(reply.elapsedTime * 1000) / 1000
    request.log.debug({ requestId, method, url, status: reply.statusCode, milliseconds }, 'request answered')
    done()
  })
}

/** Gives every route its own observer, so that an observation looks nothing up. */
function observeRequests(app: App, metrics: Metrics): void {
  app.addHook('onRoute', (route) => {
    const observe = metrics.requestObserver(route.url, String(route.method))
    const own = route.onResponse === undefined ? [] : [route.onResponse].flat()
    route.onResponse = [
      ...own,
      (_request, reply, done) => {
        observe(reply.statusCode, reply.elapsedTime / 1000)
        done()
      },
    ]
  })
}

async function registerRateLimit(app: App, { requests, windowMs }: { requests: number; windowMs: number }) {
  const silent = { 'x-ratelimit-limit': false, 'x-ratelimit-remaining': false, 'x-ratelimit-reset': false }
  await app.register(rateLimit, {
    max: requests,
    timeWindow: windowMs,
    cache: limits.RATE_LIMIT.addresses,
    addHeadersOnExceeding: silent,
    addHeaders: { ...silent, 'retry-after': false },
    // A Unix socket has no address; all its clients are one.
    keyGenerator: (request) => request.ip ?? 'local',
    errorResponseBuilder: (_request, { ttl }) =>
      new ServiceError('rate-limited', undefined, { retryAfterSeconds: Math.max(1, Math.ceil(ttl / 1000)) }),
  })
}

function registerNotFound(app: App, metrics: Metrics): void {
  const allowedMethods = trackMethods(app)
  const observe = metrics.requestObserver('unmatched', 'any')
  app.setNotFoundHandler({ preHandler: app.rateLimit() }, (request, reply) => {
    const allowed = allowedMethods(request.url.split('?', 1)[0] ?? '')
    // A route that takes the method may itself find nothing, as the one of static files does.
    const error =
      allowed.length === 0 || allowed.includes(request.method)
        ? new ServiceError('no-such-route')
        : new ServiceError('method-not-allowed', undefined, { headers: { allow: allowed.join(', ') } })
    sendProblem(error, request, reply)
    observe(reply.statusCode, reply.elapsedTime / 1000)
  })
}
