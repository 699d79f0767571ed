import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Args,
  addTables,
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
  refuses,
  SOURCE,
  SPARE,
  TABLES,
} from './rmm-bench.ts'

const PAGE = 0x80000
const PAR = 2 ** 27
const END = 2 ** 28
const GIB = 512 ** 2
const MIB2 = 512

/** A NEW Realm of 40 bits with level 3 tables at {@link PAGE} and in the upper half, and granules to give. */
function prepared(): { readonly bench: Bench; readonly next: number } {
  const bench = createWithRec()
  const next = addTables(bench, PAR, 3, addTables(bench, PAGE))
  delegate(bench, DATA, 4)
  return { bench, next }
}

/** A call that is wrong in one operand, whose other operands would do. */
const refuser =
  (bench: Bench, name: string, good: Args) =>
  (expected: string, wrong: Args): Args =>
    refuses(bench, expected, name, { ...good, ...wrong })

test('5: DATA_CREATE checks flags, source, granule and RD, state, IPA, walk, entry', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_DATA_CREATE', { data: pa(DATA), ipa: ipa(PAGE), src: pa(SOURCE), flags: 1 })
  refused('INPUT', { flags: 2 })
  for (const src of [pa(DATA + 1), '0x200800', pa(2 ** 30)]) refused('INPUT', { src })
  for (const data of [pa(SOURCE), '0x40000800', pa(2 ** 36)]) refused('INPUT', { data })
  for (const rd of [pa(SPARE), pa(REC), '0x10800']) refused('INPUT', { rd })
  for (const at of ['0x80000800', ipa(PAR), ipa(END), '0xfffffffffffff000']) refused('INPUT', { ipa: at })
  refused('RTT,1', { ipa: ipa(PAGE + GIB) })
  refused('RTT,2', { ipa: ipa(PAGE + MIB2) })
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + 1), ipa: ipa(PAGE) })
  refused('RTT,3', {})
})

test('5, 13.7: DATA_CREATE meets ERROR_REALM before its IPA, and INIT_RIPAS after', () => {
  const { bench } = prepared()
  must(bench, 'RMI_REALM_ACTIVATE')
  const create = refuser(bench, 'RMI_DATA_CREATE', { data: pa(DATA), ipa: '0x800', src: pa(SOURCE), flags: 1 })
  create('REALM,0', {})
  create('INPUT', { src: pa(DATA + 1) })
  create('INPUT', { data: pa(SOURCE) })
  create('INPUT', { flags: 2 })
  const init = refuser(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })
  init('REALM,0', {})
  init('INPUT', { base: '0x800' })
  init('INPUT', { top: '0x80000800' })
  init('INPUT', { top: ipa(PAR + 1) })
  init('INPUT', { top: ipa(PAGE) })
  init('INPUT', { rd: pa(SPARE) })
})

test('5: DATA_CREATE_UNKNOWN checks granule and RD, IPA, walk, entry', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  refused('INPUT', { data: pa(SOURCE) })
  refused('INPUT', { rd: pa(SPARE) })
  for (const at of ['0x80000800', ipa(PAR), ipa(END)]) refused('INPUT', { ipa: at })
  refused('RTT,1', { ipa: ipa(PAGE + GIB) })
  refused('RTT,2', { ipa: ipa(PAGE + MIB2) })
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  refused('INPUT', { ipa: ipa(PAGE + 1) })
  refused('RTT,3', { data: pa(DATA + 1) })
})

