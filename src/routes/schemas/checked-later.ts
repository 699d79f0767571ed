import type { FastifySchemaCompiler } from 'fastify'
import type { TSchema } from 'typebox'
import type { Routes } from '../api.ts'

type Part = 'body' | 'querystring'

/**
 * A validator compiler for a route whose document says more than its first check: `schema` is what any technology
 * takes, and the rest is checked by a {@link checker} when the technology is known.
 */
export const checksFirst =
  (app: Routes, part: Part, schema: TSchema): FastifySchemaCompiler<TSchema> =>
  (route) =>
    compilerOf(app)(route.httpPart === part ? { ...route, schema } : route)

/** Checks a value as a route's own part is checked, and throws what the client is to see. */
export function checker(app: Routes, schema: TSchema, part: Part = 'body'): (value: unknown) => void {
  const validate = compilerOf(app)({ schema, method: '', url: '', httpPart: part })
  return (value) => {
    const checked: unknown = validate(value)
    if (typeof checked === 'object' && checked !== null && 'error' in checked) throw checked.error
  }
}

function compilerOf(app: Routes): FastifySchemaCompiler<TSchema> {
  const compiler: FastifySchemaCompiler<TSchema> | undefined = app.validatorCompiler
  if (compiler === undefined) throw new Error('the application has no validator compiler')
  return compiler
}
