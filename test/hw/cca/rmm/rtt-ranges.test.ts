import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { areAll, GRANULE, setGranules } from '../../../../src/hw/cca/rmm/granules.ts'
import { frameAt, isProtected, stateAt, walkLevel } from '../../../../src/hw/cca/rmm/rtt.ts'
import {
  addTables,
  delegateRange,
  destroyPage,
  destroyRange,
  mapData,
  mapHostRange,
  setRipasRange,
  undelegateRange,
  unmapHostRange,
} from '../../../../src/hw/cca/rmm/rtt-ranges.ts'
import { isData, RIPAS } from '../../../../src/hw/cca/rmm/states.ts'
import * as PageMap from '../../../../src/hw/shared/page-map.ts'
import { type Bench, createActive, DATA, realmOf, TABLES } from './rmm-bench.ts'

const PAGE = 0x80000
const PAR = 2 ** 27
const PAGES = 1536

const ops = ['give', 'take', 'RAM', 'EMPTY', 'DESTROYED', 'share', 'unshare'] as const
const steps = fc.array(
  fc.record({
    op: fc.constantFrom(...ops),
    page: fc.oneof(fc.constantFrom(0, 1, 511, 512, 1024), fc.integer({ min: 0, max: PAGES - 1 })),
    count: fc.oneof(fc.constantFrom(1, 2, 512, 600), fc.integer({ min: 1, max: PAGES })),
    shift: fc.constantFrom(0, 0, 0, 3),
  }),
  { minLength: 1, maxLength: 12 },
)

/** A Realm with level 3 tables for {@link PAGES} pages in both halves. */
function tabled(): Bench {
  const bench = createActive()
  let granule = TABLES
  for (const page of [PAGE, PAR + PAGE])
    addTables(bench.data.granules, realmOf(bench), page, page + PAGES, 3, () => granule++)
  return bench
}

type Step = { readonly op: (typeof ops)[number]; readonly page: number; readonly count: number; readonly shift: number }

/** One step of `count` pages at once, as KVM does it: what is there already stays. */
function apply(bench: Bench, { op, page, count, shift }: Step): void {
  const realm = realmOf(bench)
  const { rtt } = realm
  const at = PAGE + page
  const end = Math.min(at + count, PAGE + PAGES)
  const pages = end - at
  switch (op) {
    case 'give':
      PageMap.forEachRun(rtt.entries, at, end, (from, to, entry) => {
        const frame = DATA + ((from - PAGE + shift) % (2 * PAGES))
        const isFree = !isData(entry) && areAll(bench.data.granules, frame, to - from, GRANULE.UNDELEGATED)
        if (!isFree) return
        delegateRange(bench.host, frame, to - from)
        mapData(bench.data.granules, realm, from, frame, to - from)
      })
      break
    case 'take':
      PageMap.forEachRun(rtt.frames, at, end, (from, to, value) => {
        if (value === 0) return
        const frame = frameAt(rtt, from)
        assert.equal(destroyRange(bench.host, realm, from, to - from), to - from)
        undelegateRange(bench.host, frame, to - from)
      })
      break
    case 'share':
      mapHostRange(rtt, PAR + at, DATA + shift, pages, shift === 0 ? 0xd8 : 0x58)
      break
    case 'unshare':
      unmapHostRange(rtt, PAR + at, pages)
      break
    default:
      setRipasRange(rtt, at, pages, RIPAS[op])
  }
}

