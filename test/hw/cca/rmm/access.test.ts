import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  type Args,
  addTables,
  ask,
  type Bench,
  createWithRec,
  DATA,
  delegate,
  entry,
  FRAMES,
  ipa,
  must,
  pa,
  REC,
  SOURCE,
  setRipas,
} from './rmm-bench.ts'

const PAGE = 0x80000
const PAR = 2 ** 27
const END = 2 ** 28
const GIB = 512 ** 2
const AT = { 'A/R': PAGE, 'U/R': PAGE + 1, 'U/E': PAGE + 2, 'A/E': PAGE + 3, 'U/D': PAGE + 4, 'A/D': PAGE + 5 } as const

/** An active Realm with one page of each state, and host memory at PAR (both ways), PAR+1 (read only), PAR+2 (none). */
function populated(): Bench {
  const bench = createWithRec()
  addTables(bench, PAR, 3, addTables(bench, PAGE))
  delegate(bench, DATA, 5)
  const give = (page: number, frame: number) =>
    must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(frame), ipa: ipa(page) })
  for (const page of [AT['A/R'], AT['U/R'], AT['U/D'], AT['A/D']])
    must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(page), top: ipa(page + 1) })
  for (const page of [AT['U/D'], AT['A/D']]) {
    give(page, DATA)
    must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(page) })
  }
  give(AT['A/R'], DATA)
  give(AT['A/E'], DATA + 1)
  give(AT['A/D'], DATA + 2)
  for (const [index, desc] of ['0x2000d8', '0x200058', '0x200018'].entries())
    must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR + index), level: 3, desc })
  must(bench, 'RMI_REALM_ACTIVATE')
  return bench
}

const NAMES = [
  'ASSIGNED/RAM',
  'UNASSIGNED/RAM',
  'UNASSIGNED/EMPTY',
  'ASSIGNED/EMPTY',
  'UNASSIGNED/DESTROYED',
  'ASSIGNED/DESTROYED',
]

test('the pages of these tests are what they are said to be', () => {
  const bench = populated()
  assert.deepEqual(
    Object.values(AT).map((page) => entry(bench, page)),
    NAMES,
  )
})

type Kind = 'read' | 'write' | 'execute'
const access = (bench: Bench, page: number, kind: Kind, more: Args = {}) =>
  ask(bench, 'guest access', { rec: pa(REC), ipa: ipa(page), kind, ...more })

/** `ok`, the fault's name, or `EC/FSC` of an exit with `e` where it may be emulated. */
function seen(bench: Bench, page: number, kind: Kind, more: Args = {}): unknown {
  const answer = access(bench, page, kind, more)
  if (answer.outcome !== 'exit') return answer.fault ?? answer.outcome
  return `${answer.ec}/${answer.fsc}${answer.emulatable ? 'e' : ''}`
}

const DATA_ABORT = '0x24/0x7'
const FETCH_ABORT = '0x20/0x7'

/** The table of 6: page, then what a read, a write and a fetch do. */
const TABLE: readonly (readonly [name: string, page: number, read: string, write: string, execute: string])[] = [
  ['A/R', AT['A/R'], 'ok', 'ok', 'ok'],
  ['U/R', AT['U/R'], DATA_ABORT, DATA_ABORT, FETCH_ABORT],
  ['U/E', AT['U/E'], 'SEA', 'SEA', 'SEA'],
  ['A/E', AT['A/E'], 'SEA', 'SEA', 'SEA'],
  ['U/D', AT['U/D'], DATA_ABORT, DATA_ABORT, FETCH_ABORT],
  ['A/D', AT['A/D'], DATA_ABORT, DATA_ABORT, FETCH_ABORT],
  ['ASSIGNED_NS', PAR, 'ok', 'ok', 'SEA'],
  ['ASSIGNED_NS read only', PAR + 1, 'ok', '0x24/0xf', 'SEA'],
  ['ASSIGNED_NS neither', PAR + 2, '0x24/0xf', '0x24/0xf', 'SEA'],
  ['UNASSIGNED_NS', PAR + 3, '0x24/0x7e', '0x24/0x7e', 'SEA'],
  ['UNASSIGNED_NS without tables', PAR + GIB, '0x24/0x5e', '0x24/0x5e', 'SEA'],
  ['beyond the IPA space', END, 'ADDRESS_SIZE', 'ADDRESS_SIZE', 'ADDRESS_SIZE'],
]

