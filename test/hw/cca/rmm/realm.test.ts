import assert from 'node:assert/strict'
import { test } from 'node:test'
import { decodeRealmParams, rootTables } from '../../../../src/hw/cca/rmm/realm-params.ts'
import {
  type Args,
  addTables,
  ask,
  createActive,
  createEmptyBench,
  createRealm,
  createWithRec,
  DATA,
  delegate,
  ipa,
  must,
  pa,
  RD,
  REC,
  ROOT,
  realmOf,
  refuses,
  SOURCE,
  SPARE,
  short,
} from './rmm-bench.ts'

const PAGE = 0x80000
const FIELDS: Args = {
  rd: pa(RD),
  s2sz: 40,
  rtt_base: pa(ROOT),
  rtt_level_start: 0,
  rtt_num_start: 1,
  hash_algo: 0,
  num_bps: 1,
  num_wps: 1,
}

function prepared(tables = 1) {
  const bench = createEmptyBench()
  delegate(bench, RD)
  delegate(bench, ROOT, tables)
  return bench
}

test('3: a new Realm is NEW, empty, and its root tables say UNASSIGNED', () => {
  const bench = createRealm()
  const realm = realmOf(bench)
  assert.equal(realm.state, 'NEW')
  assert.deepEqual(
    realm.rems,
    Array.from({ length: 4 }, () => new Uint8Array(64)),
  )
  const low = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: '0x0', level: 0 })
  assert.deepEqual([low.state, low.ripas, low.desc], ['UNASSIGNED', 'EMPTY', '0x0'])
  const high = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: '0x8000000000', level: 0 })
  assert.deepEqual([high.state, high.ripas, high.desc], ['UNASSIGNED', 'EMPTY', '0x0'])
})

test('3: the pairs of s2sz and start level that are legal, with their root tables', () => {
  const legal: readonly (readonly [s2sz: number, level: number, tables: number, lpa2?: boolean])[] = [
    [32, 2, 4],
    [34, 2, 16],
    [40, 1, 2],
    [42, 1, 8],
    [52, 0, 16, true],
    [40, 0, 1],
    [48, 0, 1],
    [33, 2, 8],
    [41, 1, 4],
    [43, 1, 16],
    [39, 1, 1],
    [49, -1, 1, true],
    [52, -1, 1, true],
  ]
  for (const [s2sz, level, tables, lpa2 = false] of legal) {
    assert.equal(rootTables(s2sz, level, lpa2), tables, `${s2sz} at ${level}`)
    const bench = prepared(tables)
    const fields = { s2sz, rtt_level_start: level, rtt_num_start: tables, flags: lpa2 ? 1 : 0 }
    must(bench, 'RMI_REALM_CREATE', { ...FIELDS, ...fields })
  }
})

test('3: root tables follow from s2sz alone: w+1 to w+9, and w+13 where concatenation is legal', () => {
  for (const lpa2 of [false, true])
    for (let level = -1; level <= 3; level++)
      for (let s2sz = 12; s2sz <= 64; s2sz++) {
        const width = 9 * (3 - level) + 12
        const concatenates = level > 0 || (level === 0 && lpa2)
        const exists = level >= 0 || lpa2
        const legal = exists && s2sz >= width + 1 && s2sz <= width + (concatenates ? 13 : 9)
        const expected = legal ? Math.max(1, 2 ** (s2sz - width - 9)) : 0
        assert.equal(rootTables(s2sz, level, lpa2), expected, `${s2sz} at ${level}, LPA2 ${lpa2}`)
      }
})

test('3: REALM_CREATE refuses fields that are not supported', () => {
  const bench = prepared(2)
  const wrong: readonly Args[] = [
    { s2sz: 31, rtt_level_start: 2, rtt_num_start: 2 },
    { s2sz: 49 },
    { s2sz: 53, flags: 1 },
    { num_bps: 0 },
    { num_bps: 16 },
    { num_wps: 0 },
    { num_wps: 16 },
    { flags: 2, sve_vl: 16 },
    { flags: 4, pmu_num_ctrs: 0 },
    { flags: 4, pmu_num_ctrs: 32 },
    { rtt_level_start: 1 },
    { rtt_level_start: -1 },
    { rtt_level_start: 4 },
    { rtt_num_start: 0 },
    { rtt_num_start: 2 },
    { hash_algo: 2 },
    { vmid: 0x10000 },
  ]
  for (const fields of wrong) refuses(bench, 'INPUT', 'RMI_REALM_CREATE', { ...FIELDS, ...fields })
})

test('3: fields of a feature whose flag is clear are not checked', () => {
  must(prepared(), 'RMI_REALM_CREATE', { ...FIELDS, sve_vl: 16, pmu_num_ctrs: 99 })
})

