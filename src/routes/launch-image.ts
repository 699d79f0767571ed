import type { IncomingHttpHeaders } from 'node:http'
import Type, { type TProperties, type TSchema } from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { kernelRefusal } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { ServiceError, unwrap } from './errors.ts'
import { launchState } from './launch.ts'
import { IMAGE_BODY_BYTES } from './limits.ts'
import { mutation } from './mutation.ts'
import { vmRevision } from './reading.ts'
import { AddressOutput } from './schemas/address.ts'
import { checker, checksFirst } from './schemas/checked-later.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { VmParams } from './schemas/names.ts'
import { closed, mutated, openObject } from './schemas/output.ts'
import { mutationProblems } from './schemas/problem.ts'
import { BooleanText } from './schemas/query.ts'

const IMAGE_TYPE = 'application/octet-stream'
const AnyQuery = openObject('Parameters of the technology.')

const Launched = mutated(
  {
    ...launchState,
    completed: Type.Integer({ description: 'Bytes that went in.' }),
    memory: Type.Array(
      closed({ slot: Type.Integer(), memfile: Type.String(), gpa: AddressOutput, size: Type.Integer() }),
      { description: 'Memory that gmemd made, as VMM, where the image needs some and no slot was.' },
    ),
  },
  'The launch after the image.',
)

/** A firmware image, launched as a named VMM would. */
export async function launchImageRoutes(app: Routes, { engine, backends }: Api): Promise<void> {
  const launch = mutation<CommandOf<'launch.image'>>(engine, { revision: vmRevision })
  const queries = new Map<string, ReturnType<typeof checker>>()
  const documented = new Map<string, TSchema[]>()
  for (const { technology, launch: schemas } of backends.values()) {
    if (schemas.image === undefined) continue
    const own = propertiesOf(schemas.image)
    for (const [name, schema] of Object.entries(own))
      documented.set(name, [...(documented.get(name) ?? []), { ...schema, title: technology }])
    queries.set(technology, checker(app, closed({ finish: Type.Optional(BooleanText), ...own }), 'querystring'))
  }

  const checkQuery = (technology: string, query: unknown): void => {
    const check = queries.get(technology)
    if (check !== undefined) check(query)
    else unwrap(kernelRefusal('ENOTTY', 'no-image-launch', `${technology} launches no firmware image.`))
  }

  // A scope of its own: no other route takes bytes.
  await app.register(async (scope) => {
    const images = scope as unknown as Routes
    images.removeAllContentTypeParsers()
    images.addContentTypeParser(IMAGE_TYPE, { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    images.post(
      '/v1/vms/:vm/launch/image',
      {
        bodyLimit: IMAGE_BODY_BYTES,
        validatorCompiler: (route) =>
          route.httpPart === 'body' ? bytesOnly : checksFirst(app, 'querystring', AnyQuery)(route),
        schema: {
          operationId: 'launchImage',
          tags: ['launch'],
          summary: 'Populate, measure and finish a firmware image, as a named VMM would',
          params: VmParams,
          headers: GuardedMutationHeaders,
          querystring: Type.Unsafe<Readonly<Record<string, unknown>>>(
            closed({ finish: Type.Optional(BooleanText), ...documentedQuery(documented) }),
          ),
          consumes: [IMAGE_TYPE],
          body: { content: { [IMAGE_TYPE]: { schema: Type.Unsafe<Buffer>({ type: 'string', format: 'binary' }) } } },
          response: { 200: Launched, ...mutationProblems(404, 412) },
        },
      },
      (request, reply) => {
        const { vm } = request.params
        const host = engine.hostOfVm(vm)
        if (host !== undefined) checkQuery(host.state.technology, request.query)
        const { finish = 'true', ...options } = request.query
        const attachment = imageOf(request)
        return launch(request, reply, host, {
          type: 'launch.image',
          vm,
          finish: finish === 'true',
          options,
          attachment,
        })
      },
    )
  })
}

const propertiesOf = (schema: object): TProperties => ('properties' in schema ? (schema.properties as TProperties) : {})

/** A parameter that several technologies have, each with values of its own, is any of theirs. */
const documentedQuery = (documented: ReadonlyMap<string, readonly TSchema[]>): TProperties =>
  Object.fromEntries([...documented].map(([name, schemas]) => [name, Type.Optional(anyOf(schemas))]))

const anyOf = (schemas: readonly TSchema[]): TSchema => {
  const [only, ...others] = schemas
  return only === undefined || others.length > 0 ? Type.Union([...schemas]) : only
}

const bytesOnly = (value: unknown) => ({ value })

function imageOf({ body, headers }: { readonly body: unknown; readonly headers: IncomingHttpHeaders }): Buffer {
  if (!Buffer.isBuffer(body) || body.length === 0) throw new ServiceError('body-required', 'The body is the image.')
  if (headers['content-encoding'] === undefined) return body
  throw new ServiceError('unsupported-media-type', 'An image must come without a content coding.')
}
