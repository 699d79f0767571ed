import assert from 'node:assert/strict'
import { test } from 'node:test'
import {
  addTables,
  ask,
  type Bench,
  createActive,
  createWithRec,
  DATA,
  delegate,
  entry,
  ipa,
  must,
  pa,
  REC,
  realmOf,
  refuses,
  SOURCE,
  setRipas,
  short,
  TABLES,
} from './rmm-bench.ts'

const PAGE = 0x80000
const STATES = ['U/E', 'U/R', 'U/D', 'A/E', 'A/R', 'A/D'] as const
type State = (typeof STATES)[number]
const NAMES: Readonly<Record<State, string>> = {
  'U/E': 'UNASSIGNED/EMPTY',
  'U/R': 'UNASSIGNED/RAM',
  'U/D': 'UNASSIGNED/DESTROYED',
  'A/E': 'ASSIGNED/EMPTY',
  'A/R': 'ASSIGNED/RAM',
  'A/D': 'ASSIGNED/DESTROYED',
}

const create = (bench: Bench, frame = DATA) =>
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(frame), ipa: ipa(PAGE) })
const destroy = (bench: Bench) => must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
const init = (bench: Bench) => must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })

/** Brings the entry at {@link PAGE} of a NEW Realm to a state. */
const REACH: Readonly<Record<State, (bench: Bench) => void>> = {
  'U/E': () => undefined,
  'U/R': init,
  'U/D': (bench) => {
    init(bench)
    create(bench)
    destroy(bench)
  },
  'A/E': (bench) => void create(bench, DATA + 2),
  'A/R': (bench) => {
    init(bench)
    create(bench, DATA + 2)
  },
  'A/D': (bench) => {
    init(bench)
    create(bench)
    destroy(bench)
    create(bench, DATA + 2)
  },
}

function benchIn(state: State, active: boolean): Bench {
  const bench = createWithRec()
  addTables(bench, PAGE)
  delegate(bench, DATA, 3)
  REACH[state](bench)
  if (active) must(bench, 'RMI_REALM_ACTIVATE')
  assert.equal(entry(bench, PAGE), NAMES[state])
  return bench
}

type Effect = { readonly to: State } | { readonly refused: string }
type Operation = (bench: Bench) => string

const OPERATIONS = {
  DATA_CREATE: (bench) =>
    short(ask(bench, 'RMI_DATA_CREATE', { data: pa(DATA + 1), ipa: ipa(PAGE), src: pa(SOURCE), flags: 0 })),
  DATA_CREATE_UNKNOWN: (bench) => short(ask(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA + 1), ipa: ipa(PAGE) })),
  DATA_DESTROY: (bench) => short(ask(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })),
  INIT_RIPAS: (bench) => short(ask(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })),
  'set RAM': (bench) => setting(bench, 'RAM', 0),
  'set EMPTY': (bench) => setting(bench, 'EMPTY', 0),
  'set RAM CHANGE_DESTROYED': (bench) => setting(bench, 'RAM', 1),
  'set EMPTY CHANGE_DESTROYED': (bench) => setting(bench, 'EMPTY', 1),
} satisfies Readonly<Record<string, Operation>>
type OperationName = keyof typeof OPERATIONS

function setting(bench: Bench, ripas: 'RAM' | 'EMPTY', flags: 0 | 1): string {
  const range = { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 1) }
  must(bench, 'RSI_IPA_STATE_SET', { ...range, ripas, flags })
  return short(ask(bench, 'RMI_RTT_SET_RIPAS', range))
}

const to = (state: State): Effect => ({ to: state })
const no: Effect = { refused: 'RTT,3' }

/** The table of 4.1, a row a state; INIT_RIPAS and DATA_CREATE in a NEW Realm, the rest in an ACTIVE one. */
const TABLE: Readonly<Record<State, readonly Effect[]>> = {
  'U/E': [to('A/R'), to('A/E'), no, to('U/R'), to('U/R'), to('U/E'), to('U/R'), to('U/E')],
  'U/R': [to('A/R'), to('A/R'), no, to('U/R'), to('U/R'), to('U/E'), to('U/R'), to('U/E')],
  'U/D': [to('A/R'), to('A/D'), no, no, no, no, to('U/R'), to('U/E')],
  'A/E': [no, no, to('U/E'), no, to('A/R'), to('A/E'), to('A/R'), to('A/E')],
  'A/R': [no, no, to('U/D'), no, to('A/R'), to('A/E'), to('A/R'), to('A/E')],
  'A/D': [no, no, to('U/D'), no, no, no, to('A/R'), to('A/E')],
}

const inNew = (operation: OperationName): boolean => operation === 'DATA_CREATE' || operation === 'INIT_RIPAS'

