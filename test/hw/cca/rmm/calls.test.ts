import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deserialize, serialize } from 'node:v8'
import { Value } from 'typebox/value'
import { explainGranule, explainPage, explainRealm } from '../../../../src/hw/cca/rmm/explain.ts'
import {
  addTables,
  type Bench,
  CALLS,
  createActive,
  createEmptyBench,
  createRealm,
  createWithRec,
  DATA,
  delegate,
  FRAMES,
  fingerprint,
  ipa,
  must,
  pa,
  RD,
  REC,
  realmOf,
  SOURCE,
  SPARE,
  TABLES,
} from './rmm-bench.ts'

const PAGE = 0x80000
const PAR = 2 ** 27

/** The commands of 1, PSCI, and what traces have beside them. */
const NAMES = [
  'IRQ',
  'PSCI_AFFINITY_INFO',
  'PSCI_CPU_OFF',
  'PSCI_CPU_ON',
  'PSCI_CPU_SUSPEND',
  'PSCI_FEATURES',
  'PSCI_SYSTEM_OFF',
  'PSCI_SYSTEM_RESET',
  'PSCI_VERSION',
  'RIM',
  'RMI_DATA_CREATE',
  'RMI_DATA_CREATE_UNKNOWN',
  'RMI_DATA_DESTROY',
  'RMI_FEATURES',
  'RMI_GRANULE_DELEGATE',
  'RMI_GRANULE_UNDELEGATE',
  'RMI_PSCI_COMPLETE',
  'RMI_REALM_ACTIVATE',
  'RMI_REALM_CREATE',
  'RMI_REALM_DESTROY',
  'RMI_REC_AUX_COUNT',
  'RMI_REC_CREATE',
  'RMI_REC_DESTROY',
  'RMI_REC_ENTER',
  'RMI_REC_ENTER after RIPAS_CHANGE',
  'RMI_RTT_CREATE',
  'RMI_RTT_DESTROY',
  'RMI_RTT_FOLD',
  'RMI_RTT_INIT_RIPAS',
  'RMI_RTT_MAP_UNPROTECTED',
  'RMI_RTT_READ_ENTRY',
  'RMI_RTT_SET_RIPAS',
  'RMI_RTT_UNMAP_UNPROTECTED',
  'RMI_VERSION',
  'RSI_ATTESTATION_TOKEN_CONTINUE',
  'RSI_ATTESTATION_TOKEN_INIT',
  'RSI_FEATURES',
  'RSI_HOST_CALL',
  'RSI_IPA_STATE_GET',
  'RSI_IPA_STATE_SET',
  'RSI_MEASUREMENT_EXTEND',
  'RSI_MEASUREMENT_READ',
  'RSI_REALM_CONFIG',
  'RSI_VERSION',
  'guest access',
  'host read',
  'host write',
]

test('1: the calls that there are', () => {
  assert.deepEqual(CALLS.map(({ name }) => name).toSorted(), NAMES)
})

test('every call has a schema that takes its example and nothing unknown, and integers have limits', () => {
  for (const call of CALLS) {
    assert.ok(Value.Check(call.schema, call.example), call.name)
    assert.ok(!Value.Check(call.schema, { ...call.example, unknown: 1 }), call.name)
    const { properties } = call.schema as unknown as { properties: object }
    assert.ok(!['call', 'by', 'vcpu'].some((reserved) => reserved in properties), call.name)
    const text = JSON.stringify(call.schema)
    for (const [, rest] of text.matchAll(/"type":"integer"([^{}]*)/g)) assert.match(rest ?? '', /"maximum"/, call.name)
  }
})

test('an RMI call by a guest, and an RSI call by the host, is no call at all', () => {
  const bench = createActive()
  const before = fingerprint(bench)
  for (const call of CALLS)
    assert.deepEqual(bench.asOther(call.name, call.example), {
      kind: 'done',
      status: { name: 'SMC_NOT_SUPPORTED', code: -1 },
    })
  assert.equal(fingerprint(bench), before)
})

test('1: status words: the code, and the index in bits 15:8', () => {
  const bench = createActive()
  assert.equal(bench.run('RMI_REALM_ACTIVATE').kind, 'done')
  const code = (name: string, args: object) => {
    const result = bench.run(name, { ...args })
    return result.kind === 'done' ? result.status.code : undefined
  }
  assert.equal(code('RMI_DATA_DESTROY', { ipa: ipa(PAGE) }), 4)
  addTables(bench, PAGE, 2)
  assert.equal(code('RMI_DATA_DESTROY', { ipa: ipa(PAGE) }), 0x204)
  assert.equal(code('RMI_DATA_DESTROY', { ipa: ipa(PAR) }), 1)
  assert.equal(code('RMI_REALM_ACTIVATE', {}), 2)
  must(bench, 'PSCI_SYSTEM_OFF', { rec: pa(REC) })
  assert.equal(code('RMI_REC_ENTER', { rec: pa(REC) }), 0x102)
  assert.equal(code('RMI_REC_ENTER', { rec: pa(SPARE) }), 1)
})

