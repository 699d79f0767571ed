import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aim, documentedExamples } from '../support/examples.ts'
import {
  memberAt,
  operationsOf,
  type Parameter,
  type Schema,
  type Way,
  waysOf,
  withMember,
} from '../support/grammar.ts'
import { assertReplays, attack, launchImage, type Outcome } from '../support/grammar-attack.ts'
import { type Service, service } from '../support/service.ts'

// reliability.md G33: every number that there is, at every border there is. Never a fault of ours; refused numbers leave
// nothing behind, and one that is taken is what comes back, to the last digit.

const P2 = (power: bigint, plus = 0n): string => String(2n ** power + plus)

/** As JSON has them. */
const EDGES: readonly string[] = [
  ...['0', '1', '4095', '4096', P2(31n, -1n), P2(31n), P2(31n, 1n), P2(32n, -1n), P2(32n), P2(32n, 1n), P2(52n)],
  ...[P2(53n, -1n), P2(53n), P2(53n, 1n), P2(63n, -1n), P2(63n), P2(63n, 1n), P2(64n, -4096n), P2(64n, -1n), P2(64n)],
  ...['-0', '-1', '-4096', '1.5', '1e3', '1E3', '4096.0', '1e400', '-1e400', '0.1e1', '00', '0x10', '+1', '.5', '1.'],
  ...['"0"', '"4096"', '"0x"', '"0X10"', '"0x1g"', '" 1"', '"1 "', '"1_0"', '"１"', '"010"', '"-1"', '"+1"', '"1e3"'],
  ...['"0x0"', '"0x1"', '"0x1000"', '"0x0000000000001000"', '"0x00000000000001000"', '"0xfff"', '"0xFFFFF000"'],
  ...['"0x10000000000000"', '"0x1fffffffffffff"', '"0x20000000000001"', '"0x7fffffffffffffff"', '"0x8000000000000000"'],
  ...[
    '"0xfffffffffffff000"',
    '"0xffffffffffffffff"',
    '"0x10000000000000000"',
    '"1KiB"',
    '"4KiB"',
    '"2MiB"',
    '"1.5MiB"',
  ],
  ...[
    '"2mib"',
    '"2 MiB"',
    '"8EiB"',
    '"16777215TiB"',
    '"16777216TiB"',
    '"9007199254740993B"',
    '"18446744073709551616B"',
  ],
]

const UNITS: Readonly<Record<string, bigint>> = {
  B: 1n,
  KiB: 2n ** 10n,
  MiB: 2n ** 20n,
  GiB: 2n ** 30n,
  TiB: 2n ** 40n,
}

/** The number that a taken value spells. */
function numberOf(value: unknown): bigint | undefined {
  if (typeof value === 'number') return BigInt(value)
  if (typeof value !== 'string') return undefined
  const [, count, unit = ''] = /^(\d+)(B|KiB|MiB|GiB|TiB)?$/.exec(value) ?? []
  if (count !== undefined) return BigInt(count) * (UNITS[unit] ?? 1n)
  return /^0x[0-9a-f]+$/i.test(value) ? BigInt(value) : undefined
}

/** Whether a schema is of a number, or of a text that spells one. */
function isNumeric({ type, pattern = '', anyOf = [] }: Schema): boolean {
  return type === 'integer' || type === 'number' || pattern.includes('0x') || anyOf.some(isNumeric)
}

const MARK = '"the number goes here"'
const spliced = (body: unknown, way: Way, token: string): string =>
  JSON.stringify(withMember(body, way, JSON.parse(MARK))).replace(MARK, () => token)

/** What was taken is found again, as the same number, wherever the reply and the journal show it. */
async function checkExact({ get }: Service, what: string, way: Way, token: string, { body }: Outcome): Promise<void> {
  const sent = numberOf(JSON.parse(token))
  const name = String(way.at(-1))
  if (sent === undefined) return
  const shown = numberOf(body[name])
  if (way.length === 1 && shown !== undefined) assert.equal(shown, sent, `${what}: the reply has ${name} ${body[name]}`)
  const { items } = await get(`/v1/journal?after=${body.seq - 1}&limit=1`)
  const { command } = items[0]
  const recorded = memberAt(command, way) ?? memberAt(command.args, way) ?? memberAt(command.options, way)
  const journaled = numberOf(recorded)
  if (journaled !== undefined) assert.equal(journaled, sent, `${what}: the journal has ${name} ${recorded}`)
  const gfn = name === 'gpa' ? memberAt(command, [...way.slice(0, -1), 'gfn']) : undefined
  if (gfn !== undefined) assert.equal(BigInt(Number(gfn)) * 4096n, sent, `${what}: the journal has frame ${gfn}`)
}

