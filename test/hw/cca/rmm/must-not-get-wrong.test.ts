import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  addTables,
  ask,
  type Bench,
  createActive,
  createRealm,
  createWithRec,
  DATA,
  delegate,
  entry,
  ipa,
  must,
  pa,
  REC,
  REC2,
  realmOf,
  refuses,
  SOURCE,
  setRipas,
} from './rmm-bench.ts'

const PAGE = 0x80000
const MIB2 = 512
const GIB = 512 ** 2

const give = (bench: Bench, page = PAGE, frame = DATA) =>
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(frame), ipa: ipa(page) })
const read = { rec: pa(REC), ipa: ipa(PAGE), kind: 'read' }

/** An active Realm with RAM of `pages` at {@link PAGE} and granules to give. */
function withRam(pages = 4): Bench {
  const bench = createActive()
  addTables(bench, PAGE)
  delegate(bench, DATA, 8)
  setRipas(bench, PAGE, pages, 'RAM', 0)
  return bench
}

test('13.1: index of ERROR_RTT, level by level, and top also on failure', () => {
  const bench = createRealm()
  let next = 0x80
  for (const [level, top] of [
    [0, 2 ** 36],
    [1, 2 ** 27],
    [2, PAGE + GIB],
    [3, PAGE + MIB2],
  ] as const) {
    const answer = refuses(bench, `RTT,${level}`, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
    assert.equal(answer.top, ipa(top))
    if (level < 3) next = addTables(bench, PAGE, level + 1, next)
  }
})

test('13.2: DATA_DESTROY: A/R → U/D, but A/E → U/E', () => {
  const bench = withRam()
  give(bench)
  give(bench, PAGE + 4, DATA + 1)
  for (const page of [PAGE, PAGE + 4]) must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(page) })
  assert.deepEqual([entry(bench, PAGE), entry(bench, PAGE + 4)], ['UNASSIGNED/DESTROYED', 'UNASSIGNED/EMPTY'])
})

test('13.3: DATA_CREATE_UNKNOWN leaves RIPAS alone: DESTROYED stays DESTROYED', () => {
  const bench = withRam()
  give(bench)
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  give(bench)
  assert.equal(entry(bench, PAGE), 'ASSIGNED/DESTROYED')
})

test('13.4: EMPTY access is an SEA in the guest, no exit; DESTROYED access an exit, for ever', () => {
  const bench = withRam()
  give(bench)
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  give(bench)
  for (let round = 0; round < 5; round++) {
    assert.equal(ask(bench, 'guest access', read).exit_reason, 'SYNC')
    assert.equal(ask(bench, 'guest access', { ...read, ipa: ipa(PAGE + 4) }).fault, 'SEA')
  }
})

test('13.5: RTT_DESTROY of a protected table makes the whole range DESTROYED, even if it was EMPTY', () => {
  const bench = createActive()
  addTables(bench, PAGE)
  must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(PAGE), level: 3 })
  const get = { rec: pa(REC), start: ipa(PAGE), end: ipa(PAGE + 2 * MIB2) }
  const { x1, ripas } = must(bench, 'RSI_IPA_STATE_GET', get)
  assert.deepEqual([x1, ripas], [ipa(PAGE + MIB2), 'DESTROYED'])
})

test('13.6: SET_RIPAS only for the REC’s own range, from its next address, one table, DESTROYED only with the flag', () => {
  const bench = withRam()
  const range = { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + MIB2 + MIB2) }
  refuses(bench, 'INPUT', 'RMI_RTT_SET_RIPAS', range)
  must(bench, 'RSI_IPA_STATE_SET', { ...range, ripas: 'EMPTY', flags: 0 })
  refuses(bench, 'INPUT', 'RMI_RTT_SET_RIPAS', { ...range, base: ipa(PAGE + 1) })
  refuses(bench, 'INPUT', 'RMI_RTT_SET_RIPAS', { ...range, top: ipa(PAGE + MIB2 * 3) })
  assert.equal(must(bench, 'RMI_RTT_SET_RIPAS', range).out_top, ipa(PAGE + MIB2))
  must(bench, 'RMI_REC_ENTER after RIPAS_CHANGE', { rec: pa(REC) })
  setRipas(bench, PAGE, 1, 'RAM', 0)
  give(bench)
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  must(bench, 'RSI_IPA_STATE_SET', { ...range, ripas: 'RAM', flags: 0 })
  refuses(bench, 'RTT,3', 'RMI_RTT_SET_RIPAS', range)
  must(bench, 'RMI_REC_ENTER after RIPAS_CHANGE', { rec: pa(REC) })
  must(bench, 'RSI_IPA_STATE_SET', { ...range, ripas: 'RAM', flags: 1 })
  must(bench, 'RMI_RTT_SET_RIPAS', range)
})

