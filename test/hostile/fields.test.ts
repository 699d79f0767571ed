import assert from 'node:assert/strict'
import { test } from 'node:test'
import { Compile } from 'typebox/compile'
import { aim, documentedExamples, type Example } from '../support/examples.ts'
import {
  memberAt,
  type Operation,
  operationsOf,
  type Schema,
  type Way,
  waysOf,
  withMember,
  withoutMember,
} from '../support/grammar.ts'
import { assertReplays, attack } from '../support/grammar-attack.ts'
import { type Service, service } from '../support/service.ts'

// Every field of every operation, as the OpenAPI document has them: of the wrong type, null, huge, deep, missing, and
// joined by one that nobody knows. What the document does not allow is a 400 that names the field and changes nothing.

const deep = (depth: number): unknown => (depth === 0 ? 1 : { a: deep(depth - 1) })
const BAD: readonly unknown[] = [
  null,
  true,
  '',
  'x',
  'x'.repeat(5000),
  '\u0000',
  '0x',
  '1e3',
  [],
  [[]],
  Array.from({ length: 1001 }, () => 0),
  {},
  deep(20),
  deep(60),
  0.5,
  -1,
  1e300,
]

type Target = { readonly operation: Operation; readonly form: Schema; readonly example: Example }

/** The form that each example is of. */
function targets(all: Service): Target[] {
  const operations = operationsOf(all.app)
  const found = new Map<string, Target>()
  for (const example of documentedExamples(all)) {
    const operation = operations.find(({ id }) => id === example.operationId)
    const form = operation?.forms.find((one) => matches(one, example.body))
    if (operation === undefined || form === undefined) throw new Error(`${example.operationId}: no form of its example`)
    const call = memberAt(example.body, ['call'])
    // One example a form is enough: the fields are the form's.
    found.set(`${operation.id} ${call ?? operation.forms.indexOf(form)}`, { operation, form, example })
  }
  return [...found.values()]
}

const compiled = new WeakMap<Schema, ReturnType<typeof Compile>>()

function matches(form: Schema, body: unknown): boolean {
  const validator = compiled.get(form) ?? Compile(form)
  compiled.set(form, validator)
  return validator.Check(body)
}

const isAllowed = ({ operation }: Target, body: unknown): boolean => operation.forms.some((form) => matches(form, body))

/** Sends a body that the document may or may not allow, and checks that it is taken as the document says. */
async function send(all: Service, target: Target, allowed: boolean, url: string, body: unknown): Promise<boolean> {
  const { method } = target.example
  const outcome = await attack(all, { method, url, payload: body })
  if (allowed) return outcome.body?.hostCrashed !== undefined
  const what = `${method} ${url} ${JSON.stringify(body).slice(0, 400)}: ${outcome.text}`
  assert.equal(outcome.status, 400, what)
  const { code, errors = [] } = outcome.body
  assert.ok(code !== 'validation-failed' || errors.length > 0, what)
  for (const { pointer, detail } of errors) assert.ok(pointer.length < 1000 && detail.length > 0, what)
  return false
}

test('every field of every body, wrong in every way', { timeout: 110_000 }, async (t) => {
  const all = await service(t)
  let cases = 0
  let allowed = 0
  for (const target of targets(all)) {
    const { example, form } = target
    const ways = [...new Map(waysOf(form).map((one) => [JSON.stringify(one.way), one.way])).values()]
    for (const way of ways) {
      // Things of their own for each field: a value that is taken changes what the next one meets.
      const { url, text } = await aim(all, example)
      const body: unknown = JSON.parse(text)
      for (const bad of BAD) {
        const changed = withMember(body, way, bad)
        const fits = isAllowed(target, changed)
        const crashed = await send(all, target, fits, url, changed)
        cases += 1
        if (fits) allowed += 1
        if (crashed) break
      }
      const without = withoutMember(body, way)
      await send(all, target, isAllowed(target, without), url, without)
      const stranger = withMember(body, [...way.slice(0, -1), 'nobodyKnows'] satisfies Way, 1)
      const inArray = typeof way.at(-1) === 'number'
      if (!inArray) await send(all, target, isAllowed(target, stranger), url, stranger)
      cases += 2
      await rebootDead(all)
      await forget(all, url)
    }
  }
  t.diagnostic(`${cases} cases, ${allowed} of them as documented`)
  assert.ok(cases > 3000, `${cases} cases`)
  assertReplays(all)
})

/** Deletes the VM of a URL where it still is one: a host has keys for a few hundred. */
async function forget({ send }: Service, url: string): Promise<void> {
  const [path] = /^\/v1\/vms\/vm-\d+/.exec(url) ?? []
  if (path !== undefined) await send('DELETE', path)
}

async function rebootDead({ engine, post }: Service): Promise<void> {
  for (const [name, { state }] of engine.hosts) if (state.crashed !== null) await post(`/v1/hosts/${name}/reboot`)
}

test('a body that is no object, or none at all', async (t) => {
  const all = await service(t)
  for (const target of targets(all)) {
    const { url } = await aim(all, target.example)
    const { method } = target.example
    for (const body of [null, true, 0, '', 'x', [], [{}], [null]]) {
      const outcome = await attack(all, { method, url, payload: JSON.stringify(body) })
      assert.equal(outcome.status, 400, `${url} ${JSON.stringify(body)}: ${outcome.text}`)
    }
    const empty = await attack(all, { method, url })
    if (!isAllowed(target, {})) assert.equal(empty.body.code, 'body-required', `${url}: ${empty.text}`)
  }
  for (const { method, path, forms, takesBytes } of operationsOf(all.app)) {
    if (forms.length > 0 || takesBytes) continue
    const url = path.replace(/\{\w+\}/g, '0')
    const outcome = await attack(all, { method, url, payload: '{"nobodyKnows":1}' })
    assert.ok(outcome.status >= 400 || method === 'GET', `${method} ${url}: ${outcome.text}`)
  }
  assertReplays(all)
})
