import type { FastifyInstance, FastifySchemaCompiler } from 'fastify'
import Type, { type TSchema } from 'typebox'
import { Compile } from 'typebox/compile'
import { Settings } from 'typebox/system'
import { type FieldError, ServiceError } from '../routes/errors.ts'
import { PROBLEM_ERRORS } from '../routes/limits.ts'
import { fieldErrors, type SchemaError } from './field-errors.ts'

// The library stops after eight errors by itself; every bad field is to be named.
Settings.Set({ maxErrors: 8 * PROBLEM_ERRORS })

const PARTS: Readonly<Record<string, FieldError['in']>> = {
  body: 'body',
  querystring: 'query',
  query: 'query',
  params: 'path',
  headers: 'headers',
}

/**
 * Checks a part of a request against its schema and changes nothing in it: no coercion, no defaults, no dropped
 * fields. An absent body stands for `{}` where the schema takes that.
 */
export const validatorCompiler: FastifySchemaCompiler<TSchema> = ({ schema, httpPart }) => {
  const validator = Compile(schema)
  const part = PARTS[httpPart ?? 'body'] ?? 'body'
  const emptyBody = part === 'body' && validator.Check({})
  return (value: unknown) => {
    if (validator.Check(value)) return { value }
    // The framework gives null for an absent body; a body that says null was refused when it was parsed.
    if (part === 'body' && value === null)
      return emptyBody ? { value: {} } : { error: new ServiceError('body-required') }
    return { error: validationFailed(fieldErrors(schema, validator.Errors(value) as SchemaError[], part)) }
  }
}

const NoQuery = Type.Object({}, { additionalProperties: false })

/** Parts that a route's schema says nothing about take nothing, so that no field is ever dropped in silence. */
export function closeOpenParts(app: FastifyInstance): void {
  app.addHook('onRoute', (route) => {
    if (route.schema?.hide === true) return
    route.schema = { querystring: NoQuery, ...route.schema }
    if (route.schema.body !== undefined) return
    const own = route.preHandler === undefined ? [] : [route.preHandler].flat()
    route.preHandler = [
      ...own,
      (request, _reply, done) => {
        if (isEmpty(request.body)) done()
        else done(validationFailed([{ in: 'body', pointer: '', detail: 'must be absent or {}' }]))
      },
    ]
  })
}

const isEmpty = (body: unknown): boolean =>
  body === undefined || (typeof body === 'object' && body !== null && !Array.isArray(body) && isEmptyObject(body))

function isEmptyObject(body: object): boolean {
  for (const _key in body) return false
  return true
}

export function validationFailed(all: readonly FieldError[]): ServiceError {
  const errors = all.slice(0, PROBLEM_ERRORS)
  const first = errors[0]
  if (first === undefined) return new ServiceError('validation-failed')
  const name = first.pointer === '' ? `The ${first.in}` : `"${first.pointer}" in the ${first.in}`
  const more = all.length > 1 ? ` (and ${all.length - 1} more)` : ''
  return new ServiceError('validation-failed', `${name} ${first.detail}${more}.`, { errors })
}
