import assert from 'node:assert/strict'
import { test } from 'node:test'
import { type Service, service } from '../support/service.ts'

type Schema = { readonly examples?: readonly unknown[]; readonly oneOf?: readonly Schema[] }
type Content = {
  readonly schema: Schema
  readonly example?: unknown
  readonly examples?: Readonly<Record<string, { readonly value: unknown }>>
}
type Operation = {
  readonly operationId: string
  readonly tags?: readonly string[]
  readonly summary?: string
  readonly requestBody?: { readonly content: Readonly<Record<string, Content>> }
}
type Method = 'POST' | 'PUT'

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

test('every operation with a JSON body has examples, and they work when sent', async (t) => {
  const app = await service(t)
  const { paths } = app.app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> }
  let sent = 0
  for (const [path, operations] of Object.entries(paths)) {
    for (const [method, { operationId, requestBody }] of Object.entries(operations)) {
      const content = requestBody?.content['application/json']
      if (content === undefined) continue
      const examples = examplesOf(operationId, content)
      assert.ok(examples.length > 0, `${operationId} has an example`)
      for (const example of examples) {
        const ids = await prepare(app, operationId)
        const url = path.replace(/\{(\w+)\}/g, (_, name: string) => ids[name] ?? name)
        const answer = await app.send(
          method.toUpperCase() as Method,
          url,
          JSON.parse(named(JSON.stringify(example), ids)),
        )
        // A technology's own calls refuse by rule what comes at the wrong moment; the form of the request is right.
        const works =
          operationId === 'makeCall'
            ? answer.status !== 400 || answer.body.code === 'no-such-call'
            : answer.status < 300
        assert.ok(works, `${operationId} ${JSON.stringify(example)}: ${answer.text}`)
        sent++
      }
    }
  }
  assert.ok(sent > 30)
})

test('every operation says what it is', async (t) => {
  const { app } = await service(t)
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> }
  for (const operation of Object.values(paths).flatMap((methods) => Object.values(methods))) {
    assert.match(operation.operationId, /^[a-z][A-Za-z]+$/)
    assert.equal(operation.tags?.length, 1, operation.operationId)
    assert.ok((operation.summary ?? '').length > 5, operation.operationId)
  }
})
