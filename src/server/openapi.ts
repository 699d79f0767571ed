import { readFileSync } from 'node:fs'
import helmet from '@fastify/helmet'
import swagger from '@fastify/swagger'
import swaggerUi from '@fastify/swagger-ui'
import type { FastifyInstance, RouteOptions } from 'fastify'
import { defaultProblemResponse, ProblemSchema } from '../routes/schemas/problem.ts'

const manifest = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as {
  readonly version: string
  readonly description: string
}

const TAGS = [
  { name: 'technologies', description: 'What can be emulated, and by which rules.' },
  { name: 'hosts', description: 'Emulated machines: physical memory and the machine-wide tables.' },
  { name: 'vms', description: 'Confidential VMs: life cycle, accounting, explanation.' },
  { name: 'memfiles', description: 'Private backing stores: bind, fallocate, punch hole.' },
  { name: 'memslots', description: 'Guest-physical ranges and what backs them.' },
  { name: 'page states', description: 'Private and shared: conversions, attributes, runs.' },
  { name: 'accesses', description: 'Guest and host touch memory; exits wait for the VMM; mappings and pins.' },
  { name: 'calls', description: 'Raw calls of the emulated hardware.' },
  { name: 'launch', description: 'Measured population of a VM.' },
  { name: 'measurements', description: 'Launch digests with their transcript, without a VM.' },
  { name: 'attestation', description: 'Evidence and certificates. All of it is simulated.' },
  { name: 'journal', description: 'The durable order of everything that happened.' },
  { name: 'service', description: 'Health, metrics and this document.' },
]

/** The documentation page runs its own scripts and styles, which the API never needs. */
const DOCS_CSP = {
  directives: {
    'default-src': ["'none'"],
    'script-src': ["'self'"],
    'style-src': ["'self'", "'unsafe-inline'"],
    'img-src': ["'self'", 'data:'],
    'font-src': ["'self'"],
    'connect-src': ["'self'"],
    'base-uri': ["'none'"],
    'form-action': ["'none'"],
    'frame-ancestors': ["'none'"],
  },
  useDefaults: false,
}

/** Documents every route from its schemas. Register before any route. */
export async function registerOpenApi(app: FastifyInstance): Promise<void> {
  app.addSchema(ProblemSchema)
  app.addHook('onRoute', (route) => {
    if (route.schema?.hide === true) return
    requireDocumentation(route)
    route.schema = { ...route.schema, response: withDefault(route.schema?.response) }
  })
  await app.register(swagger, {
    openapi: {
      openapi: '3.1.0',
      info: {
        title: 'gmemd',
        version: manifest.version,
        summary: manifest.description,
        description:
          'A control plane for the memory of confidential VMs over emulated hardware. ' +
          'All hardware and all evidence are simulated; gmemd isolates nothing.',
        license: { name: 'Apache-2.0', identifier: 'Apache-2.0' },
      },
      tags: TAGS,
    },
    convertConstToEnum: false,
    refResolver: { buildLocalReference: (json, _base, _fragment, index) => String(json.$id ?? `def-${index}`) },
  })
}

/** Serves Swagger UI at /docs from files on this machine, with a content policy of its own. */
export function registerDocs(app: FastifyInstance, apiHeaders: readonly string[]): void {
  app.register(async (docs) => {
    docs.addHook('onRequest', (_request, reply, done) => {
      for (const name of apiHeaders) reply.removeHeader(name)
      done()
    })
    await docs.register(helmet, {
      contentSecurityPolicy: DOCS_CSP,
      strictTransportSecurity: false,
      crossOriginEmbedderPolicy: false,
    })
    await docs.register(swaggerUi, { routePrefix: '/docs', uiConfig: { validatorUrl: null, deepLinking: true } })
  })
}

const withDefault = (response: unknown): unknown => ({
  ...(typeof response === 'object' ? response : {}),
  default: defaultProblemResponse,
})

/** An operation without a name, a summary and a place in the document does not start. */
function requireDocumentation({ method, url, schema }: RouteOptions): void {
  const missing = [
    schema?.operationId === undefined && 'operationId',
    schema?.summary === undefined && 'summary',
    (schema?.tags ?? []).length === 0 && 'tags',
    schema?.response === undefined && 'response',
  ].filter((name) => name !== false)
  if (missing.length > 0) throw new Error(`the schema of ${String(method)} ${url} lacks ${missing.join(', ')}`)
}
