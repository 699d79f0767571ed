import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { StoreDatabase } from '../../src/store/database.ts'
import { group, rowsOf, temporaryDirectory, vmRow } from './support.ts'

const PAGES = 24
type Value = 'a' | 'b' | null

/** A window over a stretch of pages, with the runs that give each of its pages the value named. */
const windowArbitrary = fc
  .tuple(
    fc.constantFrom('vm-1', 'vm-2'),
    fc.nat(PAGES - 1),
    fc.array(fc.constantFrom<Value>('a', 'b', null), { minLength: 1, maxLength: 8 }),
  )
  .map(([vm, start, values]) => ({ vm, start, values: values.slice(0, PAGES - start) }))

type Window = { vm: string; start: number; values: Value[] }

const run = (start: number, owner: string) => ({ start, count: 1, owner, visibility: 'private', hardware: '{}' })

const toWindow = ({ vm, start, values }: Window) => ({
  vm,
  start,
  end: start + values.length,
  runs: values.flatMap((value, i) => (value === null ? [] : [run(start + i, value)])),
})

/** The maximal runs of a plain array of pages. */
function maximalRuns(vm: string, pages: readonly Value[]): unknown[] {
  const runs: { vm: string; first_gfn: number; pages: number; owner: string }[] = []
  for (const [gfn, owner] of pages.entries()) {
    const last = runs.at(-1)
    if (owner === null) continue
    if (last !== undefined && last.owner === owner && last.first_gfn + last.pages === gfn) last.pages += 1
    else runs.push({ vm, first_gfn: gfn, pages: 1, owner })
  }
  return runs
}

test('windows give the runs of a plain array of pages, always maximal, and the checksum keeps step', (t) => {
  const directory = temporaryDirectory(t)
  const store = new StoreDatabase({ directory })
  store.open()
  store.commit(group({ rows: { vms: new Map(['vm-1', 'vm-2'].map((id) => [id, vmRow(id)])) } }))
  const plain = new Map<string, Value[]>(['vm-1', 'vm-2'].map((vm) => [vm, new Array<Value>(PAGES).fill(null)]))
  const check = (windows: readonly Window[]): void => {
    store.commit(group({ rows: { windows: windows.map(toWindow) } }))
    for (const { vm, start, values } of windows) plain.get(vm)?.splice(start, values.length, ...values)
    const expected = [...plain].flatMap(([vm, pages]) => maximalRuns(vm, pages))
    assert.deepEqual(
      rowsOf(
        directory,
        'SELECT vm, first_gfn, pages, owner FROM page_runs JOIN page_states ON id = state ORDER BY vm, first_gfn',
      ),
      expected,
    )
  }
  fc.assert(fc.property(fc.array(windowArbitrary, { minLength: 1, maxLength: 4 }), check), { numRuns: 400 })
  store.close()
  store.open()
  store.close()
})

test('the checksum does not depend on the way taken', (t) => {
  const sums = [[['a', 'a', 'b']], [['b', 'b', 'b'], ['a'], [null, 'a']]].map((steps) => {
    const directory = temporaryDirectory(t)
    const store = new StoreDatabase({ directory })
    store.open()
    store.commit(group({ rows: { vms: new Map([['vm-1', vmRow('vm-1')]]) } }))
    for (const values of steps) {
      const window = toWindow({ vm: 'vm-1', start: 5, values: values as Value[] })
      store.commit(group({ rows: { windows: [window] } }))
    }
    const more = toWindow({ vm: 'vm-1', start: 5, values: ['a', 'a', 'b'] })
    store.commit(group({ rows: { windows: [more] } }))
    store.close()
    return rowsOf(directory, 'SELECT runs, runs_checksum, checksum FROM vms')
  })
  assert.deepEqual(sums[0], sums[1])
})

test('a window whose runs are out of order or leave it is refused', () => {
  const wrong = [
    { vm: 'vm-1', start: 0, end: 4, runs: [run(2, 'a'), run(1, 'a')] },
    { vm: 'vm-1', start: 0, end: 4, runs: [run(4, 'a')] },
    { vm: 'vm-1', start: 1, end: 4, runs: [run(0, 'a')] },
    { vm: 'vm-1', start: 4, end: 4, runs: [] },
    { vm: 'vm-1', start: 0, end: 4, runs: [{ ...run(0, 'a'), count: 0 }] },
    { vm: 'vm-9', start: 0, end: 4, runs: [] },
  ]
  for (const window of wrong) {
    const store = new StoreDatabase({ directory: ':memory:' })
    store.open()
    store.commit(group({ rows: { vms: new Map([['vm-1', vmRow('vm-1')]]) } }))
    assert.throws(() => store.commit(group({ rows: { windows: [window] } })), { code: 'io' })
    store.close()
  }
})
