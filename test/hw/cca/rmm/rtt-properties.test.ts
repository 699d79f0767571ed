import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deserialize, serialize } from 'node:v8'
import fc from 'fast-check'
import { GRANULE, granuleName, granuleState } from '../../../../src/hw/cca/rmm/granules.ts'
import { NaiveRealm, type Said } from './naive-realm.ts'
import {
  ask,
  type Bench,
  createWithRec,
  delegate,
  ipa,
  must,
  pa,
  REC,
  type Said as RealSaid,
  realmOf,
  SOURCE,
  short,
} from './rmm-bench.ts'

/** Four blocks of 2 MiB in each half, on as many frames, aligned; then granules for tables, as many as are needed. */
const BLOCKS = 4
const PAGES = BLOCKS * 512
const FRAME = 0x2000
const TABLE_FRAMES = 24
const FRAMES_USED = FRAME + PAGES + TABLE_FRAMES
const PAGE = 0x80000
const RUNS = 150

const GEOMETRIES = [
  { s2sz: 33, level: 2, tables: 8 },
  { s2sz: 39, level: 1, tables: 1 },
  { s2sz: 40, level: 0, tables: 1 },
] as const
type Geometry = (typeof GEOMETRIES)[number]

type Step = {
  readonly op: string
  /** Of the first block; in the upper half where `shared`. */
  readonly page: number
  readonly shared: boolean
  readonly level: number
  readonly frame: number
  readonly count: number
  readonly ripas: 'EMPTY' | 'RAM'
  readonly flag: 0 | 1
}

const OPS = [
  'delegate',
  'undelegate',
  'create',
  'unknown',
  'destroy',
  'rttCreate',
  'rttDestroy',
  'fold',
  'init',
  'set',
  'setAgain',
  'map',
  'unmap',
  'fill',
  'activate',
  'read',
] as const

/** What happens to one place in turn. */
const LIVES: readonly (readonly string[])[] = [
  ['tables', 'delegate', 'unknown', 'read', 'destroy', 'unknown'],
  ['tables', 'init', 'delegate', 'create', 'destroy', 'unknown', 'activate', 'set'],
  ['tables', 'activate', 'set', 'delegate', 'unknown', 'set', 'destroy', 'undelegate'],
  ['tables', 'fill', 'fold', 'destroy', 'set', 'rttCreate', 'destroy'],
  ['tables', 'init', 'fold', 'init', 'rttCreate'],
  ['tables', 'rttDestroy', 'set', 'rttCreate', 'unknown'],
  ['init', 'tables', 'init', 'activate', 'set', 'setAgain'],
  ['tables', 'map', 'unmap', 'map', 'rttDestroy', 'tables', 'map'],
  ['tables', 'mapAll', 'fold', 'unmap', 'map', 'rttCreate', 'unmap'],
]

const places = fc.oneof(
  { weight: 5, arbitrary: fc.constantFrom(0, 1, 511, 512, 513, 1024) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: PAGES - 1 }) },
)
const frames = fc.oneof(
  { weight: 3, arbitrary: fc.constant(-1) },
  { weight: 1, arbitrary: fc.integer({ min: 0, max: PAGES + TABLE_FRAMES - 1 }) },
)

const steps: fc.Arbitrary<Step[]> = fc
  .record({
    ops: fc.oneof(
      { weight: 3, arbitrary: fc.constantFrom(...LIVES) },
      { weight: 2, arbitrary: fc.constantFrom(...OPS).map((op): readonly string[] => [op]) },
    ),
    place: places,
    shared: fc.oneof({ weight: 3, arbitrary: fc.constant(false) }, { weight: 1, arbitrary: fc.constant(true) }),
    level: fc.constantFrom(3, 3, 3, 2, 2, 1, 0, 4),
    frame: frames,
    count: fc.constantFrom(1, 1, 2, 3, 511, 512, 513, 1100),
    ripas: fc.constantFrom('EMPTY', 'RAM', 'RAM'),
    flag: fc.constantFrom(0, 1),
  })
  .map(({ ops, place, shared, level, frame, ...rest }) =>
    ops.map((op) => {
      const sharedOp = op === 'map' || op === 'unmap' || op === 'mapAll'
      return {
        op,
        page: place,
        shared: sharedOp || (ops.some((one) => one.startsWith('map')) ? true : shared),
        level,
        frame: FRAME + (frame < 0 ? place : frame),
        ...rest,
      } as Step
    }),
  )

/** A real answer in the model's words. */
function shortened(answer: RealSaid): Said {
  const said: Record<string, number | string> = { status: short(answer) }
  for (const field of ['top', 'out_top', 'pa', 'rtt'] as const)
    if (answer[field] !== undefined) said[field] = Number(BigInt(String(answer[field])) / 4096n)
  return said as Said
}

