import type { FastifyInstance } from 'fastify'
import Type from 'typebox'
import { ServiceError } from './errors.ts'
import { problems } from './schemas/problem.ts'

export type HealthOptions = {
  readonly ready: () => { readonly ok: boolean; readonly reason?: string }
  readonly metrics: { readonly contentType: string; text(): Promise<string> }
}

const Alive = Type.Object(
  { status: Type.Literal('ok') },
  { description: 'The process answers.', additionalProperties: false, examples: [{ status: 'ok' }] },
)
const Ready = Type.Object(
  { status: Type.Literal('ready') },
  { description: 'The service takes requests.', additionalProperties: false, examples: [{ status: 'ready' }] },
)

/** What supervisors and monitoring ask. */
export function healthRoutes(app: FastifyInstance, { ready, metrics }: HealthOptions): void {
  app.get(
    '/healthz',
    {
      schema: {
        operationId: 'getHealth',
        tags: ['service'],
        summary: 'Is the process alive?',
        response: { 200: Alive },
      },
    },
    () => ({ status: 'ok' }),
  )
  app.get(
    '/readyz',
    {
      schema: {
        operationId: 'getReadiness',
        tags: ['service'],
        summary: 'Does the service take requests?',
        response: { 200: Ready, ...problems(503) },
      },
    },
    () => {
      const { ok, reason } = ready()
      if (!ok) throw new ServiceError('not-ready', reason === undefined ? undefined : `Not ready: ${reason}.`)
      return { status: 'ready' }
    },
  )
  app.get(
    '/metrics',
    {
      schema: {
        operationId: 'getMetrics',
        tags: ['service'],
        summary: 'Counters and gauges in the Prometheus text format',
        response: {
          200: {
            description: 'The metrics.',
            content: {
              'text/plain': {
                schema: Type.String({ examples: ['gmemd_pages{host="sev-snp",state="private"} 512\n'] }),
              },
            },
          },
        },
      },
    },
    async (_request, reply) => reply.type(metrics.contentType).send(await metrics.text()),
  )
  app.get(
    '/openapi.json',
    {
      schema: {
        operationId: 'getOpenApi',
        tags: ['service'],
        summary: 'This API as an OpenAPI 3.1 document',
        response: {
          200: Type.Object(
            { openapi: Type.String() },
            { description: 'The document.', additionalProperties: true, examples: [{ openapi: '3.1.0' }] },
          ),
        },
      },
    },
    () => app.swagger(),
  )
}