test('5, 13.1: DATA_DESTROY says where the next live entry is, also when it fails', () => {
  const { bench } = prepared()
  const destroy = refuser(bench, 'RMI_DATA_DESTROY', {})
  for (const at of ['0x80000800', ipa(PAR), ipa(END)]) assert.equal(destroy('INPUT', { ipa: at }).top, '0x0')
  assert.equal(destroy('INPUT', { ipa: ipa(PAGE), rd: pa(SPARE) }).top, '0x0')
  assert.equal(destroy('RTT,3', { ipa: ipa(PAGE) }).top, ipa(PAGE + MIB2))
  for (const page of [3, 5])
    must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + page - 3), ipa: ipa(PAGE + page) })
  assert.equal(destroy('RTT,3', { ipa: ipa(PAGE) }).top, ipa(PAGE + 3))
  assert.equal(destroy('RTT,2', { ipa: ipa(PAGE + MIB2 + 9) }).top, ipa(PAGE + GIB))
  assert.equal(destroy('RTT,1', { ipa: ipa(0) }).top, ipa(PAGE))
  assert.equal(destroy('RTT,1', { ipa: ipa(PAGE + GIB) }).top, ipa(PAR))
  const first = must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + 3) })
  assert.deepEqual([first.pa, first.top], [pa(DATA), ipa(PAGE + 5)])
  const last = must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + 5) })
  assert.deepEqual([last.pa, last.top], [pa(DATA + 2), ipa(PAGE + MIB2)])
})

test('5: with concatenated root tables each ends its own walk', () => {
  const bench = createRealm({ s2sz: 33, level: 2, tables: 8 })
  assert.equal(refuses(bench, 'RTT,2', 'RMI_DATA_DESTROY', { ipa: '0x80000000' }).top, '0xc0000000')
  const init = must(bench, 'RMI_RTT_INIT_RIPAS', { base: '0x80000000', top: '0x100000000' })
  assert.equal(init.out_top, '0xc0000000')
})

test('5, FENIMORE-775: DATA_DESTROY meets a block: (RTT,2) with top = ipa, until it is unfolded', () => {
  const { bench, next } = prepared()
  delegate(bench, DATA + 4, 508)
  for (let page = 0; page < MIB2; page++)
    must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + page), ipa: ipa(PAGE + page) })
  must(bench, 'RMI_RTT_FOLD', { ipa: ipa(PAGE), level: 3 })
  const answer = refuses(bench, 'RTT,2', 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + 7) })
  assert.equal(answer.top, ipa(PAGE + 7))
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(PAGE), level: 3 })
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + 7) })
})

test('5: RTT_CREATE checks granule, level and IPA, walk, parent', () => {
  const { bench, next } = prepared()
  const refused = refuser(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(PAGE + MIB2), level: 3 })
  for (const rtt of [pa(SOURCE), pa(TABLES), '0x80800']) refused('INPUT', { rtt })
  refused('INPUT', { rd: pa(SPARE) })
  for (const level of [-1, 0, 4, 255, '0xffffffffffffffff']) refused('INPUT', { level })
  refused('INPUT', { ipa: ipa(PAGE + 1) })
  refused('INPUT', { ipa: ipa(PAGE + MIB2), level: 2 })
  refused('INPUT', { ipa: ipa(END) })
  refused('RTT,1', { ipa: ipa(PAGE + GIB) })
  refused('RTT,2', { ipa: ipa(PAGE) })
  refused('RTT,1', { ipa: ipa(PAGE), level: 2 })
  refused('RTT,0', { ipa: '0x0', level: 1 })
})

test('5, 13.1: RTT_DESTROY checks level and IPA, walk, parent, live entries', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_RTT_DESTROY', { ipa: ipa(PAGE), level: 3 })
  refused('INPUT', { rd: pa(SPARE) })
  for (const level of [0, 4]) assert.equal(refused('INPUT', { level }).top, '0x0')
  assert.equal(refused('INPUT', { ipa: ipa(PAGE + 1) }).top, '0x0')
  assert.equal(refused('INPUT', { ipa: ipa(END) }).top, '0x0')
  assert.equal(refused('RTT,1', { ipa: ipa(PAGE + GIB) }).top, ipa(PAR))
  assert.equal(refused('RTT,2', { ipa: ipa(PAGE + MIB2) }).top, ipa(PAGE + GIB))
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE + 9) })
  assert.equal(refused('RTT,3', {}).top, ipa(PAGE))
  assert.equal(refused('RTT,2', { level: 2 }).top, ipa(PAGE))
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + 9) })
  const done = must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(PAGE), level: 3 })
  assert.deepEqual([done.rtt, done.top], [pa(TABLES + 2), ipa(PAGE + GIB)])
})

