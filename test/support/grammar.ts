import type { App } from '../../src/server/app.ts'
import type { Random } from './process-model.ts'

/** The requests that the OpenAPI document allows, and how to make them up. */

export type Schema = {
  readonly type?: string | readonly string[]
  readonly const?: unknown
  readonly enum?: readonly unknown[]
  readonly properties?: Readonly<Record<string, Schema>>
  readonly required?: readonly string[]
  readonly additionalProperties?: boolean | Schema
  readonly items?: Schema
  readonly minItems?: number
  readonly maxItems?: number
  readonly anyOf?: readonly Schema[]
  readonly oneOf?: readonly Schema[]
  readonly pattern?: string
  readonly minimum?: number
  readonly maximum?: number
  readonly maxLength?: number
  readonly examples?: readonly unknown[]
}

export type Parameter = { readonly name: string; readonly in: string; readonly schema: Schema }

export type Operation = {
  readonly id: string
  readonly method: 'GET' | 'POST' | 'PUT' | 'DELETE'
  readonly path: string
  readonly parameters: readonly Parameter[]
  /** The forms of a JSON body; none where the operation takes no JSON. */
  readonly forms: readonly Schema[]
  readonly takesBytes: boolean
}

type Documented = {
  readonly operationId: string
  readonly parameters?: readonly Parameter[]
  readonly requestBody?: { readonly content: Readonly<Record<string, { readonly schema: Schema }>> }
}

/** Everything that the API documents, but for streams that do not end. */
export function operationsOf(app: App): readonly Operation[] {
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Documented>> }
  return Object.entries(paths).flatMap(([path, methods]) =>
    Object.entries(methods)
      .filter(([, { operationId }]) => operationId !== 'streamEvents')
      .map(([method, { operationId, parameters = [], requestBody }]) => {
        const schema = requestBody?.content['application/json']?.schema
        return {
          id: operationId,
          method: method.toUpperCase() as Operation['method'],
          path,
          parameters,
          forms: schema === undefined ? [] : (schema.oneOf ?? schema.anyOf ?? [schema]),
          takesBytes: requestBody?.content['application/octet-stream'] !== undefined,
        }
      }),
  )
}

/** Values that mean something where they are used, by the name of the member or parameter they are for. */
export type Pools = Readonly<Record<string, readonly unknown[]>>

/** A value of a schema: one that means something where there is one, most of the time. */
export function makeUp(schema: Schema, random: Random, pools: Pools, name = ''): unknown {
  const pool = pools[name] ?? []
  if (pool.length > 0 && random.chance(90)) return random.pick(pool)
  if (schema.const !== undefined) return schema.const
  if (schema.enum !== undefined) return random.pick(schema.enum)
  const forms = schema.anyOf ?? schema.oneOf
  if (forms !== undefined) return makeUp(random.pick(forms), random, pools, name)
  const type = Array.isArray(schema.type) ? random.pick(schema.type as readonly string[]) : schema.type
  switch (type) {
    case 'object':
      return makeUpObject(schema, random, pools)
    case 'array': {
      const least = schema.minItems ?? 0
      const count = least + random.below(Math.min(4, (schema.maxItems ?? 4) - least + 1))
      return Array.from({ length: count }, () => makeUp(schema.items ?? {}, random, pools, name))
    }
    case 'integer':
    case 'number':
      return makeUpInteger(schema, random)
    case 'boolean':
      return random.chance(50)
    case 'string':
      return makeUpText(schema, random)
    default:
      return null
  }
}

function makeUpObject(schema: Schema, random: Random, pools: Pools): Record<string, unknown> {
  const wanted = Object.entries(schema.properties ?? {}).filter(
    ([name]) => schema.required?.includes(name) === true || random.chance(50),
  )
  return Object.fromEntries(wanted.map(([name, member]) => [name, makeUp(member, random, pools, name)]))
}