for (const state of STATES)
  for (const [column, operation] of (Object.keys(OPERATIONS) as OperationName[]).entries())
    test(`4.1: ${state} × ${operation}`, () => {
      const bench = benchIn(state, !inNew(operation))
      const effect = TABLE[state][column] ?? no
      const answer = OPERATIONS[operation](bench)
      assert.equal(answer, 'to' in effect ? 'SUCCESS' : effect.refused)
      assert.equal(entry(bench, PAGE), NAMES['to' in effect ? effect.to : state])
    })

test('4.1: destroying a page that is EMPTY taints nothing', () => {
  const bench = createActive()
  addTables(bench, PAGE)
  delegate(bench, DATA)
  create(bench)
  assert.equal(must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) }).pa, pa(DATA))
  assert.equal(entry(bench, PAGE), NAMES['U/E'])
  setRipas(bench, PAGE, 1, 'RAM', 0)
  assert.equal(entry(bench, PAGE), NAMES['U/R'])
})

test('4.1: after EMPTY the page is still the Realm’s, and RAM again gives the old bytes back', () => {
  const bench = benchIn('A/R', true)
  const access = { rec: pa(REC), ipa: ipa(PAGE) }
  must(bench, 'guest access', { ...access, kind: 'write', data: 'old' })
  setRipas(bench, PAGE, 1, 'EMPTY', 0)
  assert.equal(ask(bench, 'guest access', { ...access, kind: 'read' }).fault, 'SEA')
  refuses(bench, 'INPUT', 'RMI_GRANULE_UNDELEGATE', { addr: pa(DATA + 2) })
  setRipas(bench, PAGE, 1, 'RAM', 0)
  assert.equal(must(bench, 'guest access', { ...access, kind: 'read' }).data, 'old')
})

test('4.1: a page given to a DESTROYED IPA stays inaccessible until the guest asks', () => {
  const bench = benchIn('A/D', true)
  const read = { rec: pa(REC), ipa: ipa(PAGE), kind: 'read' }
  assert.equal(ask(bench, 'guest access', read).exit_reason, 'SYNC')
  assert.equal(ask(bench, 'guest access', read).exit_reason, 'SYNC')
  setRipas(bench, PAGE, 1, 'RAM', 1)
  assert.equal(ask(bench, 'guest access', read).outcome, 'ok')
})

const BLOCK = 0x80000
const GIB = 512 ** 2

test('4.2: a new table’s entries say what the entry above said', () => {
  for (const state of ['EMPTY', 'RAM', 'DESTROYED']) {
    const bench = createActive({ s2sz: 33, level: 2, tables: 8 })
    if (state === 'RAM') setRipas(bench, BLOCK, 512, 'RAM')
    if (state === 'DESTROYED') {
      must(bench, 'RMI_RTT_CREATE', { rtt: pa(TABLES), ipa: ipa(BLOCK), level: 3 })
      must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(BLOCK), level: 3 })
    }
    assert.equal(entry(bench, BLOCK, 2), `UNASSIGNED/${state}`)
    must(bench, 'RMI_RTT_CREATE', { rtt: pa(TABLES), ipa: ipa(BLOCK), level: 3 })
    assert.equal(entry(bench, BLOCK, 2), 'TABLE/EMPTY')
    for (const page of [0, 1, 511]) assert.equal(entry(bench, BLOCK + page), `UNASSIGNED/${state}`)
    must(bench, 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 3 })
    assert.equal(entry(bench, BLOCK, 2), `UNASSIGNED/${state}`)
  }
})

/** An active Realm whose 2 MiB at {@link BLOCK} are mapped from DATA on, with the granules of its level 3 table left free. */
function mapped(first = DATA, count = 512): { readonly bench: Bench; readonly next: number } {
  const bench = createActive({ s2sz: 33, level: 2, tables: 8 })
  setRipas(bench, BLOCK, 512, 'RAM')
  const next = addTables(bench, BLOCK)
  delegate(bench, first, count)
  for (let page = 0; page < count; page++)
    must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(first + page), ipa: ipa(BLOCK + page) })
  return { bench, next }
}

test('4.2: fold and unfold of a block change neither contents nor addresses', () => {
  const { bench, next } = mapped()
  const access = { rec: pa(REC), ipa: ipa(BLOCK + 7) }
  must(bench, 'guest access', { ...access, kind: 'write', data: 'kept' })
  assert.equal(must(bench, 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 3 }).rtt, pa(next - 1))
  const block = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(BLOCK), level: 2 })
  assert.deepEqual([block.state, block.ripas, block.desc], ['ASSIGNED', 'RAM', pa(DATA)])
  assert.equal(must(bench, 'guest access', { ...access, kind: 'read' }).data, 'kept')
  setRipas(bench, BLOCK, 512, 'EMPTY')
  assert.equal(entry(bench, BLOCK, 2), 'ASSIGNED/EMPTY')
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(BLOCK), level: 3 })
  const page = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(BLOCK + 7), level: 3 })
  assert.deepEqual([page.state, page.ripas, page.desc], ['ASSIGNED', 'EMPTY', pa(DATA + 7)])
})