test('5: RTT_FOLD checks level and IPA, walk, parent, entries', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_RTT_FOLD', { ipa: ipa(PAGE), level: 3 })
  refused('INPUT', { rd: pa(SPARE) })
  for (const level of [0, 4]) refused('INPUT', { level })
  refused('INPUT', { ipa: ipa(PAGE + 1) })
  refused('RTT,1', { ipa: ipa(PAGE + GIB) })
  refused('RTT,2', { ipa: ipa(PAGE + MIB2) })
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE + 9) })
  refused('RTT,3', {})
})

test('5: INIT_RIPAS stops at its table’s end, at what passes top, at what isn’t UNASSIGNED EMPTY or RAM', () => {
  const { bench, next } = prepared()
  const init = (base: number, top: number) =>
    must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(base), top: ipa(top) }).out_top
  assert.equal(init(PAGE + 500, PAGE + 600), ipa(PAGE + MIB2))
  assert.equal(init(PAGE + MIB2, PAGE + MIB2 * 3 + 1), ipa(PAGE + MIB2 * 3))
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(PAGE + MIB2 * 6), level: 3 })
  assert.equal(init(PAGE + MIB2 * 4, PAGE + MIB2 * 9), ipa(PAGE + MIB2 * 6))
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE + 9) })
  assert.equal(init(PAGE + 3, PAGE + 20), ipa(PAGE + 9))
  const refused = refuser(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE + 9), top: ipa(PAGE + 20) })
  refused('RTT,3', {})
  refused('RTT,2', { base: ipa(PAGE + MIB2 * 5 + 1), top: ipa(PAGE + MIB2 * 6) })
  refused('RTT,2', { base: ipa(PAGE + MIB2 * 5), top: ipa(PAGE + MIB2 * 5 + 1) })
  assert.equal(entry(bench, PAGE + MIB2 * 5, 2), 'UNASSIGNED/RAM')
})

test('5, 13.6: SET_RIPAS checks the range, RD and REC, that it doesn’t run, whose it is, and what it asked for', () => {
  const bench = createActive()
  const next = addTables(bench, PAGE)
  const call = refuser(bench, 'RMI_RTT_SET_RIPAS', { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 4) })
  call('INPUT', {})
  must(bench, 'RSI_IPA_STATE_SET', { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 4), ripas: 'RAM', flags: 0 })
  call('INPUT', { top: ipa(PAGE) })
  for (const rd of [pa(SPARE), pa(REC)]) call('INPUT', { rd })
  for (const rec of [pa(SPARE), '0x40800']) call('INPUT', { rec })
  call('INPUT', { base: ipa(PAGE + 1) })
  call('INPUT', { top: ipa(PAGE + 5) })
  call('INPUT', { top: '0x80000800' })
  delegate(bench, DATA, 2)
  const other = { rd: pa(DATA), rtt_base: pa(DATA + 1), rtt_level_start: 0, rtt_num_start: 1, num_bps: 1, num_wps: 1 }
  must(bench, 'RMI_REALM_CREATE', { ...other, s2sz: 40 })
  call('REC', { rd: pa(DATA) })
  assert.equal(
    must(bench, 'RMI_RTT_SET_RIPAS', { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 2) }).out_top,
    ipa(PAGE + 2),
  )
  call('INPUT', {})
  must(bench, 'RMI_RTT_SET_RIPAS', { rec: pa(REC), base: ipa(PAGE + 2), top: ipa(PAGE + 4) })
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).x1, ipa(PAGE + 4))
  call('REC', {})
  must(bench, 'IRQ', { rec: pa(REC) })
  call('INPUT', {})
  must(bench, 'RSI_IPA_STATE_SET', {
    rec: pa(REC),
    base: ipa(PAGE + MIB2 + 1),
    top: ipa(PAGE + MIB2 + 2),
    ripas: 'EMPTY',
    flags: 1,
  })
  const inside = { base: ipa(PAGE + MIB2 + 1), top: ipa(PAGE + MIB2 + 2) }
  call('RTT,2', inside)
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(PAGE + MIB2), level: 3 })
  must(bench, 'RMI_RTT_SET_RIPAS', { rec: pa(REC), ...inside })
})