test('13.7: ERROR_REALM before the IPA’s INPUT in DATA_CREATE, but after it in INIT_RIPAS', () => {
  const bench = withRam()
  const create = { data: pa(DATA), ipa: '0x800', src: pa(SOURCE), flags: 0 }
  refuses(bench, 'REALM,0', 'RMI_DATA_CREATE', create)
  refuses(bench, 'INPUT', 'RMI_RTT_INIT_RIPAS', { base: '0x800', top: '0x1000' })
})

test('13.8: unmeasured DATA and repeated INIT_RIPAS still extend; a parked REC doesn’t', () => {
  const bench = createRealm()
  addTables(bench, PAGE)
  delegate(bench, DATA, 2)
  const rims = [must(bench, 'RIM').rim]
  const step = (name: string, args: object) => {
    must(bench, name, { ...args })
    rims.push(must(bench, 'RIM').rim)
  }
  step('RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })
  step('RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })
  step('RMI_DATA_CREATE', { data: pa(DATA), ipa: ipa(PAGE), src: pa(SOURCE), flags: 0 })
  step('RMI_DATA_CREATE', { data: pa(DATA + 1), ipa: ipa(PAGE + 1), src: pa(SOURCE), flags: 1 })
  step('RMI_REC_CREATE', { rec: pa(REC), flags: 1 })
  assert.equal(new Set(rims).size, 6)
  step('RMI_REC_CREATE', { rec: pa(REC2), mpidr: 1, flags: 0 })
  step('RMI_RTT_CREATE', { rtt: pa(0x90), ipa: ipa(PAGE + MIB2), level: 3 })
  step('RMI_REALM_ACTIVATE', {})
  assert.equal(new Set(rims).size, 6)
})

test('13.8: the RIM of one INIT_RIPAS entry is that of 512 below it only by another digest', () => {
  const rims = [2, 3].map((level) => {
    const bench = createRealm()
    addTables(bench, PAGE, level)
    must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + MIB2) })
    return must(bench, 'RIM').rim
  })
  assert.notEqual(rims[0], rims[1])
})

test('13.9: REM hash has no padding', () => {
  const bench = createActive({ fields: { hash_algo: 0 } })
  const value = 'ab'.repeat(64)
  must(bench, 'RSI_MEASUREMENT_EXTEND', { rec: pa(REC), index: 1, size: 5, value })
  const expected = createHash('sha256').update(Buffer.alloc(32)).update(Buffer.alloc(5, 0xab)).digest('hex')
  assert.equal(must(bench, 'RSI_MEASUREMENT_READ', { rec: pa(REC), index: 1 }).value, expected.padEnd(128, '0'))
})

test('13.10: wipe on the way back, GPF on the way in', () => {
  const bench = withRam()
  give(bench)
  must(bench, 'guest access', { ...read, kind: 'write', data: 'secret' })
  assert.equal(ask(bench, 'host read', { addr: pa(DATA) }).outcome, 'GPF')
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  assert.equal(ask(bench, 'host read', { addr: pa(DATA) }).outcome, 'GPF')
  must(bench, 'RMI_GRANULE_UNDELEGATE', { addr: pa(DATA) })
  assert.equal(must(bench, 'host read', { addr: pa(DATA) }).data, '')
})

test('8: a failed command leaves the RIM as it was', () => {
  const bench = createWithRec()
  addTables(bench, PAGE)
  delegate(bench, DATA, 2)
  const before = realmOf(bench).rim
  give(bench)
  const create = { data: pa(DATA + 1), ipa: ipa(PAGE), src: pa(SOURCE), flags: 1 }
  refuses(bench, 'RTT,3', 'RMI_DATA_CREATE', create)
  refuses(bench, 'RTT,3', 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })
  assert.equal(realmOf(bench).rim, before)
})