function makeUpInteger({ minimum = 0, maximum = 2 ** 53 - 1 }: Schema, random: Random): number {
  const near = [0, 1, 2, 3, 4095, 4096, 4097, 8192, 65536, 2 ** 21, 2 ** 31, 2 ** 32, 2 ** 40, 2 ** 52]
  const value = random.chance(80) ? random.pick(near) : random.below(2 ** 31) * 4096
  return Math.min(maximum, Math.max(minimum, random.chance(5) ? maximum : value))
}

function makeUpText(schema: Schema, random: Random): string {
  const { examples = [], pattern = '' } = schema
  if (pattern.includes('0x')) return `0x${(BigInt(random.below(2 ** 31)) << BigInt(random.below(33))).toString(16)}`
  if (pattern.includes('/]*=')) return Buffer.alloc(random.below(48), random.below(256)).toString('base64')
  if (pattern.includes('{64}'))
    return random
      .below(2 ** 31)
      .toString(16)
      .padStart(64, '0')
  if (pattern.startsWith('^[1-9]')) return String(1 + random.below(999))
  if (pattern.startsWith('^(?:0|[1-9]')) return String(random.below(random.pick([4, 100, 2 ** 31])))
  if (examples.length > 0 && random.chance(60)) return String(random.pick(examples))
  return random.pick(['x', 'a b', 'ä€🙂', '-', '0', 'vm-0', 'null', "'; --", '%00', '..', 'x'.repeat(130)])
}

export type Made = { readonly method: Operation['method']; readonly url: string; readonly body: unknown }

/** A request for an operation, with ids and addresses out of the pools. */
export function makeUpRequest(operation: Operation, random: Random, pools: Pools): Made {
  const { method, path, parameters, forms } = operation
  const spell = ({ name, schema }: Parameter): string => encodeURIComponent(String(makeUp(schema, random, pools, name)))
  let url = path
  const query: string[] = []
  for (const parameter of parameters) {
    if (parameter.in === 'path') url = url.replace(`{${parameter.name}}`, spell(parameter))
    if (parameter.in === 'query' && random.chance(40)) query.push(`${parameter.name}=${spell(parameter)}`)
  }
  const body = forms.length === 0 ? undefined : makeUp(random.pick(forms), random, pools)
  return { method, url: query.length === 0 ? url : `${url}?${query.join('&')}`, body }
}

/** A member of a JSON value, by the way to it. */
export type Way = readonly (string | number)[]

/** Every member that a schema knows, also those that an example does not have. */
export function waysOf(schema: Schema, way: Way = []): { readonly way: Way; readonly schema: Schema }[] {
  const forms = schema.anyOf ?? schema.oneOf
  if (forms !== undefined) return forms.flatMap((form) => waysOf(form, way))
  const members = Object.entries(schema.properties ?? {}).flatMap(([name, member]) => {
    const to = [...way, name]
    return [{ way: to, schema: member }, ...waysOf(member, to)]
  })
  const items = schema.items
  if (items === undefined) return members
  return [...members, { way: [...way, 0], schema: items }, ...waysOf(items, [...way, 0])]
}

/** A copy of `value` with another member at `way`; what is missing on the way is made. */
export function withMember(value: unknown, way: Way, member: unknown): unknown {
  const [first, ...rest] = way
  if (first === undefined) return member
  if (typeof first === 'number') {
    const items = Array.isArray(value) ? [...value] : []
    items[first] = withMember(items[first], rest, member)
    return items
  }
  const members = typeof value === 'object' && value !== null ? (value as Record<string, unknown>) : {}
  return { ...members, [first]: withMember(members[first], rest, member) }
}

/** A copy of `value` without the member at `way`. */
export function withoutMember(value: unknown, way: Way): unknown {
  const parent = way.slice(0, -1)
  const last = way.at(-1)
  const holder = memberAt(value, parent)
  if (last === undefined || typeof holder !== 'object' || holder === null) return value
  return withMember(value, parent, Object.fromEntries(Object.entries(holder).filter(([name]) => name !== String(last))))
}

export function memberAt(value: unknown, way: Way): unknown {
  let at = value
  for (const step of way) at = typeof at === 'object' && at !== null ? (at as Record<string, unknown>)[step] : undefined
  return at
}
