import assert from 'node:assert/strict'
import type { Service } from './service.ts'

type Schema = { readonly examples?: readonly unknown[]; readonly oneOf?: readonly Schema[] }
type Content = {
  readonly schema: Schema
  readonly example?: unknown
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>
}
export type Operation = {
  readonly operationId: string
  readonly tags?: readonly string[]
  readonly summary?: string
  readonly requestBody?: { readonly content: Readonly<Record<string, Content>> }
}

/** The examples of a body as a whole, and those of its forms. A form of a measurement needs files. */
function examplesOf(operationId: string, { schema, example, examples = {} }: Content): readonly unknown[] {
  const whole = [example, ...Object.values(examples).map(({ value }) => value), ...(schema.examples ?? [])]
  const forms = operationId === 'measure' ? [] : (schema.oneOf ?? []).flatMap((form) => form.examples ?? [])
  return [...whole, ...forms].filter((value) => value !== undefined)
}

/** Technology and model of the VM that an operation's example is for, where the default is not. */
const MACHINES: Readonly<Record<string, Record<string, unknown>>> = {
  setAttributes: { privacy: 'attributes' },
  updateLaunch: { technology: 'sev-snp' },
  finishLaunch: { technology: 'sev-snp' },
  makeCall: { technology: 'sev-snp' },
  resumeExit: { conversion: 'manual' },
}

/** Things of their own for one example: what its path and its ids name. */
async function prepare({ post, remove, machine }: Service, operationId: string): Promise<Record<string, string>> {
  const { vm, memfile } = await machine(MACHINES[operationId])
  const ids: Record<string, string> = { vm, memfile, vcpu: '0', slot: '5' }
  if (operationId === 'setMemslot') await remove(`/v1/vms/${vm}/memslots/0`)
  if (operationId === 'bindMemfile') ids.memfile = (await post('/v1/memfiles', { size: 4096 }, 201)).id
  if (operationId === 'resumeExit') {
    const change = { entries: [{ gpa: 0, operation: 'private' }] }
    ids.exit = (await post(`/v1/vms/${vm}/page-states`, change)).waiting.id
  }
  return ids
}

const named = (text: string, ids: Readonly<Record<string, string>>): string =>
  text.replaceAll('vm-9', ids.vm ?? '').replaceAll('memfile-10', ids.memfile ?? '')

/** An example as it can be sent: its request, with ids of things that exist. */
export type Example = {
  readonly operationId: string
  readonly method: 'POST' | 'PUT'
  readonly path: string
  readonly body: unknown
}

/** Every documented example of a JSON body. */
export function documentedExamples({ app }: Service): readonly Example[] {
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> }
  const found: Example[] = []
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, { operationId, requestBody }] of Object.entries(operations)) {
      const content = requestBody?.content['application/json']
      if (content === undefined) continue
      const examples = examplesOf(operationId, content)
      assert.ok(examples.length > 0, `${operationId} has an example`)
      found.push(
        ...examples.map((body) => ({ operationId, method: method.toUpperCase() as 'POST' | 'PUT', path, body })),
      )
    }
  }
  return found
}

/** The URL and the JSON text of an example, for things made for it alone. */
export async function aim(
  service: Service,
  { operationId, path, body }: Example,
): Promise<{ url: string; text: string }> {
  const ids = await prepare(service, operationId)
  const url = path.replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? name)
  return { url, text: named(JSON.stringify(body), ids) }
}
