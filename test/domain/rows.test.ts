import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import type { OwnershipRun, Rows } from '../../src/domain/journal.ts'
import type { PageRun } from '../../src/domain/ownership.ts'
import { rowsOf } from '../../src/domain/rows.ts'
import { furnished } from '../model/furnished.ts'
import { commandOf, FIRST, hardwareSteps, PAGES } from '../model/steps.ts'
import { accessKind, snp, software } from '../model/technology.ts'
import { hex, PAGE, TestHost } from '../support/domain.ts'

const END = FIRST + PAGES + 64

/** A store of rows that keeps a text a page and does with a window what it is told: replace all inside it. */
class NaiveStore {
  readonly vms = new Map<string, (string | undefined)[]>()

  take(rows: Rows): void {
    for (const [vm, row] of rows.vms) if (row === null) this.vms.delete(vm)
    for (const { vm, start, end, runs } of rows.windows) {
      const pages = this.vms.get(vm) ?? []
      this.vms.set(vm, pages)
      for (let gfn = Math.max(start, FIRST); gfn < Math.min(end, END); gfn++) pages[gfn] = undefined
      for (const run of runs) {
        for (let gfn = Math.max(run.start, FIRST); gfn < Math.min(run.start + run.count, END); gfn++)
          pages[gfn] = text(run)
      }
    }
  }
}

const text = (run: PageRun | OwnershipRun): string => {
  const hardware = typeof run.hardware === 'string' ? run.hardware : JSON.stringify(run.hardware)
  return `${run.owner} ${run.visibility} ${hardware}`
}

const isStored = (run: PageRun): boolean => run.owner !== 'none' || run.visibility === 'private'

/** The rows of everything that has changed since the last time, as an engine writes them. */
function flush(t: TestHost): Rows {
  const rows = rowsOf(new Map([[t.host.state.name, t.host]]), t.changes)
  t.changes.clear()
  return rows
}

describe('rows that people query', () => {
  for (const technology of [software, accessKind, snp]) {
    it(`${technology.name}: the windows of each group, put together, are the pages of the whole VM`, () => {
      fc.assert(
        fc.property(hardwareSteps(60), fc.integer({ min: 1, max: 6 }), (history, group) => {
          const t = furnished(technology, 70)
          const store = new NaiveStore()
          history.forEach((step, index) => {
            t.apply(commandOf(t.host, step))
            if (index % group === 0) store.take(flush(t))
          })
          store.take(flush(t))
          for (const vm of t.host.state.vms.keys()) {
            const stored = store.vms.get(vm) ?? []
            for (const run of t.runs(vm, FIRST, END)) {
              const expected = isStored(run) ? text(run) : undefined
              for (let gfn = run.start; gfn < run.start + run.count; gfn++) {
                assert.equal(stored[gfn], expected, `${vm} gfn ${gfn}`)
              }
            }
          }
        }),
        { numRuns: 60 },
      )
    })
  }

  it('are maximal runs, never a row for every page', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 1024)
    for (let page = 0; page < 1024; page++) if (page !== 500) t.fallocate(memfile, page * PAGE, PAGE)
    const { windows } = flush(t)
    assert.deepEqual(
      windows.flatMap(({ runs }) => runs.map(({ start, count, owner }) => [start, count, owner])),
      [
        [0, 500, 'guest'],
        [500, 1, 'host'],
        [501, 523, 'guest'],
      ],
    )
  })

  it('of attributes without memory are rows too; of nothing at all there are none', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    flush(t)
    t.attributes(vm, 0, hex(2n ** 52n), true)
    t.attributes(vm, PAGE, PAGE, false)
    const [window] = flush(t).windows
    assert.deepEqual([window?.start, window?.end], [0, 2 ** 40])
    assert.deepEqual(window?.runs, [
      { start: 0, count: 1, owner: 'none', visibility: 'private', hardware: '{}' },
      { start: 2, count: 2 ** 40 - 2, owner: 'none', visibility: 'private', hardware: '{}' },
    ])
  })

  it('of hosts, VMs, memfiles and slots are as these stand at the end of the group, or null', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 4)
    t.fallocate(memfile, 0, 2 * PAGE)
    const rows = flush(t)
    assert.equal(rows.hosts.get('test')?.state, 'up')
    assert.deepEqual(rows.vms.get(vm), {
      id: vm,
      name: null,
      host: 'test',
      technology: 'sw-protected',
      state: 'running',
      privacy: 'populated',
      conversion: 'auto',
      vcpus: 1,
      revision: t.seq,
    })
    assert.equal(rows.memfiles.get(memfile)?.allocatedPages, 2)
    assert.equal(rows.memslots.get(`${vm}/0`)?.memfile, memfile)
    t.ok({ type: 'memfile.delete', memfile })
    t.deleteVm(vm)
    const gone = flush(t)
    assert.deepEqual(
      [gone.vms.get(vm), gone.memfiles.get(memfile), gone.memslots.get(`${vm}/0`), gone.windows],
      [null, null, null, []],
    )
    assert.equal(flush(t).vms.size, 0)
  })
})
