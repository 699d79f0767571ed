import assert from 'node:assert/strict'
import { Compile } from 'typebox/compile'
import { ProblemSchema, UNIVERSAL_STATUSES } from '../../src/routes/schemas/problem.ts'
import type { App } from '../../src/server/app.ts'

type ResponseSchema = { readonly content?: Readonly<Record<string, { readonly schema: object }>> }

const compiled = new WeakMap<object, ReturnType<typeof Compile>>()
const problem = Compile(ProblemSchema)

/**
 * Makes a test application check its own replies: a status that the route does not document, or a JSON body that is
 * not what its schema says, is recorded. Pass `instrument` to buildApp and call `verify` when the test is over.
 */
export function strictResponses(): { readonly instrument: (app: App) => void; readonly verify: () => void } {
  const faults: string[] = []
  const instrument = (app: App) => {
    app.addHook('onSend', (request, reply, payload, done) => {
      const fault = faultOf(request.routeOptions.schema?.response, reply.statusCode, payload)
      if (request.routeOptions.url !== undefined && request.routeOptions.schema?.hide !== true && fault !== undefined) {
        faults.push(`${request.method} ${request.routeOptions.url} ${reply.statusCode}: ${fault}`)
      }
      done(null, payload)
    })
  }
  return { instrument, verify: () => assert.deepEqual(faults, []) }
}

function faultOf(responses: unknown, status: number, payload: unknown): string | undefined {
  const schemas = (responses ?? {}) as Readonly<Record<string, ResponseSchema>>
  const schema = schemas[status]
  if (schema === undefined && !UNIVERSAL_STATUSES.includes(status)) return 'the status is not documented'
  if (typeof payload !== 'string') return undefined
  if (status >= 400) return problem.Check(JSON.parse(payload)) ? undefined : 'the body is not a problem document'
  if (schema === undefined || schema.content !== undefined) return undefined
  let validator = compiled.get(schema)
  if (validator === undefined) {
    validator = Compile(schema)
    compiled.set(schema, validator)
  }
  const value: unknown = JSON.parse(payload)
  if (validator.Check(value)) return undefined
  return validator
    .Errors(value)
    .map((error) => `${error.instancePath} ${error.message}`)
    .join('; ')
}
