import assert from 'node:assert/strict'
import { test } from 'node:test'
import { explainGranule } from '../../../../src/hw/cca/rmm/explain.ts'
import {
  areAll,
  firstGuarded,
  GRANULE,
  granuleName,
  metadataBytes,
  pasOf,
  setGranules,
} from '../../../../src/hw/cca/rmm/granules.ts'
import {
  addTables,
  ask,
  type Bench,
  createActive,
  createEmptyBench,
  createRealm,
  createWithRec,
  DATA,
  delegate,
  FRAMES,
  ipa,
  must,
  pa,
  RD,
  REC,
  REC2,
  ROOT,
  refuses,
  SOURCE,
  SPARE,
  setRipas,
  TABLES,
} from './rmm-bench.ts'

const PAGE = 0x80000
const stateOf = (bench: Bench, frame: number): string => {
  const { state, pas } = explainGranule(bench.data, frame)
  return `${state} ${pas}`
}

test('2: DELEGATE and UNDELEGATE move a granule and its PAS', () => {
  const bench = createEmptyBench()
  assert.equal(stateOf(bench, DATA), 'UNDELEGATED NS')
  delegate(bench, DATA)
  assert.equal(stateOf(bench, DATA), 'DELEGATED REALM')
  must(bench, 'RMI_GRANULE_UNDELEGATE', { addr: pa(DATA) })
  assert.equal(stateOf(bench, DATA), 'UNDELEGATED NS')
})

test('2: DELEGATE refuses all but an aligned, tracked, UNDELEGATED granule in PAS Non-secure', () => {
  const bench = createEmptyBench()
  delegate(bench, DATA)
  setGranules(bench.data.granules, DATA + 1, 1, GRANULE.SECURE, 0)
  setGranules(bench.data.granules, DATA + 2, 1, GRANULE.ROOT, 0)
  assert.equal(stateOf(bench, DATA + 1), 'UNDELEGATED SECURE')
  assert.equal(stateOf(bench, DATA + 2), 'UNDELEGATED ROOT')
  for (const addr of ['0x40000001', '0x40000800', pa(DATA), pa(DATA + 1), pa(DATA + 2), pa(FRAMES - 1), pa(FRAMES)])
    refuses(bench, 'INPUT', 'RMI_GRANULE_DELEGATE', { addr })
  refuses(bench, 'INPUT', 'RMI_GRANULE_DELEGATE', { addr: '0xfffffffffffff000' })
})

test('2: UNDELEGATE refuses all but an aligned DELEGATED granule', () => {
  const bench = createWithRec()
  addTables(bench, PAGE)
  delegate(bench, DATA)
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  const [aux = 0] = bench.data.recs.get(REC)?.aux ?? []
  assert.equal(stateOf(bench, aux), 'REC_AUX REALM')
  for (const [frame, state] of [
    [RD, 'RD'],
    [ROOT, 'RTT'],
    [REC, 'REC'],
    [aux, 'REC_AUX'],
    [TABLES, 'RTT'],
    [DATA, 'DATA'],
  ] as const) {
    assert.equal(stateOf(bench, frame), `${state} REALM`)
    refuses(bench, 'INPUT', 'RMI_GRANULE_UNDELEGATE', { addr: pa(frame) })
  }
  for (const addr of [pa(SOURCE), `${pa(SPARE)}`.replace(/0$/, '8'), pa(FRAMES - 1), pa(FRAMES)])
    refuses(bench, 'INPUT', 'RMI_GRANULE_UNDELEGATE', { addr })
})

test('2: every transition of the table and no other gives a granule back', () => {
  const bench = createActive()
  const next = addTables(bench, PAGE)
  delegate(bench, DATA)
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  assert.equal(stateOf(bench, DATA), 'DELEGATED REALM')
  must(bench, 'RMI_RTT_FOLD', { ipa: ipa(PAGE), level: 3 })
  assert.equal(stateOf(bench, next - 1), 'DELEGATED REALM')
  must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(PAGE), level: 2 })
  assert.equal(stateOf(bench, next - 2), 'DELEGATED REALM')
  must(bench, 'RMI_RTT_DESTROY', { ipa: '0x0', level: 1 })
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  assert.equal(stateOf(bench, REC), 'DELEGATED REALM')
  must(bench, 'RMI_REALM_DESTROY')
  for (const frame of [RD, ROOT]) assert.equal(stateOf(bench, frame), 'DELEGATED REALM')
  assert.deepEqual([bench.data.realms.size, bench.data.recs.size, bench.data.vmids.size], [0, 0, 0])
})

test('2: the host does not see what a Realm had, nor a Realm what the host had', () => {
  const bench = createActive()
  addTables(bench, PAGE)
  must(bench, 'host write', { addr: pa(DATA), data: 'host' })
  delegate(bench, DATA)
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  setRipas(bench, PAGE, 1, 'RAM')
  const read = { rec: pa(REC), ipa: ipa(PAGE), kind: 'read' }
  assert.equal(must(bench, 'guest access', read).data, '')
  must(bench, 'guest access', { ...read, kind: 'write', data: 'secret' })
  assert.equal(must(bench, 'guest access', read).data, 'secret')
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  must(bench, 'RMI_GRANULE_UNDELEGATE', { addr: pa(DATA) })
  assert.equal(must(bench, 'host read', { addr: pa(DATA) }).data, '')
  assert.equal(bench.machine.pages.size, 0)
})

test('2: a host access of a granule outside PAS Non-secure is a GPF', () => {
  const bench = createActive()
  setGranules(bench.data.granules, DATA, 1, GRANULE.SECURE, 0)
  for (const frame of [RD, ROOT, REC, REC2, DATA, FRAMES - 1]) {
    assert.equal(refuses(bench, 'GPF', 'host read', { addr: pa(frame) }).outcome, 'GPF')
    assert.equal(refuses(bench, 'GPF', 'host write', { addr: pa(frame), data: 'x' }).outcome, 'GPF')
  }
  assert.equal(ask(bench, 'host read', { addr: pa(SOURCE) }).outcome, 'ok')
})

test('2, 10: the RMM keeps four bytes a granule at the top of memory, which nobody else reaches', () => {
  const { data } = createEmptyBench()
  assert.equal(metadataBytes(data.granules), FRAMES * 4)
  assert.equal(data.granules.ownStart, FRAMES - (FRAMES * 4) / 4096)
  assert.equal(firstGuarded(data.granules, 0, FRAMES), data.granules.ownStart)
  assert.equal(firstGuarded(data.granules, 0, data.granules.ownStart), -1)
  assert.equal(granuleName(GRANULE.UNTRACKED), 'none')
  for (const frame of [FRAMES - 1, FRAMES, 2 ** 40]) assert.ok(!areAll(data.granules, frame, 1, GRANULE.UNDELEGATED))
  assert.equal(pasOf(GRANULE.UNTRACKED), 'REALM')
})

test('2: owners are numbers that are used again', () => {
  const bench = createRealm()
  assert.deepEqual(bench.data.granules.owners, [-1, RD])
  assert.equal(explainGranule(bench.data, RD).rd, pa(RD))
  must(bench, 'RMI_REALM_DESTROY')
  assert.deepEqual(bench.data.granules.owners, [-1, -1])
  assert.equal(explainGranule(bench.data, RD).rd, undefined)
})
