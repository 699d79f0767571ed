import type { FastifyRequest } from 'fastify'
import Type, { type Static } from 'typebox'
import { invalid } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { RefusalError, ServiceError, unwrap } from './errors.ts'
import { BULK_BODY_BYTES, IMAGE_BODY_BYTES } from './limits.ts'
import { type Files, parseForm, resolveFiles } from './measurement-files.ts'
import type { Json } from './mutation.ts'
import { checker } from './schemas/checked-later.ts'
import { closed, openObject } from './schemas/output.ts'
import { problems } from './schemas/problem.ts'

const FORM = 'multipart/form-data'
const AnyRequest = closed({ technology: Type.String({ minLength: 1 }), inputs: openObject('Inputs.') })
type AnyRequest = Static<typeof AnyRequest>

const Measurement = openObject("The digest under its technology's own name, and everything that led to it.", {
  technology: Type.String(),
  steps: Type.Optional(Type.Array(openObject('One step, with the digest after it.'))),
})

type Parsed = { readonly body: unknown; readonly files: Files }
const NO_FILES: Files = new Map()

/** Launch digests with their transcript, without a VM. Nothing is stored. */
export async function measurementRoutes(app: Routes, { measurers, parseJson }: Api): Promise<void> {
  const checkAny: (value: unknown) => asserts value is AnyRequest = checker(app, AnyRequest)
  const forms = [...measurers.values()].map(({ technology, schema }) =>
    closed({ technology: Type.Literal(technology), inputs: schema }, { title: technology }),
  )
  const checks = new Map([...measurers.keys()].map((name, index) => [name, checker(app, forms[index] ?? AnyRequest)]))
  const schema = { oneOf: forms, discriminator: { propertyName: 'technology' }, examples: [EXAMPLE] }
  const form = Type.Object({ request: Type.Unsafe<AnyRequest>(schema) }, { additionalProperties: FILE })

  const parse = async (request: FastifyRequest): Promise<Parsed> => {
    if (!Buffer.isBuffer(request.body)) return { body: request.body ?? null, files: NO_FILES }
    const { request: json, files } = await parseForm(request.body, String(request.headers['content-type']))
    if (json === undefined) throw new ServiceError('body-required', 'The form has no part "request".')
    return { body: parseJson(json), files }
  }

  const measure = ({ body, files }: Parsed): Json => {
    checkAny(body)
    const measurer = measurers.get(body.technology)
    if (measurer === undefined) {
      const detail = `"${body.technology}" is not one of ${[...measurers.keys()].join(', ')}.`
      return unwrap(invalid('no-such-technology', detail, '/technology'))
    }
    checks.get(body.technology)?.(body)
    const verdict = measurer.measure(resolveFiles(body.inputs, files))
    if (!verdict.ok) throw new RefusalError({ kind: 'kernel', ...verdict.refusal })
    return { technology: body.technology, ...verdict.value }
  }

  // A scope of its own: no other route takes forms.
  await app.register(async (scope) => {
    scope.addContentTypeParser(FORM, { parseAs: 'buffer' }, (_request, body, done) => done(null, body))
    scope.post(
      '/v1/measurements',
      {
        bodyLimit: IMAGE_BODY_BYTES,
        onRequest: boundJson,
        // The body is checked once a form is taken apart.
        validatorCompiler: () => (value: unknown) => ({ value }),
        schema: {
          operationId: 'measure',
          tags: ['measurements'],
          summary: 'Compute a launch measurement with its transcript, without a VM',
          description: 'Files are base64 in JSON, or parts of a form whose part `request` is the JSON.',
          body: { content: { 'application/json': { schema }, [FORM]: { schema: form } } },
          response: { 200: Measurement, ...problems(422) },
        },
      },
      async (request) => measure(await parse(request)),
    )
  })
}

const FILE = Type.String({ format: 'binary', description: 'A file that `inputs` refers to by the name of its part.' })
const EXAMPLE = {
  technology: 'sev-snp',
  inputs: { mode: 'pages', pages: [{ pageType: 'ZERO', gpa: '0x800000', count: 2 }] },
}

/** Only a form may be as large as an image. */
function boundJson({ headers }: FastifyRequest, _reply: unknown, done: (error?: Error) => void): void {
  const large = Number(headers['content-length'] ?? 0) > BULK_BODY_BYTES
  const isForm = headers['content-type']?.toLowerCase().startsWith(FORM) ?? false
  if (large && !isForm) done(new ServiceError('body-too-large'))
  else done()
}