/** The same page by page: a run that `give` would refuse as a whole is refused as a whole. */
function applyPages(bench: Bench, step: Step, whole: Bench): void {
  const count = Math.min(step.count, PAGES - step.page)
  const realm = realmOf(bench)
  for (let index = 0; index < count; index++) {
    const page = PAGE + step.page + index
    const before = stateAt(realmOf(bench).rtt, page)
    if (step.op === 'give') {
      const frame = frameAt(realmOf(whole).rtt, page)
      if (isData(before) || frame < 0) continue
      delegateRange(bench.host, frame, 1)
      mapData(bench.data.granules, realm, page, frame, 1)
    } else if (step.op === 'take') {
      if (!isData(before)) continue
      undelegateRange(bench.host, destroyPage(bench.host, realm, page), 1)
    } else if (step.op === 'share')
      mapHostRange(realm.rtt, PAR + page, DATA + step.shift + index, 1, step.shift === 0 ? 0xd8 : 0x58)
    else apply(bench, { ...step, page: step.page + index, count: 1 })
  }
}

test('4.1: a run changes as its pages do one by one', () => {
  fc.assert(
    fc.property(steps, (given) => {
      const [whole, pages] = [tabled(), tabled()]
      for (const step of given) {
        apply(whole, step)
        applyPages(pages, step, whole)
      }
      const [one, other] = [realmOf(whole).rtt, realmOf(pages).rtt]
      assert.ok(PageMap.equals(one.entries, other.entries), 'entries')
      assert.ok(PageMap.equals(one.frames, other.frames), 'frames')
      assert.ok(PageMap.equals(whole.data.granules.words, pages.data.granules.words), 'granules')
    }),
    { numRuns: 150 },
  )
})

test('2: ranges wipe what becomes the Realm world’s, and what comes back', () => {
  const bench = tabled()
  const realm = realmOf(bench)
  const dirty = () => bench.machine.write(DATA + 700, new Uint8Array(4096).fill(1))
  dirty()
  delegateRange(bench.host, DATA, 1024)
  assert.equal(bench.machine.read(DATA + 700), undefined)
  mapData(bench.data.granules, realm, PAGE, DATA, 1024)
  dirty()
  assert.equal(destroyRange(bench.host, realm, PAGE, PAGES), 1024)
  assert.equal(bench.machine.read(DATA + 700), undefined)
  assert.ok(areAll(bench.data.granules, DATA, 1024, GRANULE.DELEGATED))
})

test('5: tables are added where they are missing, until there is no granule', () => {
  const bench = createActive()
  const realm = realmOf(bench)
  let left = 4
  const take = () => (left > 0 ? TABLES + --left : -1)
  assert.equal(addTables(bench.data.granules, realm, PAGE + 5, PAGE + 1024, 3, take), PAGE + 1024)
  assert.equal(left, 0)
  assert.equal(addTables(bench.data.granules, realm, PAGE, PAGE + 1024, 3, take), PAGE + 1024)
  assert.equal(addTables(bench.data.granules, realm, PAGE + 100, PAGE + 1025, 3, take), PAGE + 1024)
  assert.deepEqual([walkLevel(realm.rtt, PAGE + 1023, 3), walkLevel(realm.rtt, PAGE + 1024, 3)], [3, 2])
})

test('5: unprotected pages map any 48-bit address, page by page and as a run', () => {
  const bench = tabled()
  const { rtt } = realmOf(bench)
  const far = 2 ** 36 - PAGES
  mapHostRange(rtt, PAR + PAGE, far, PAGES, 0xd8)
  for (const page of [0, 1, 511, 512, PAGES - 1]) assert.equal(frameAt(rtt, PAR + PAGE + page), far + page)
  assert.equal(frameAt(rtt, PAR + PAGE + PAGES), -1)
  assert.ok(!isProtected(rtt, PAR + PAGE))
})

test('no structure costs per page: a gibibyte of pages is a few values', () => {
  const bench = createActive()
  const realm = realmOf(bench)
  const pages = 2 ** 18
  setGranules(bench.data.granules, DATA, pages, GRANULE.DELEGATED, 0)
  mapData(bench.data.granules, realm, DATA, DATA, pages)
  const [region] = realm.rtt.entries.regions
  assert.equal(region?.children.filter((child) => child !== null).length, 0)
  assert.equal(stateAt(realm.rtt, DATA + pages - 1), stateAt(realm.rtt, DATA))
})