for (const [name, page, ...expected] of TABLE)
  test(`6: ${name}`, () => {
    const bench = populated()
    const kinds = ['read', 'write', 'execute'] as const
    assert.deepEqual(
      kinds.map((kind) => seen(bench, page, kind)),
      expected,
    )
    assert.deepEqual(
      kinds.map((kind) => seen(bench, page, kind)),
      expected,
    )
  })

test('6: an exit tells no more than where a protected page is', () => {
  const answer = access(populated(), AT['U/D'], 'write', { data: 'secret', ipa: '0x80004abc' })
  const { esr, hpfar, far, gprs, emulatable } = answer
  assert.deepEqual([esr, hpfar, far, gprs, emulatable], ['0x90000007', '0x800040', '0x0', ['0x0'], false])
})

test('6: an emulatable exit tells the offset, the size and what is written', () => {
  const bench = populated()
  const write = access(bench, PAR, 'write', { data: 'AB', ipa: `0x${(PAR * 4096 + 0x3008).toString(16)}` })
  assert.deepEqual([write.far, write.gprs, write.hpfar], ['0x8', ['0x4241'], '0x80000030'])
  assert.equal(write.esr, `0x${(0x90000007 + (1 << 24) + (3 << 22) + (1 << 15) + (1 << 6)).toString(16)}`)
  const read = access(bench, PAR + 3, 'read', { data: 'AB' })
  assert.deepEqual([read.gprs, Number(read.esr) & (1 << 6)], [['0x0'], 0])
})

test('6: without ISV, and for lack of permission, nothing is emulated', () => {
  const bench = populated()
  assert.equal(seen(bench, PAR + 3, 'read', { isv: false }), DATA_ABORT)
  assert.equal(access(bench, PAR + 1, 'write').emulatable, false)
})

test('2, 6: host memory that was delegated under its mapping is an external abort', () => {
  const bench = populated()
  must(bench, 'guest access', { rec: pa(REC), ipa: ipa(PAR), kind: 'write', data: 'shared' })
  assert.equal(must(bench, 'host read', { addr: pa(SOURCE) }).data, 'shared')
  delegate(bench, SOURCE)
  assert.equal(seen(bench, PAR, 'read'), 'GPF')
  must(bench, 'RMI_GRANULE_UNDELEGATE', { addr: pa(SOURCE) })
  assert.equal(access(bench, PAR, 'read').data, '')
})

test('5, 6: what is mapped where no memory is can’t be reached', () => {
  const bench = populated()
  const desc = `0x${(BigInt(FRAMES) * 4096n + 0xd8n).toString(16)}`
  must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR + 9), level: 3, desc })
  assert.equal(seen(bench, PAR + 9, 'read'), 'SEA')
})

test('4: both aliases may be live at once, on different granules', () => {
  const bench = populated()
  must(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(PAR), level: 3 })
  addTables(bench, PAR + PAGE, 3, 0x90)
  must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR + PAGE), level: 3, desc: '0x2000d8' })
  must(bench, 'guest access', { rec: pa(REC), ipa: ipa(PAGE), kind: 'write', data: 'private' })
  must(bench, 'guest access', { rec: pa(REC), ipa: ipa(PAR + PAGE), kind: 'write', data: 'shared' })
  assert.equal(access(bench, PAGE, 'read').data, 'private')
  assert.equal(must(bench, 'host read', { addr: pa(SOURCE) }).data, 'shared')
})

test('7: what KVM does to a hole punched without consent lets the guest spin until it asks', () => {
  const bench = populated()
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(AT['A/R']) })
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + 3), ipa: ipa(AT['A/R']) })
  for (let round = 0; round < 3; round++) assert.equal(seen(bench, AT['A/R'], 'read'), DATA_ABORT)
  assert.equal(setRipas(bench, AT['A/R'], 1, 'RAM', 0).x1, ipa(AT['A/R']))
  assert.equal(seen(bench, AT['A/R'], 'read'), DATA_ABORT)
  setRipas(bench, AT['A/R'], 1, 'RAM', 1)
  assert.equal(seen(bench, AT['A/R'], 'read'), 'ok')
})
