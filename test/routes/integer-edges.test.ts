import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aim, documentedExamples } from '../support/examples.ts'
import { service } from '../support/service.ts'

/** JSON texts of numbers, and of strings that could be taken for some, around every border there is. */
const EDGES: readonly string[] = [
  ...['0', '1', '4095', '4096', '2147483647', '2147483648', '4294967295', '4294967296', '4503599627370496'],
  ...['9007199254740991', '9007199254740992', '9007199254740993', '9223372036854775807', '18446744073709551615'],
  ...['-0', '-1', '-4096', '1.5', '1e3', '1e400', 'null', 'true', '[]', '{}', '""'],
  ...['"0x"', '"0X10"', '" 1"', '"1_0"', '"１"', '"007"', '"0x0"', '"0xfff"', '"0xfffffffff000"', '"0x10000000000000"'],
  ...['"0x7ffffffffffff000"', '"0x8000000000000000"', '"0xfffffffffffff000"', '"0xffffffffffffffff"'],
  ...['"0x10000000000000000"', '"8EiB"', '"9223372036854775807B"', '"16777216TiB"'],
]

type Place = { readonly pointer: string; readonly put: (text: string) => string }

/** Every number and every string that spells one, in a JSON value. */
function places(value: unknown, pointer = '', wrap = (text: string) => text): Place[] {
  if (typeof value === 'number' || (typeof value === 'string' && /^(?:0x[0-9a-f]+|\d+[KMGT]iB)$/i.test(value))) {
    return [{ pointer, put: wrap }]
  }
  if (typeof value !== 'object' || value === null) return []
  const entries = Object.entries(value)
  return entries.flatMap(([name, member]) => {
    const spelled = (text: string) =>
      entries.map(([other, kept]) => [other, other === name ? text : JSON.stringify(kept)] as const)
    const around = (text: string) =>
      Array.isArray(value)
        ? `[${spelled(text).map(([, item]) => item)}]`
        : `{${spelled(text).map(([key, item]) => `${JSON.stringify(key)}:${item}`)}}`
    return places(member, `${pointer}/${name}`, (text) => wrap(around(text)))
  })
}

test('no number in any field is a fault of ours, or rounded', async (t) => {
  const all = await service(t)
  let cases = 0
  for (const example of documentedExamples(all)) {
    for (const { pointer, put } of places(example.body)) {
      // One set of things for one field: what a case changes, the next one meets.
      const { url, text } = await aim(all, example)
      const rest = JSON.parse(text)
      for (const edge of EDGES) {
        const payload =
          places(rest)
            .find((place) => place.pointer === pointer)
            ?.put(edge) ?? put(edge)
        const headers = { 'content-type': 'application/json' }
        const answer = await all.app.inject({ method: example.method, url, headers, payload })
        assert.ok(answer.statusCode < 500, `${url} ${payload}: ${answer.body}`)
        cases++
        if (answer.statusCode < 300 && answer.json().hostCrashed !== undefined) {
          const vm = url.split('/')[3] ?? ''
          const host = [...all.engine.hosts.values()].find(({ state }) => state.vms.has(vm))
          await all.post(`/v1/hosts/${host?.state.name}/reboot`)
          break
        }
      }
    }
  }
  assert.ok(cases > 3000, `${cases} cases`)
})
