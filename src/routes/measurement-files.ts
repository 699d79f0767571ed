import { invalid } from '../domain/refusal.ts'
import { ServiceError, unwrap } from './errors.ts'
import { IMAGE_BODY_BYTES } from './limits.ts'
import { parseDataLength } from './schemas/data.ts'

export type Files = ReadonlyMap<string, Uint8Array>
export type Form = { readonly request: Buffer | undefined; readonly files: Files }

/** Takes a multipart/form-data body apart: the part `request`, and every other part as a file. */
export async function parseForm(body: Buffer, contentType: string): Promise<Form> {
  const files = new Map<string, Uint8Array>()
  let request: Buffer | undefined
  for (const [name, value] of await partsOf(body, contentType)) {
    const bytes = typeof value === 'string' ? Buffer.from(value) : Buffer.from(await value.arrayBuffer())
    if (files.has(name) || (name === 'request' && request !== undefined)) {
      throw new ServiceError('malformed-request', `The form has two parts "${name}".`)
    }
    if (name === 'request') request = bytes
    else files.set(name, new Uint8Array(bytes))
  }
  return { request, files }
}

async function partsOf(body: Buffer, contentType: string): Promise<readonly [string, string | Blob][]> {
  try {
    const form = await new Response(new Uint8Array(body), { headers: { 'content-type': contentType } }).formData()
    return [...form]
  } catch (cause) {
    throw new ServiceError('malformed-request', 'The body is not the multipart/form-data it says it is.', { cause })
  }
}

/** Replaces every file reference, `{base64}` or `{part}`, by its bytes. Every part must be referred to. */
export function resolveFiles(inputs: Readonly<Record<string, unknown>>, files: Files): Record<string, unknown> {
  const unused = new Set(files.keys())
  const resolve = (value: unknown, pointer: string): unknown => {
    if (typeof value !== 'object' || value === null) return value
    if (Array.isArray(value)) return value.map((item, index) => resolve(item, `${pointer}/${index}`))
    const members = Object.entries(value)
    const [name, text] = members.length === 1 ? (members[0] ?? []) : []
    if (name === 'base64' && typeof text === 'string') return decode(text, `${pointer}/base64`)
    if (name === 'part' && typeof text === 'string') {
      unused.delete(text)
      return files.get(text) ?? unwrap(invalid('no-such-part', `There is no part "${text}".`, `${pointer}/part`))
    }
    return Object.fromEntries(members.map(([key, member]) => [key, resolve(member, `${pointer}/${key}`)]))
  }
  const resolved = resolve(inputs, '/inputs') as Record<string, unknown>
  const [first] = unused
  if (first !== undefined) unwrap(invalid('unused-part', `Nothing refers to the part "${first}".`, ''))
  return resolved
}

function decode(base64: string, pointer: string): Uint8Array {
  unwrap(parseDataLength(base64, pointer, IMAGE_BODY_BYTES))
  return new Uint8Array(Buffer.from(base64, 'base64'))
}
