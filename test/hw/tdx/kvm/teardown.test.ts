import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { backend } from '../../../../src/hw/tdx/index.ts'
import { filled, hex, PAGE, type TestHost } from '../../../support/domain.ts'
import {
  acceptPages,
  assertClean,
  assigned,
  GFN,
  GPA,
  hostAt,
  hostOf,
  hpaOf,
  launching,
  makePrivate,
  must,
  newHost,
  reach,
  recordOf,
  running,
  type TdBench,
  tdIn,
} from './td-host.ts'

const HOST_PAGES = 1024

/** Ends a VM and its memory, and checks that nothing is left. */
function end({ t, vm, memfile }: TdBench, free: number): void {
  t.deleteVm(vm)
  if (t.host.state.memfiles.has(memfile)) t.ok({ type: 'memfile.delete', memfile })
  assertClean(t, free)
}

/** What raw calls have done to a TD before DELETE (intel-tdx.md a.5). */
const prepared: [string, (bench: TdBench) => void][] = [
  [
    'running, with pages accepted, pending and blocked',
    (bench) => {
      bench.t.fallocate(bench.memfile, 0, 8 * PAGE)
      acceptPages(bench, GPA, 4)
      for (const page of [0, 5]) must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa: hex(GPA + page * PAGE) })
    },
  ],
  [
    'with a whole table blocked',
    (bench) => {
      makePrivate(bench, GPA, 8)
      must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa: hex(GPA), level: 1 })
    },
  ],
  [
    'with a vCPU inside',
    (bench) => {
      makePrivate(bench, GPA, 2)
      must(bench, 'host', 'TDH.VP.ENTER')
    },
  ],
  [
    'fatal',
    (bench) => {
      makePrivate(bench, GPA, 2)
      hostAt(bench, 'write', hpaOf(bench, GPA), filled(1))
      reach(bench, 'read', GPA, { private: true })
      assert.equal(tdIn(bench.t, bench.vm).fatal, true)
    },
  ],
  [
    'given up by KVM',
    (bench) => {
      bench.t.fallocate(bench.memfile, 0, 2 * PAGE)
      reach(bench, 'read', GPA, { private: true })
    },
  ],
  ['with its vCPU flushed', (bench) => void must(bench, 'host', 'TDH.VP.FLUSH')],
  [
    'blocked for teardown',
    (bench) => {
      makePrivate(bench, GPA, 3)
      for (const name of ['TDH.VP.FLUSH', 'TDH.MNG.VPFLUSHDONE']) must(bench, 'host', name)
    },
  ],
  [
    'written back on one package of two',
    (bench) => {
      makePrivate(bench, GPA, 3)
      for (const name of ['TDH.VP.FLUSH', 'TDH.MNG.VPFLUSHDONE', 'TDH.PHYMEM.CACHE.WB']) must(bench, 'host', name)
    },
  ],
  [
    'its key freed, half its pages reclaimed',
    (bench) => {
      makePrivate(bench, GPA, 4)
      free(bench)
      for (const page of [0, 2])
        must(bench, 'host', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpaOf(bench, GPA + page * PAGE) })
    },
  ],
  [
    'reclaimed to the last page',
    (bench) => {
      makePrivate(bench, GPA, 4)
      free(bench)
      reclaimAll(bench)
      assert.equal(assigned(bench.t), 0)
    },
  ],
  [
    'reclaimed, and another TD made in its place',
    (bench) => {
      free(bench)
      const { tdr } = recordOf(bench.t, bench.vm)
      reclaimAll(bench)
      must(bench, 'host', 'TDH.MNG.CREATE', { page: hex(tdr * PAGE) })
      must(bench, 'host', 'TDH.MNG.KEY.CONFIG')
    },
  ],
]

function free(bench: TdBench): void {
  for (const name of ['TDH.VP.FLUSH', 'TDH.MNG.VPFLUSHDONE']) must(bench, 'host', name)
  for (const onPackage of [0, 1]) must(bench, 'host', 'TDH.PHYMEM.CACHE.WB', { package: onPackage })
  must(bench, 'host', 'TDH.MNG.KEY.FREEID')
}

function reclaimAll(bench: TdBench): void {
  const { pamt } = hostOf(bench.t).data
  const { tdr } = recordOf(bench.t, bench.vm)
  for (let frame = 0; frame < pamt.ownStart; frame++) {
    const { page } = must(bench, 'host', 'TDH.PHYMEM.PAGE.RDMD', { page: hex(frame * PAGE) })
    if ((page as { type: string }).type === 'PT_NDA' || frame === tdr) continue
    must(bench, 'host', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hex(frame * PAGE) })
  }
  must(bench, 'host', 'TDH.PHYMEM.PAGE.RECLAIM', { page: hex(tdr * PAGE) })
}