test('5: SET_RIPAS does one table a call', () => {
  const bench = createActive()
  addTables(bench, PAGE)
  const range = { rec: pa(REC), base: ipa(PAGE + 510), top: ipa(PAGE + MIB2 * 2) }
  must(bench, 'RSI_IPA_STATE_SET', { ...range, ripas: 'RAM', flags: 0 })
  assert.equal(must(bench, 'RMI_RTT_SET_RIPAS', range).out_top, ipa(PAGE + MIB2))
  assert.equal(must(bench, 'RMI_RTT_SET_RIPAS', { ...range, base: ipa(PAGE + MIB2) }).out_top, ipa(PAGE + MIB2 * 2))
})

test('5: MAP_UNPROTECTED checks level, RD, descriptor, IPA, walk, entry', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR), level: 3, desc: '0x2000d8' })
  for (const level of [-1, 0, 4]) refused('INPUT', { level })
  refused('INPUT', { rd: pa(SPARE) })
  for (const desc of [
    '0x2000d0',
    '0x2001d8',
    '0x2002d8',
    '0x2008d8',
    '0x2000d9',
    '0x2000da',
    '0x20000002000d8',
    '0x10000002000d8',
  ])
    refused('INPUT', { desc })
  refused('INPUT', { level: 2, desc: '0x1000d8', ipa: ipa(PAR + MIB2) })
  for (const at of [ipa(PAGE), ipa(END), ipa(PAR + 1).replace(/0$/, '8')]) refused('INPUT', { ipa: at })
  refused('INPUT', { level: 2, ipa: ipa(PAR + 1) })
  refused('RTT,2', { ipa: ipa(PAR + MIB2) })
  refused('RTT,2', { level: 2 })
  must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR), level: 3, desc: '0xfffffffff0d8' })
  assert.equal(must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(PAR), level: 3 }).desc, '0xfffffffff0d8')
  refused('RTT,3', {})
})

test('5: a level above the root maps nothing', () => {
  const bench = createRealm({ s2sz: 33, level: 2, tables: 8 })
  const at = { ipa: '0x100000000', level: 1 }
  refuses(bench, 'INPUT', 'RMI_RTT_MAP_UNPROTECTED', { ...at, desc: '0xd8' })
  assert.equal(refuses(bench, 'INPUT', 'RMI_RTT_UNMAP_UNPROTECTED', at).top, '0x0')
})

test('5: with LPA2 a descriptor has address bits 51:50 in 9:8', () => {
  const bench = createRealm({ s2sz: 52, level: 0, tables: 16, fields: { flags: 1 } })
  const at = 2 ** 39
  addTables(bench, at)
  refuses(bench, 'INPUT', 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(at), level: 3, desc: '0x3fffffffffcd8' })
  for (const [page, desc] of ['0x30000400003d8', '0x3fffffffff3d8', '0x2000000000d8'].entries()) {
    must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(at + page), level: 3, desc })
    assert.equal(must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(at + page), level: 3 }).desc, desc)
  }
})

test('5: UNMAP_UNPROTECTED checks level, RD, IPA, walk, entry, and says where the next live one is', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(PAR), level: 3 })
  for (const level of [0, 4]) assert.equal(refused('INPUT', { level }).top, '0x0')
  refused('INPUT', { rd: pa(SPARE) })
  for (const at of [ipa(PAGE), ipa(END)]) assert.equal(refused('INPUT', { ipa: at }).top, '0x0')
  assert.equal(refused('RTT,3', {}).top, ipa(PAR + MIB2))
  assert.equal(refused('RTT,2', { ipa: ipa(PAR + MIB2) }).top, ipa(PAR + GIB))
  assert.equal(refused('RTT,2', { level: 2 }).top, ipa(PAR))
  for (const page of [4, 8]) must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR + page), level: 3, desc: '0xd8' })
  assert.equal(refused('RTT,3', {}).top, ipa(PAR + 4))
  assert.equal(must(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(PAR + 4), level: 3 }).top, ipa(PAR + 8))
  assert.equal(must(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(PAR + 8), level: 3 }).top, ipa(PAR + MIB2))
})