type World = { readonly bench: Bench; readonly naive: NaiveRealm }
type Pair = readonly [real: unknown, model: unknown]

const alignedTo = (page: number, level: number): number => page - (page % 512 ** Math.max(0, 3 - level))

function apply({ bench, naive }: World, step: Step): Pair {
  const { op, level, frame, count, ripas, flag } = step
  const page = (step.shared ? naive.par : 0) + PAGE + step.page
  const run = (name: string, args: Readonly<Record<string, unknown>>): Said =>
    shortened(ask(bench, name, { rec: pa(REC), ...args }, 0))
  const call = (name: string, args: Readonly<Record<string, unknown>>): Said => shortened(ask(bench, name, args))
  const range = { base: ipa(page), top: ipa(page + count) }
  const table = { ipa: ipa(alignedTo(page, level - 1)), level }
  const tablePage = alignedTo(page, level - 1)
  const entryPage = alignedTo(page, level)
  switch (op) {
    case 'delegate':
      return [call('RMI_GRANULE_DELEGATE', { addr: pa(frame) }), naive.delegate(frame)]
    case 'undelegate':
      return [call('RMI_GRANULE_UNDELEGATE', { addr: pa(frame) }), naive.undelegate(frame)]
    case 'create': {
      const args = { data: pa(frame), ipa: ipa(page), src: pa(SOURCE), flags: flag }
      const content = flag === 1 ? new Uint8Array(4096) : undefined
      return [call('RMI_DATA_CREATE', args), naive.dataCreate(page, frame, content)]
    }
    case 'unknown':
      return [call('RMI_DATA_CREATE_UNKNOWN', { data: pa(frame), ipa: ipa(page) }), naive.createUnknown(page, frame)]
    case 'destroy':
      return [call('RMI_DATA_DESTROY', { ipa: ipa(page) }), naive.dataDestroy(page)]
    case 'rttCreate': {
      const granule = freeTable(bench, naive)
      return [call('RMI_RTT_CREATE', { ...table, rtt: pa(granule) }), naive.rttCreate(tablePage, level, granule)]
    }
    case 'rttDestroy':
      return [call('RMI_RTT_DESTROY', table), naive.rttDestroy(tablePage, level)]
    case 'fold':
      return [call('RMI_RTT_FOLD', table), naive.rttFold(tablePage, level)]
    case 'init':
      return [call('RMI_RTT_INIT_RIPAS', range), naive.initRipas(page, page + count)]
    case 'set': {
      if (naive.state !== 'ACTIVE' || page + count > naive.par) return [0, 0]
      must(bench, 'RSI_IPA_STATE_SET', { rec: pa(REC), ...range, ripas, flags: flag })
      naive.stateSet(page, page + count, ripas, flag === 1)
      return [run('RMI_RTT_SET_RIPAS', range), naive.setRipas(page, page + count)]
    }
    case 'setAgain': {
      const base = naive.request?.next ?? page
      const again = { base: ipa(base), top: ipa(base + count) }
      return [run('RMI_RTT_SET_RIPAS', again), naive.setRipas(base, base + count)]
    }
    case 'map':
      return mapHost({ bench, naive }, entryPage, level, alignedTo(frame, level), flag === 1 ? 0xd8 : 0x58)
    case 'unmap':
      return [call('RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(entryPage), level }), naive.unmapHost(entryPage, level)]
    case 'activate':
      naive.state = 'ACTIVE'
      return [ask(bench, 'RMI_REALM_ACTIVATE').status.startsWith('RMI_'), true]
    case 'tables':
      return tables({ bench, naive }, page)
    case 'fill':
      return fill({ bench, naive }, page - (page % 512))
    case 'mapAll':
      return all(512, (index) => {
        const first = page - (page % 512)
        return mapHost(
          { bench, naive },
          first + index,
          3,
          FRAME + ((step.page - (step.page % 512)) % PAGES) + index,
          0xd8,
        )
      })
    default:
      return readBoth({ bench, naive }, entryPage, level)
  }
}

function mapHost({ bench, naive }: World, page: number, level: number, frame: number, attributes: number): Pair {
  const desc = `0x${(frame * 4096 + attributes).toString(16)}`
  return [
    shortened(ask(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(page), level, desc })),
    naive.mapHost(page, level, frame, attributes),
  ]
}

function all(count: number, one: (index: number) => Pair): Pair {
  const pairs = Array.from({ length: count }, (_, index) => one(index))
  return [pairs.map(([real]) => real), pairs.map(([, model]) => model)]
}

/** A granule for a table, DELEGATED in both; the last one when none is free. */
function freeTable(bench: Bench, naive: NaiveRealm): number {
  for (let frame = FRAME + PAGES; frame < FRAMES_USED; frame++)
    if (naive.granules[frame] === '') {
      delegate(bench, frame)
      naive.delegate(frame)
      return frame
    } else if (naive.granules[frame] === 'DELEGATED') return frame
  return FRAMES_USED - 1
}

/** Every table down to level 3 entries at a page. */
function tables({ bench, naive }: World, page: number): Pair {
  const levels = [1, 2, 3].filter((level) => level > naive.startLevel)
  return all(levels.length, (index) => {
    const level = levels[index] ?? 3
    return apply({ bench, naive }, { ...IDLE, op: 'rttCreate', page: page - PAGE, level })
  })
}

const IDLE: Step = { op: '', page: 0, shared: false, level: 3, frame: FRAME, count: 1, ripas: 'RAM', flag: 0 }

/** 512 pages of a block from the frames of the same place, so that RTT_FOLD has something to fold. */
const fill = ({ bench, naive }: World, first: number): Pair =>
  all(512, (index) => {
    const frame = FRAME + ((first + index - PAGE) % PAGES)
    if (first + index >= naive.par) return [0, 0]
    if (naive.granules[frame] === '') {
      delegate(bench, frame)
      naive.delegate(frame)
    }
    return apply({ bench, naive }, { ...IDLE, op: 'unknown', page: first + index - PAGE, frame })
  })

function readBoth({ bench, naive }: World, page: number, level: number): Pair {
  if (level > 3 || level < naive.startLevel) return [0, 0]
  const { level: reached, state, ripas, desc } = must(bench, 'RMI_RTT_READ_ENTRY', { ipa: ipa(page), level })
  return [[reached, state, ripas, Number(desc)], naive.read(page, level)]
}

function accessBoth({ bench, naive }: World, page: number): Pair {
  return all(3, (index) => {
    const kind = (['read', 'write', 'execute'] as const)[index] ?? 'read'
    const answer = ask(bench, 'guest access', { rec: pa(REC), ipa: ipa(page), kind })
    const exit = `${answer.ec}/${answer.fsc}${answer.emulatable === true ? 'e' : ''}`
    return [answer.outcome === 'exit' ? exit : (answer.fault ?? answer.outcome), naive.access(page, kind)]
  })
}

function compare(world: World): void {
  const { bench, naive } = world
  for (let frame = FRAME; frame < FRAMES_USED; frame++) {
    const state = granuleState(bench.data.granules, frame)
    assert.equal(state === GRANULE.UNDELEGATED ? '' : granuleName(state), naive.granules[frame], `granule ${frame}`)
  }
  assert.deepEqual(realmOf(bench).rim, naive.rim)
  const edges = [0, 1, 2, 510, 511, 512, 513, 1023, 1024, 1025, 1536, 2047]
  for (const half of [0, naive.par])
    for (const edge of edges) {
      const page = half + PAGE + edge
      for (let level = naive.startLevel; level <= 3; level++) {
        const [real, model] = readBoth(world, alignedTo(page, level), level)
        assert.deepEqual(real, model, `entry of ${page} at ${level}`)
      }
      if (naive.state !== 'ACTIVE') continue
      const [real, model] = accessBoth(world, page)
      assert.deepEqual(real, model, `access to ${page}`)
    }
}

function newWorld({ s2sz, level, tables: count }: Geometry): World {
  const bench = createWithRec({ s2sz, level, tables: count })
  return { bench, naive: new NaiveRealm(s2sz, level, count, FRAMES_USED, realmOf(bench).rim) }
}

for (const geometry of GEOMETRIES)
  test(`4, 5, 6: random calls answer as a tree of objects does, ${geometry.s2sz} bits from level ${geometry.level}`, () => {
    let refused = 0
    let done = 0
    fc.assert(
      fc.property(fc.array(steps, { minLength: 3, maxLength: 10 }), (lives) => {
        const world = newWorld(geometry)
        for (const step of lives.flat()) {
          const [real, model] = apply(world, step)
          assert.deepEqual(real, model, JSON.stringify(step))
          if ((model as Said).status === 'SUCCESS') done++
          else refused++
        }
        compare(world)
      }),
      { numRuns: RUNS },
    )
    assert.ok(done > 300 && refused > 300, `${done} done, ${refused} refused`)
  })

test('a copy of a Realm’s tables is a Realm’s tables', () => {
  fc.assert(
    fc.property(fc.array(steps, { minLength: 3, maxLength: 10 }), (lives) => {
      const world = newWorld(GEOMETRIES[2])
      for (const step of lives.flat()) apply(world, step)
      const { data } = world.bench
      const copy = deserialize(serialize(data)) as typeof data
      data.realms.clear()
      for (const [rd, realm] of copy.realms) data.realms.set(rd, realm)
      compare(world)
    }),
    { numRuns: 30 },
  )
})