test('every number of every body', { timeout: 110_000 }, async (t) => {
  const all = await service(t)
  const operations = operationsOf(all.app)
  let cases = 0
  let taken = 0
  const done = new Set<string>()
  for (const example of documentedExamples(all)) {
    if (example.operationId === 'measure') continue
    const { forms = [] } = operations.find(({ id }) => id === example.operationId) ?? {}
    const call = memberAt(example.body, ['call'])
    const form = forms.find((one) => call === undefined || one.properties?.call?.const === call)
    for (const { way } of waysOf(form ?? {}).filter(({ schema }) => isNumeric(schema))) {
      const key = `${example.operationId} ${call} ${way.join('/')}`
      if (done.has(key)) continue
      done.add(key)
      // What a case has made must not be in the way of the next.
      let at = await aim(all, example)
      for (const token of EDGES) {
        const payload = spliced(JSON.parse(at.text), way, token)
        const outcome = await attack(all, { method: example.method, url: at.url, payload })
        cases += 1
        if (outcome.status >= 300) continue
        taken += 1
        await checkExact(all, `${at.url} ${payload}`, way, token, outcome)
        await cleanUp(all, at.url)
        at = await aim(all, example)
      }
      await cleanUp(all, at.url)
    }
  }
  t.diagnostic(`${cases} cases of ${done.size} numbers, ${taken} taken`)
  assert.ok(cases > 3000 && taken > 300)
  assertReplays(all)
})

/** A machine has only so many keys: the VM of a case goes with it. */
async function cleanUp({ engine, post, send }: Service, url: string): Promise<void> {
  for (const [name, { state }] of engine.hosts) if (state.crashed !== null) await post(`/v1/hosts/${name}/reboot`)
  const vm = /^\/v1\/vms\/([^/]+)/.exec(url)?.[1]
  if (vm !== undefined) await send('DELETE', `/v1/vms/${vm}`)
}

/** As a path or a query has them. */
const TEXTS = EDGES.map((token) => encodeURIComponent(token.replaceAll('"', '')))

const isNumberText = ({ schema: { pattern = '' } }: Parameter): boolean => pattern.includes('[0-9]')

test('every number of every path and query', async (t) => {
  const all = await service(t)
  const { vm, memfile } = await all.machine({ technology: 'sev-snp' })
  await launchImage(all, vm)
  const pools: Readonly<Record<string, string>> = { vm, memfile, slot: '0', vcpu: '0', gpa: '0x0' }
  let cases = 0
  for (const { method, path, parameters, forms, takesBytes } of operationsOf(all.app)) {
    for (const parameter of parameters.filter(isNumberText)) {
      for (const text of TEXTS) {
        const aimed = path.replace(/\{(\w+)\}/g, (_, name) => (name === parameter.name ? text : (pools[name] ?? 'x')))
        const url = parameter.in === 'query' ? `${aimed}?${parameter.name}=${text}` : aimed
        const bytes = { payload: Buffer.alloc(4096), headers: { 'content-type': 'application/octet-stream' } }
        const json = forms.length > 0 ? { payload: '{"gpa":0,"kind":"read","size":0}' } : {}
        await attack(all, { method, url, ...(takesBytes ? bytes : json) })
        cases += 1
      }
    }
  }
  t.diagnostic(`${cases} cases`)
  assert.ok(cases > 1000)
  assertReplays(all)
})

test('addresses that a query or a path carries come back exact', async (t) => {
  const all = await service(t)
  const { vm } = await all.machine()
  const high = 2n ** 52n - 2n ** 31n
  const size = { gpa: `0x${high.toString(16)}`, size: '1GiB' }
  await all.put(`/v1/vms/${vm}/memslots/9`, size, 201)
  for (const gpa of [high, high + 4096n, high + 2n ** 30n - 4096n]) {
    const { items } = await all.get(`/v1/vms/${vm}/page-states?gpa=0x${gpa.toString(16)}&length=4096`)
    assert.deepEqual(
      items.map((run: { gpa: string; length: number }) => [BigInt(run.gpa), run.length]),
      [[gpa, 4096]],
    )
    const page = await all.get(`/v1/vms/${vm}/pages/${gpa}`)
    assert.deepEqual([BigInt(page.gpa), page.slot], [gpa, 9])
  }
})