test('5: READ_ENTRY fails by INPUT alone; a walk that ends above is success', () => {
  const { bench } = prepared()
  const refused = refuser(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(PAGE), level: 3 })
  refused('INPUT', { rd: pa(SPARE) })
  for (const level of [-1, 4]) refused('INPUT', { level })
  refused('INPUT', { ipa: ipa(PAGE + 1), level: 2 })
  refused('INPUT', { ipa: ipa(END) })
  const read = (at: number, level: number) => {
    const { level: reached, state, desc, ripas } = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(at), level })
    return [reached, state, desc, ripas]
  }
  assert.deepEqual(read(PAGE + MIB2, 3), [2, 'UNASSIGNED', '0x0', 'EMPTY'])
  assert.deepEqual(read(PAGE, 2), [2, 'TABLE', pa(TABLES + 2), 'EMPTY'])
  assert.deepEqual(read(PAGE, 3), [3, 'UNASSIGNED', '0x0', 'EMPTY'])
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  assert.deepEqual(read(PAGE, 3), [3, 'ASSIGNED', pa(DATA), 'EMPTY'])
  must(bench, 'RMI_DATA_CREATE', { data: pa(DATA + 1), ipa: ipa(PAGE + 1), src: pa(SOURCE), flags: 0 })
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE + 1) })
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + 1), ipa: ipa(PAGE + 1) })
  assert.deepEqual(read(PAGE + 1, 3), [3, 'ASSIGNED', '0x0', 'DESTROYED'])
})

test('5, ACS: the numbers of the compliance suite, root at level 0, 40 bits', () => {
  const bench = createWithRec()
  const at = PAGE
  let next = addTables(bench, at, 1)
  const table = (level: number) => ({ ipa: ipa(at), level })
  refuses(bench, 'RTT,1', 'RMI_RTT_CREATE', { rtt: pa(next), ...table(3) })
  refuses(bench, 'RTT,1', 'RMI_RTT_DESTROY', table(3))
  next = addTables(bench, at, 2, next)
  delegate(bench, DATA, 512)
  refuses(bench, 'RTT,2', 'RMI_DATA_CREATE', { data: pa(DATA), ipa: ipa(at), src: pa(SOURCE), flags: 1 })
  refuses(bench, 'RTT,1', 'RMI_RTT_CREATE', { rtt: pa(next), ...table(2) })
  refuses(bench, 'RTT,2', 'RMI_RTT_DESTROY', table(3))
  refuses(bench, 'RTT,2', 'RMI_RTT_FOLD', table(3))
  refuses(bench, 'RTT,2', 'RMI_RTT_INIT_RIPAS', { base: ipa(at + 1), top: ipa(at + 2) })
  refuses(bench, 'INPUT', 'RMI_RTT_INIT_RIPAS', { base: ipa(at + 1), top: '0x80001800' })
  next = addTables(bench, at, 3, next)
  for (let page = 0; page < 512; page++)
    must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + page), ipa: ipa(at + page) })
  refuses(bench, 'RTT,3', 'RMI_RTT_DESTROY', table(3))
  refuses(bench, 'RTT,3', 'RMI_RTT_INIT_RIPAS', { base: ipa(at), top: ipa(at + 1) })
  must(bench, 'RMI_RTT_FOLD', table(3))
  refuses(bench, 'RTT,2', 'RMI_RTT_DESTROY', table(3))
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ...table(3) })
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(at + 511) })
  refuses(bench, 'RTT,3', 'RMI_RTT_FOLD', table(3))
})