test('3: REALM_CREATE refuses granules that are not DELEGATED, overlap or lie askew', () => {
  const bench = prepared(3)
  const two = { rtt_level_start: 1, rtt_num_start: 2 }
  for (const fields of [
    { rd: pa(SOURCE) },
    { rd: `${pa(RD)}`.replace(/0$/, '8') },
    { rd: pa(ROOT), rtt_base: pa(ROOT) },
    { rd: pa(ROOT + 1), ...two },
    { rtt_base: pa(SOURCE) },
    { rtt_base: pa(ROOT + 1), ...two },
    { rtt_base: pa(ROOT + 2), ...two },
    { rtt_base: '0x20800' },
  ])
    refuses(bench, 'INPUT', 'RMI_REALM_CREATE', { ...FIELDS, ...fields })
  must(bench, 'RMI_REALM_CREATE', { ...FIELDS, ...two })
})

test('3: a VMID is one Realm’s until that is destroyed', () => {
  const bench = createRealm({ fields: { vmid: 7 } })
  delegate(bench, DATA, 2)
  const second = { ...FIELDS, rd: pa(DATA), rtt_base: pa(DATA + 1) }
  refuses(bench, 'INPUT', 'RMI_REALM_CREATE', { ...second, vmid: 7 })
  must(bench, 'RMI_REALM_CREATE', { ...second, vmid: 0 })
  must(bench, 'RMI_REALM_DESTROY', { rd: pa(DATA) })
  must(bench, 'RMI_REALM_DESTROY')
  must(bench, 'RMI_REALM_CREATE', { ...second, vmid: 7 })
})

test('3: without a VMID a Realm gets the lowest free one', () => {
  const bench = createRealm()
  delegate(bench, DATA, 2)
  must(bench, 'RMI_REALM_CREATE', { ...FIELDS, rd: pa(DATA), rtt_base: pa(DATA + 1) })
  assert.deepEqual([...bench.data.vmids], [0, 1])
})

test('1, 3: RmiRealmParams are read from an aligned host page', () => {
  const bench = prepared(8)
  const page = Buffer.alloc(4096)
  page.writeUInt8(33, 8)
  page.writeUInt8(5, 0x18)
  page.writeUInt8(3, 0x20)
  page.writeUInt8(1, 0x30)
  page.fill(0xab, 0x400, 0x440)
  page.writeUInt16LE(9, 0x800)
  page.writeBigUInt64LE(BigInt(ROOT) << 12n, 0x808)
  page.writeBigInt64LE(2n, 0x810)
  page.writeUInt32LE(8, 0x818)
  bench.machine.write(SOURCE, page)
  refuses(bench, 'INPUT', 'RMI_REALM_CREATE', { rd: pa(RD), params: '0x200800' })
  refuses(bench, 'INPUT', 'RMI_REALM_CREATE', { rd: pa(RD), params: pa(ROOT) })
  must(bench, 'RMI_REALM_CREATE', { rd: pa(RD), params: pa(SOURCE) })
  const { s2sz, vmid, rpv, rtt } = realmOf(bench)
  assert.deepEqual([s2sz, vmid, rpv[63], rtt.startLevel, rtt.rootTables], [33, 9, 0xab, 2, 8])
  assert.equal(decodeRealmParams(page).numWps, 3)
  refuses(bench, 'INPUT', 'RMI_REALM_CREATE', { rd: pa(SPARE), params: pa(SOURCE) })
})

test('3: ACTIVATE is INPUT without a Realm, and ERROR_REALM unless NEW', () => {
  const bench = createActive()
  refuses(bench, 'INPUT', 'RMI_REALM_ACTIVATE', { rd: pa(SPARE) })
  refuses(bench, 'REALM,0', 'RMI_REALM_ACTIVATE')
  must(bench, 'PSCI_SYSTEM_OFF', { rec: pa(REC) })
  refuses(bench, 'REALM,0', 'RMI_REALM_ACTIVATE')
})

test('3: DESTROY is INPUT without a Realm, and ERROR_REALM with a REC, a table or a page', () => {
  const bench = createWithRec({ s2sz: 39, level: 1 })
  refuses(bench, 'INPUT', 'RMI_REALM_DESTROY', { rd: pa(REC) })
  refuses(bench, 'REALM,0', 'RMI_REALM_DESTROY')
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  addTables(bench, PAGE, 2)
  refuses(bench, 'REALM,0', 'RMI_REALM_DESTROY')
  must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(PAGE), level: 2 })
  const unprotected = realmOf(bench).rtt.unprotectedPage
  addTables(bench, unprotected, 2)
  refuses(bench, 'REALM,0', 'RMI_REALM_DESTROY')
  must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(unprotected), level: 2 })
  must(bench, 'RMI_REALM_DESTROY')
})

test('2, 3: host memory mapped at the root keeps no Realm alive', () => {
  const bench = createRealm({ s2sz: 39, level: 1 })
  const { unprotectedPage } = realmOf(bench).rtt
  must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(unprotectedPage), level: 1, desc: '0x400000d8' })
  must(bench, 'RMI_REALM_DESTROY')
})