test('4.2: a table is not homogeneous with a mixture, another RIPAS, a gap or a first page askew', () => {
  const full = mapped().bench
  setRipas(full, BLOCK + 3, 1, 'EMPTY')
  refuses(full, 'RTT,3', 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 3 })
  setRipas(full, BLOCK + 3, 1, 'RAM')
  must(full, 'RMI_DATA_DESTROY', { ipa: ipa(BLOCK + 511) })
  refuses(full, 'RTT,3', 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 3 })
  refuses(mapped(DATA + 1).bench, 'RTT,3', 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 3 })
  refuses(mapped(DATA, 511).bench, 'RTT,3', 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 3 })
})

test('4.2: a TABLE among the entries keeps a table from folding', () => {
  const bench = createActive()
  addTables(bench, BLOCK)
  refuses(bench, 'RTT,2', 'RMI_RTT_FOLD', { ipa: ipa(BLOCK), level: 2 })
})

test('4.2: what is mapped doesn’t fold into level 0, what isn’t does', () => {
  const bench = createActive()
  const next = addTables(bench, 2 ** 27, 1)
  for (let block = 0; block < 512; block++)
    must(bench, 'RMI_RTT_MAP_UNPROTECTED', {
      ipa: ipa(2 ** 27 + block * GIB),
      level: 1,
      desc: `0x${(BigInt(block) * 0x40000000n + 0xd8n).toString(16)}`,
    })
  refuses(bench, 'RTT,0', 'RMI_RTT_FOLD', { ipa: ipa(2 ** 27), level: 1 })
  for (let block = 0; block < 512; block++)
    must(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(2 ** 27 + block * GIB), level: 1 })
  assert.equal(must(bench, 'RMI_RTT_FOLD', { ipa: ipa(2 ** 27), level: 1 }).rtt, pa(next - 1))
})

test('4.2: host memory folds where it is consecutive, aligned and of one kind', () => {
  const bench = createActive({ s2sz: 33, level: 2, tables: 8 })
  const { unprotectedPage } = realmOf(bench).rtt
  addTables(bench, unprotectedPage)
  const map = (page: number, desc: bigint) =>
    must(bench, 'RMI_RTT_MAP_UNPROTECTED', {
      ipa: ipa(unprotectedPage + page),
      level: 3,
      desc: `0x${desc.toString(16)}`,
    })
  const at = 0x4000000000n
  for (let page = 0; page < 511; page++) map(page, at + BigInt(page) * 4096n + 0xd8n)
  const fold = { ipa: ipa(unprotectedPage), level: 3 }
  refuses(bench, 'RTT,3', 'RMI_RTT_FOLD', fold)
  map(511, at + 511n * 4096n + 0x58n)
  refuses(bench, 'RTT,3', 'RMI_RTT_FOLD', fold)
  must(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(unprotectedPage + 511), level: 3 })
  map(511, at + 511n * 4096n + 0xd8n)
  must(bench, 'RMI_RTT_FOLD', fold)
  const block = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(unprotectedPage), level: 2 })
  assert.deepEqual([block.level, block.state, block.desc], [2, 'ASSIGNED', '0x40000000d8'])
})

test('4.2: RTT_DESTROY leaves DESTROYED whatever was there, and UNASSIGNED_NS in the upper half', () => {
  const bench = createActive({ s2sz: 33, level: 2, tables: 8 })
  setRipas(bench, BLOCK, 512, 'RAM')
  let next = addTables(bench, BLOCK)
  next = addTables(bench, BLOCK + 512, 3, next)
  const { unprotectedPage } = realmOf(bench).rtt
  addTables(bench, unprotectedPage, 3, next)
  must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(unprotectedPage + 1), level: 3, desc: '0xd8' })
  for (const page of [BLOCK, BLOCK + 512, unprotectedPage]) must(bench, 'RMI_RTT_DESTROY', { ipa: ipa(page), level: 3 })
  assert.equal(entry(bench, BLOCK, 2), 'UNASSIGNED/DESTROYED')
  assert.equal(entry(bench, BLOCK + 512, 2), 'UNASSIGNED/DESTROYED')
  assert.equal(entry(bench, unprotectedPage, 2), 'UNASSIGNED/EMPTY')
  must(bench, 'RMI_RTT_CREATE', { rtt: pa(next), ipa: ipa(unprotectedPage), level: 3 })
  assert.equal(entry(bench, unprotectedPage + 1), 'UNASSIGNED/EMPTY')
})
