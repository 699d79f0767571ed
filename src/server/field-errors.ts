import type { TSchema } from 'typebox'
import type { FieldError } from '../routes/errors.ts'
import { escapePointer } from './json-inspect.ts'

/** An error as the validator gives it: JSON-Schema keyword, place in the schema and place in the value. */
export type SchemaError = {
  readonly keyword: string
  readonly schemaPath: string
  readonly instancePath: string
  readonly message: string
  readonly params: Readonly<Record<string, unknown>>
}

/** Turns a validator's errors into one sentence for each bad field. */
export function fieldErrors(schema: TSchema, errors: readonly SchemaError[], part: FieldError['in']): FieldError[] {
  const unions = errors.filter((error) => error.keyword === 'anyOf' || error.keyword === 'oneOf')
  const found = new Map<string, FieldError>()
  const add = (pointer: string, detail: string) => {
    if (!found.has(pointer)) found.set(pointer, { in: part, pointer: pointer.toWellFormed(), detail })
  }
  for (const error of errors) {
    if (error.keyword === 'additionalProperties' || belongsToUnion(error, unions)) continue
    if (error.keyword === 'required') {
      for (const name of error.params.requiredProperties as string[]) {
        add(`${error.instancePath}/${escapePointer(name)}`, 'is required')
      }
    } else if (error.keyword === 'anyOf' || error.keyword === 'oneOf') {
      for (const { pointer, detail } of unionErrors(schema, error, errors, part)) add(pointer, detail)
    } else {
      add(error.instancePath, sentence(schema, error))
    }
  }
  return [...found.values()]
}

/** Whether a union error above stands for this one. */
function belongsToUnion(error: SchemaError, unions: readonly SchemaError[]): boolean {
  return unions.some((union) => union !== error && error.schemaPath.startsWith(`${union.schemaPath}/${union.keyword}/`))
}

/**
 * A union that names what it expects, or whose members are constants, is one sentence. Otherwise the member that came
 * closest speaks: the one whose own kind and discriminating constants fit, with the fewest errors in its own fields, and
 * of those with the fewest below them.
 */
function unionErrors(
  schema: TSchema,
  union: SchemaError,
  errors: readonly SchemaError[],
  part: FieldError['in'],
): readonly FieldError[] {
  const own = [{ in: part, pointer: union.instancePath, detail: sentence(schema, union) }]
  if (expectation(schema, union.schemaPath) !== undefined) return own
  const members = new Map<string, SchemaError[]>()
  const prefix = `${union.schemaPath}/${union.keyword}/`
  for (const error of errors) {
    if (!error.schemaPath.startsWith(prefix)) continue
    const member = error.schemaPath.slice(prefix.length).split('/', 1)[0] ?? ''
    members.set(member, [...(members.get(member) ?? []), error])
  }
  const close = [...members.values()]
    .filter((list) => !list.some((error) => isOther(error, union) || isKindError(error, union)))
    .sort((a, b) => ownErrors(a, union) - ownErrors(b, union) || a.length - b.length)[0]
  return close === undefined ? own : fieldErrors(schema, close, part)
}

const depth = ({ instancePath }: SchemaError): number => instancePath.split('/').length

/** Errors at the union's value itself and its fields, not below those. */
const isOwn = (error: SchemaError, union: SchemaError): boolean => depth(error) <= depth(union) + 1
const ownErrors = (errors: readonly SchemaError[], union: SchemaError): number =>
  errors.filter((error) => isOwn(error, union)).length

/** A discriminating constant that says another member is meant. */
const isOther = (error: SchemaError, union: SchemaError): boolean => error.keyword === 'const' && isOwn(error, union)

const isKindError = (error: SchemaError, union: SchemaError): boolean =>
  error.instancePath === union.instancePath && error.keyword !== 'required' && error.keyword !== 'additionalProperties'

function sentence(schema: TSchema, error: SchemaError): string {
  const expected = expectation(schema, error.schemaPath)
  if (expected !== undefined) return `must be ${expected}`
  if (error.keyword === 'boolean') return 'is not a known field'
  const values = constants(at(schema, error.schemaPath))
  if (values.length > 0) return `must be ${values.map((value) => JSON.stringify(value)).join(' or ')}`
  if (error.keyword === 'anyOf' || error.keyword === 'oneOf') return 'has none of the forms that are taken here'
  if (error.keyword === 'type') return `must be ${withArticle(String(error.params.type))}`
  return error.message
}

const withArticle = (type: string): string => (type === 'null' ? type : `${/^[aeiou]/.test(type) ? 'an' : 'a'} ${type}`)

/** The schema's own words for what it takes. */
function expectation(schema: TSchema, path: string): string | undefined {
  const expected = at(schema, path)?.['x-expected']
  return typeof expected === 'string' ? expected : undefined
}

function constants(schema: Readonly<Record<string, unknown>> | undefined): readonly unknown[] {
  if (schema === undefined) return []
  if (Array.isArray(schema.enum)) return schema.enum
  if ('const' in schema) return [schema.const]
  if (!Array.isArray(schema.anyOf)) return []
  const members = schema.anyOf as Readonly<Record<string, unknown>>[]
  return members.every((member) => 'const' in member) ? members.map((member) => member.const) : []
}

/** The part of a schema that a path such as `#/properties/gpa/anyOf/0` points at. */
function at(schema: TSchema, path: string): Readonly<Record<string, unknown>> | undefined {
  let here: unknown = schema
  for (const step of path.split('/').slice(1)) {
    if (typeof here !== 'object' || here === null) return undefined
    here = (here as Readonly<Record<string, unknown>>)[step.replaceAll('~1', '/').replaceAll('~0', '~')]
  }
  return typeof here === 'object' && here !== null ? (here as Readonly<Record<string, unknown>>) : undefined
}