test('3: a block that was folded into the root keeps a Realm alive', () => {
  const bench = createRealm({ s2sz: 33, level: 2, tables: 8 })
  const next = addTables(bench, PAGE)
  delegate(bench, DATA, 512)
  for (let page = 0; page < 512; page++)
    must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + page), ipa: ipa(PAGE + page) })
  must(bench, 'RMI_RTT_FOLD', { ipa: ipa(PAGE), level: 3 })
  refuses(bench, 'REALM,0', 'RMI_REALM_DESTROY')
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(PAGE), level: 3 })
  for (let page = 0; page < 512; page++) must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + page) })
  must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(PAGE), level: 3 })
  must(bench, 'RMI_REALM_DESTROY')
})

/** What each command of 3's table answers of a Realm in each state, with operands that work where it may. */
const BY_STATE: readonly (readonly [name: string, args: Args, NEW: string, ACTIVE: string, OFF: string])[] = [
  ['RMI_REALM_ACTIVATE', {}, 'SUCCESS', 'REALM,0', 'REALM,0'],
  ['RMI_REC_CREATE', { rec: pa(SPARE), mpidr: 1 }, 'SUCCESS', 'REALM,0', 'REALM,0'],
  ['RMI_DATA_CREATE', { data: pa(DATA), ipa: ipa(PAGE), src: pa(SOURCE), flags: 0 }, 'SUCCESS', 'REALM,0', 'REALM,0'],
  ['RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) }, 'SUCCESS', 'REALM,0', 'REALM,0'],
  ['RMI_REC_ENTER', { rec: pa(REC) }, 'REALM,0', 'SUCCESS', 'REALM,1'],
  ['RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_DATA_DESTROY', { ipa: ipa(PAGE + 1) }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_RTT_CREATE', { rtt: pa(SPARE), ipa: ipa(PAGE + 512), level: 3 }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_RTT_DESTROY', { ipa: ipa(PAGE + 1024), level: 3 }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_RTT_FOLD', { ipa: ipa(PAGE + 1024), level: 3 }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_RTT_READ_ENTRY', { ipa: ipa(PAGE), level: 3 }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_RTT_MAP_UNPROTECTED', { ipa: '0x8000000000', level: 1, desc: '0xd8' }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_RTT_UNMAP_UNPROTECTED', { ipa: '0x8040000000', level: 1 }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
  ['RMI_REC_DESTROY', { rec: pa(REC) }, 'SUCCESS', 'SUCCESS', 'SUCCESS'],
]

test('3: which command is legal in which state of a Realm', () => {
  for (const [name, args, ...expected] of BY_STATE) {
    const answers = (['NEW', 'ACTIVE', 'SYSTEM_OFF'] as const).map((state) => {
      const bench = createWithRec()
      let next = addTables(bench, PAGE)
      next = addTables(bench, PAGE + 1024, 3, next)
      addTables(bench, 2 ** 27, 1, next)
      delegate(bench, DATA, 2)
      must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + 1), ipa: ipa(PAGE + 1) })
      must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: '0x8040000000', level: 1, desc: '0xd8' })
      if (state !== 'NEW') must(bench, 'RMI_REALM_ACTIVATE')
      if (state === 'SYSTEM_OFF') must(bench, 'PSCI_SYSTEM_RESET', { rec: pa(REC) })
      assert.equal(realmOf(bench).state, state)
      return short(ask(bench, name, args))
    })
    assert.deepEqual(answers, expected, name)
  }
})

test('3: REALM_DESTROY is legal in every state', () => {
  for (const state of ['NEW', 'ACTIVE', 'SYSTEM_OFF']) {
    const bench = createWithRec()
    if (state !== 'NEW') must(bench, 'RMI_REALM_ACTIVATE')
    if (state === 'SYSTEM_OFF') must(bench, 'PSCI_SYSTEM_OFF', { rec: pa(REC) })
    must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
    must(bench, 'RMI_REALM_DESTROY')
  }
})

test('1: versions and features', () => {
  const bench = createEmptyBench()
  assert.deepEqual(must(bench, 'RMI_VERSION', { req: '0x10000' }).lower, '0x10000')
  assert.equal(refuses(bench, 'INPUT', 'RMI_VERSION', { req: '0x20000' }).higher, '0x10000')
  const register = BigInt(String(must(bench, 'RMI_FEATURES', { index: 0 }).value))
  const field = (shift: bigint, width: bigint): bigint => (register >> shift) & ((1n << width) - 1n)
  assert.deepEqual([field(0n, 8n), field(8n, 1n), field(14n, 6n), field(20n, 6n)], [52n, 1n, 15n, 15n])
  assert.deepEqual([field(9n, 1n), field(10n, 4n), field(26n, 1n), field(27n, 5n)], [1n, 15n, 1n, 31n])
  assert.deepEqual([field(32n, 2n), field(34n, 4n), field(38n, 4n), register >> 42n], [3n, 15n, 9n, 0n])
  assert.equal(must(bench, 'RMI_FEATURES', { index: 1 }).value, '0x0')
})