test('1: with LPA2 the root’s level -1 is 0xff in a status word', () => {
  const bench = createRealm({ s2sz: 52, level: -1, fields: { flags: 1 } })
  const result = bench.run('RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  assert.ok(result.kind === 'done')
  assert.deepEqual([result.status.code, result.outputs?.index], [0xff04, -1])
  assert.equal(result.outputs?.top, '0x10000000000000')
})

const WORDS = ['0x0', '0x1', '0xffffffffffffffff', '0xfffffffffffff000', pa(RD), pa(REC), pa(SOURCE), pa(SPARE)]
const PLACES = [pa(DATA), pa(FRAMES - 1), ipa(PAGE), ipa(PAGE + 512), ipa(PAR), ipa(2 * PAR)]
const KEYS = ['rd', 'rec', 'rtt', 'data', 'src', 'addr', 'ipa', 'base', 'top', 'start', 'end', 'desc', 'params', 'run']

/** A call's example with its operands replaced in turn. */
function variations(example: object, properties: object): Readonly<Record<string, unknown>>[] {
  const variants: Record<string, unknown>[] = [{ ...example }]
  for (const key of KEYS.filter((name) => name in properties))
    for (const word of [...WORDS, ...PLACES])
      if (key !== 'data' || 'ipa' in properties) variants.push({ ...example, [key]: word })
  if ('level' in properties)
    for (const level of [-1, 0, 1, 2, 3, 4, '0xffffffffffffffff']) variants.push({ ...example, ipa: '0x0', level })
  if ('flags' in properties) for (const flags of [0, 1, 2, '0xffffffffffffffff']) variants.push({ ...example, flags })
  return variants
}

const STAGES = ['none', 'NEW', 'ACTIVE', 'SYSTEM_OFF'] as const

function staged(stage: (typeof STAGES)[number]): Bench {
  if (stage === 'none') return createEmptyBench()
  const bench = createWithRec()
  addTables(bench, PAGE)
  delegate(bench, DATA, 2)
  must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })
  must(bench, 'RMI_DATA_CREATE', { data: pa(DATA), ipa: ipa(PAGE), src: pa(SOURCE), flags: 0 })
  if (stage === 'NEW') return bench
  must(bench, 'RMI_REALM_ACTIVATE')
  if (stage === 'SYSTEM_OFF') must(bench, 'PSCI_SYSTEM_OFF', { rec: pa(REC) })
  return bench
}

test('every call answers whatever it is given in every stage, and what RMI refuses changes nothing', () => {
  let refused = 0
  for (const stage of STAGES)
    for (const call of CALLS) {
      const { properties } = call.schema as unknown as { properties: object }
      for (const args of variations(call.example, properties)) {
        if (!Value.Check(call.schema, args)) continue
        const bench = staged(stage)
        const before = fingerprint(bench)
        const result = bench.run(call.name, args)
        assert.equal(result.kind, 'done')
        if (result.kind !== 'done' || !result.status.name.startsWith('RMI_ERROR')) continue
        refused++
        assert.equal(fingerprint(bench), before, `${call.name} ${JSON.stringify(args)} in ${stage}`)
      }
    }
  assert.ok(refused > 1000)
})

test('data is plain: it survives a structured copy, and goes on from there', () => {
  const bench = staged('ACTIVE')
  must(bench, 'RSI_IPA_STATE_SET', { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 1), ripas: 'EMPTY' })
  assert.deepEqual(deserialize(serialize(bench.data)), bench.data)
  assert.deepEqual(structuredClone(bench.data), bench.data)
})

test('4, 5: explain shows the walk, the granule, and what an access meets', () => {
  const bench = staged('NEW')
  const realm = realmOf(bench)
  const page = explainPage(bench.data, realm, PAGE, DATA)
  const walk = [
    { level: 0, index: 0, ipa: '0x0', state: 'TABLE', desc: pa(TABLES), table: pa(TABLES) },
    { level: 1, index: 2, ipa: ipa(PAGE), state: 'TABLE', desc: pa(TABLES + 1), table: pa(TABLES + 1) },
    { level: 2, index: 0, ipa: ipa(PAGE), state: 'TABLE', desc: pa(TABLES + 2), table: pa(TABLES + 2) },
    { level: 3, index: 0, ipa: ipa(PAGE), state: 'ASSIGNED/RAM', ripas: 'RAM', acknowledged: true, desc: pa(DATA) },
  ]
  assert.deepEqual(page.protected, walk)
  assert.deepEqual(page.unprotected, [{ level: 0, index: 1, ipa: ipa(PAR), state: 'UNASSIGNED_NS', desc: '0x0' }])
  assert.deepEqual(page.load, { protected: 'ok', unprotected: 'exit' })
  assert.deepEqual(page.granule, { pa: pa(DATA), state: 'DATA', pas: 'REALM', rd: pa(RD) })
  const next = explainPage(bench.data, realm, PAGE + 1, undefined)
  assert.deepEqual([next.load, next.granule], [{ protected: 'sea', unprotected: 'exit' }, undefined])
  assert.deepEqual(explainGranule(bench.data, FRAMES), { pa: pa(FRAMES), state: 'none', pas: 'REALM' })
})

test('3: explain shows a Realm and its RECs', () => {
  const bench = staged('ACTIVE')
  must(bench, 'RSI_IPA_STATE_SET', { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 2), ripas: 'EMPTY', flags: 1 })
  const { recs, ...realm } = explainRealm(bench.data, realmOf(bench))
  assert.deepEqual(realm, {
    rd: pa(RD),
    state: 'ACTIVE',
    s2sz: 40,
    rttLevelStart: 0,
    rttNumStart: 1,
    vmid: 0,
    rim: must(bench, 'RIM').rim,
  })
  const change = { base: ipa(PAGE), top: ipa(PAGE + 2), next: ipa(PAGE), ripas: 'EMPTY', changeDestroyed: true }
  const rec = { rec: pa(REC), index: 0, runnable: true, running: false, lastExit: 'RIPAS_CHANGE' }
  assert.deepEqual(recs, [{ ...rec, ripasChange: change }])
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  assert.deepEqual(explainRealm(bench.data, realmOf(bench)).recs, [])
})

test('a Realm that is not there has no RIM', () => {
  const bench = createEmptyBench()
  const result = bench.run('RIM')
  assert.ok(result.kind === 'done' && result.status.name === 'RMI_ERROR_INPUT')
})