describe('DELETE gives every frame and the HKID back (intel-tdx.md a.5)', () => {
  for (const [name, prepare] of prepared) {
    it(name, () => {
      const t = newHost(HOST_PAGES)
      const before = t.free()
      const bench = running({}, 64, t)
      prepare(bench)
      end(bench, before)
    })
  }
})

type Throw = { readonly call: number; readonly place: number; readonly level: number; readonly page: number }

/** Calls on memory come more often than the others: one VPFLUSHDONE ends them all. */
const CALLS = backend.calls
  .filter(({ name }) => name !== 'TDH.MNG.CREATE')
  .flatMap((call) => Array.from({ length: /\.MEM\./.test(call.name) ? 6 : 1 }, () => call))
const throws: fc.Arbitrary<Throw[]> = fc.array(
  fc.record({
    call: fc.noBias(fc.nat(10_000)),
    place: fc.noBias(fc.nat(1000)),
    level: fc.noBias(fc.nat(1000)),
    page: fc.noBias(fc.nat(100_000)),
  }),
  { minLength: 40, maxLength: 200, size: 'max' },
)

/** Levels mostly of 4K, addresses where the VM has memory or just beyond it. */
function argsOf(t: TestHost, vm: string, { place, level, page }: Throw) {
  const at = Math.max(0, (level % 24) - 20)
  const gfn = place % 4 === 0 ? GFN + 512 * (place % 3) : GFN + (place % 3)
  const aligned = gfn - (gfn % 512 ** at)
  const tdvpr = hostOf(t).data.tds.get(recordOf(t, vm).tdr)?.indexed[0] ?? 0
  return {
    gpa: hex(aligned * PAGE),
    level: at,
    page: hex((level % 3 === 0 ? 512 * (page % 2) : page % HOST_PAGES) * PAGE),
    source: hex((page % 64) * PAGE),
    tdvpr: hex(tdvpr * PAGE),
    value: '0x1',
  }
}

/** A raw call by whoever makes it, whatever comes of it. */
function make({ t, vm }: TdBench, one: Throw, succeeded: Set<string>): void {
  const chosen = CALLS[one.call % CALLS.length]
  if (chosen === undefined) return
  const known = Object.keys((chosen.schema as unknown as { properties: object }).properties)
  const varied = Object.entries(argsOf(t, vm, one)).filter(([name]) => known.includes(name))
  // The TD is the VM's own, which is what a call without `tdr` means.
  const { tdr: _, ...example } = chosen.example
  const args = { ...example, ...Object.fromEntries(varied) }
  const applied = t.apply({ type: 'call', vm, vcpu: 0, call: chosen.name, by: chosen.by, args })
  if (!applied.accepted) assert.equal(applied.refusal.code, 'vm-not-running')
  else if ((applied.value.status as { code: unknown }).code === '0x0') succeeded.add(chosen.name)
}

describe('random raw calls, then DELETE', () => {
  for (const finalised of [false, true]) {
    for (const privacy of ['populated', 'attributes'] as const) {
      it(`intel-tdx.md a.5, b: all frames free, PAMT all PT_NDA, no key in use: ${finalised ? 'running' : 'launching'}, ${privacy}`, () => {
        const seen = new Set<string>()
        const succeeded = new Set<string>()
        fc.assert(
          fc.property(throws, (history) => {
            const t = newHost(HOST_PAGES)
            const before = t.free()
            const bench = (finalised ? running : launching)({ privacy, config: { attributes: '0x0' } }, 16, t)
            const { vm, memfile } = bench
            if (privacy === 'attributes') t.attributes(vm, GPA, 16 * PAGE, true)
            if (finalised) makePrivate(bench, GPA, 8)
            else t.ok({ type: 'launch.update', vm, gpa: GPA, length: 2 * PAGE, data: null, options: {} })
            for (const [index, one] of history.entries()) {
              make(bench, one, succeeded)
              if (index % 16 === 5) t.apply({ type: 'memfile.fallocate', memfile, offset: 0, length: 16 * PAGE })
              if (index % 16 === 13) t.apply({ type: 'memfile.punch-hole', memfile, offset: 0, length: 4 * PAGE })
              if (finalised && index % 8 === 7 && t.host.hardware.vmState(vm) === 'running')
                reach(bench, 'write', GPA + (one.place % 16) * PAGE, { private: true })
            }
            const td = hostOf(t).data.tds.get(recordOf(t, vm).tdr)
            seen.add(td === undefined ? 'gone' : `${td.lifecycle} ${td.opState} ${td.fatal}`)
            end(bench, before)
          }),
          { numRuns: 60 },
        )
        assert.ok(seen.size >= 2 && succeeded.size >= 14, `${[...seen].join()}; ${[...succeeded].join()}`)
      })
    }
  }
})
