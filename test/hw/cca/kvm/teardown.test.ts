import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { backend } from '../../../../src/hw/cca/index.ts'
import { GRANULE } from '../../../../src/hw/cca/rmm/granules.ts'
import { hex, PAGE, type TestHost } from '../../../support/domain.ts'
import {
  assertClean,
  call,
  comply,
  filledPages,
  GFN,
  GPA,
  granuleAt,
  hostOf,
  launching,
  must,
  newHost,
  PAR,
  PRIVACIES,
  type RealmBench,
  reach,
  realmIn,
  recordOf,
  request,
  running,
  spare,
  stateSet,
} from './realm-host.ts'

const HOST_PAGES = 1024
const tableAt = (level: number): string => hex((GFN - (GFN % 512 ** (4 - level))) * PAGE)

/** Ends a VM and its memory, and checks that nothing is left but the granules that raw calls have delegated. */
function end({ t, vm, memfile }: RealmBench, free: number, own: readonly number[] = []): void {
  t.deleteVm(vm)
  t.ok({ type: 'memfile.delete', memfile })
  assertClean(t, free, own)
}

/** What raw calls have done to a Realm before DELETE (arm-cca.md 3). */
const prepared: [string, (bench: RealmBench) => void][] = [
  [
    'with pages that are RAM, EMPTY and DESTROYED',
    (bench) => {
      filledPages(bench, 8)
      bench.t.punch(bench.memfile, 0, 2 * PAGE)
      request(bench, GPA + 4 * PAGE, 2, 'shared')
      comply(bench, GPA, 1, true)
      reach(bench, 'read', GPA, { private: true })
    },
  ],
  ['with a vCPU inside', (bench) => void must(bench, 'REC_ENTER')],
  [
    'with a RIPAS change that waits',
    (bench) => {
      const [rec = -1] = realmIn(bench).recs
      const args = { rec: hex(rec * PAGE), base: hex(GPA), top: hex(GPA + PAGE), ripas: 'EMPTY', flags: 1 }
      call(bench, 'guest', 'RSI_IPA_STATE_SET', args)
    },
  ],
  [
    'SYSTEM_OFF',
    (bench) => {
      filledPages(bench, 2)
      call(bench, 'guest', 'PSCI_SYSTEM_OFF')
    },
  ],
  [
    'without its REC',
    (bench) => {
      for (const rec of realmIn(bench).recs) must(bench, 'REC_DESTROY', { rec: hex(rec * PAGE) })
    },
  ],
  [
    'with pages destroyed and not undelegated',
    (bench) => {
      filledPages(bench, 4)
      for (const page of [0, 2]) must(bench, 'DATA_DESTROY', { ipa: hex(GPA + page * PAGE) })
    },
  ],
  [
    'with two pages in each other’s place',
    (bench) => {
      filledPages(bench, 2)
      const [one, other] = [0, 1].map((page) => must(bench, 'DATA_DESTROY', { ipa: hex(GPA + page * PAGE) }).pa)
      must(bench, 'DATA_CREATE_UNKNOWN', { ipa: hex(GPA), data: other })
      must(bench, 'DATA_CREATE_UNKNOWN', { ipa: hex(GPA + PAGE), data: one })
    },
  ],
  [
    'without a table',
    (bench) => {
      must(bench, 'RTT_DESTROY', { ipa: tableAt(3), level: 3 })
      stateSet(bench, GPA, 4, 'RAM')
      filledPages(bench, 2)
    },
  ],
  ['destroyed to the last granule', (bench) => destroyAll(bench)],
  [
    'destroyed, and another Realm made of its granules',
    (bench) => {
      const { rd, rtt } = realmIn(bench)
      destroyAll(bench)
      must(bench, 'REALM_CREATE', {
        rd: hex(rd * PAGE),
        s2sz: 40,
        rtt_base: hex(rtt.rootFrame * PAGE),
        rtt_level_start: 1,
        rtt_num_start: 2,
        num_bps: 1,
        num_wps: 1,
      })
      assert.equal(bench.t.host.hardware.vmState(bench.vm), 'launching')
    },
  ],
]

function destroyAll(bench: RealmBench): void {
  for (const rec of realmIn(bench).recs) must(bench, 'REC_DESTROY', { rec: hex(rec * PAGE) })
  for (const level of [3, 2]) must(bench, 'RTT_DESTROY', { ipa: tableAt(level), level })
  must(bench, 'REALM_DESTROY')
}

describe('DELETE gives every frame, granule and VMID back (arm-cca.md 2, 3)', () => {
  for (const [name, prepare] of prepared) {
    it(name, () => {
      const t = newHost(HOST_PAGES)
      const before = t.free()
      const bench = running({}, 64, t)
      prepare(bench)
      end(bench, before)
    })
  }

  it('but for what raw calls have delegated themselves, used or not', () => {
    const t = newHost(HOST_PAGES)
    const own = spare(t, 8)
    const before = t.free()
    const bench = running({}, 64, t)
    const pa = own.map((frame) => hex(frame * PAGE))
    for (const addr of pa) must(bench, 'GRANULE_DELEGATE', { addr })
    must(bench, 'DATA_CREATE_UNKNOWN', { ipa: hex(GPA + 32 * PAGE), data: pa[0] })
    must(bench, 'RTT_CREATE', { ipa: '0x0', level: 2, rtt: pa[1] })
    must(bench, 'RTT_CREATE', { ipa: hex(PAR), level: 2, rtt: pa[2] })
    must(bench, 'RTT_CREATE', { ipa: hex(PAR), level: 3, rtt: pa[3] })
    must(bench, 'RTT_MAP_UNPROTECTED', { ipa: hex(PAR), level: 3, desc: '0xd8' })
    // KVM undelegates whatever DATA_DESTROY gives it where a slot goes.
    end(bench, before, own.slice(1))
  })
})

type Throw = {
  readonly call: number
  readonly place: number
  readonly level: number
  readonly granule: number
  readonly flags: number
}

/** Calls on memory come more often than the others: one REC_DESTROY or SYSTEM_OFF ends much. */
const CALLS = backend.calls
  .filter(({ name }) => name !== 'RMI_REALM_CREATE')
  .flatMap((one) => Array.from({ length: /RTT_|DATA_|GRANULE_|IPA_STATE/.test(one.name) ? 5 : 1 }, () => one))
const throws: fc.Arbitrary<Throw[]> = fc.array(
  fc.record({
    call: fc.noBias(fc.nat(100_000)),
    place: fc.noBias(fc.nat(1000)),
    level: fc.noBias(fc.nat(1000)),
    granule: fc.noBias(fc.nat(1000)),
    flags: fc.noBias(fc.nat(1)),
  }),
  { minLength: 40, maxLength: 200, size: 'max' },
)

const OWN = 12

/** Granules mostly that raw calls have for themselves, now and then any at all; addresses where the VM has memory. */
function argsOf({ t, vm }: RealmBench, own: readonly number[], one: Throw): Record<string, unknown> {
  const { place, level: die, granule, flags } = one
  const { data } = hostOf(t)
  const level = die % 8 === 7 ? 2 : 3
  const half = die % 5 === 4 ? PAR : 0
  const gfn = place % 4 === 0 ? GFN + 512 * (place % 3) : GFN + (place % 24)
  const inTable = place % 3 === 0 ? gfn - (gfn % 512) : gfn
  const pa = hex((granule % 9 === 8 ? granule % HOST_PAGES : (own[granule % own.length] ?? 0)) * PAGE)
  const rec = data.realms.get(recordOf({ t, vm }).rd)?.recs.find((frame) => frame >= 0) ?? 0
  return {
    ipa: hex(half + inTable * PAGE),
    base: hex(gfn * PAGE),
    top: hex((gfn + 1 + (granule % 8)) * PAGE),
    start: hex(gfn * PAGE),
    end: hex((gfn + 4) * PAGE),
    level,
    addr: pa,
    data: pa,
    rtt: pa,
    src: hex((own[0] ?? 0) * PAGE),
    desc: hex((granule % HOST_PAGES) * PAGE + 0xd8),
    flags,
    rec: hex(rec * PAGE),
  }
}

/** A raw call by whoever makes it, whatever comes of it. */
function make(bench: RealmBench, own: readonly number[], one: Throw, succeeded: Set<string>): void {
  const chosen = CALLS[one.call % CALLS.length]
  if (chosen === undefined) return
  const known = Object.keys((chosen.schema as unknown as { properties: object }).properties)
  const varied = Object.entries(argsOf(bench, own, one)).filter(([name]) => known.includes(name))
  // The Realm is the VM's own, which is what a call without `rd` means, and the REC now and then as well.
  const { rd: _, ...example } = chosen.example
  const args: Record<string, unknown> = { ...example, ...Object.fromEntries(varied) }
  if (chosen.name === 'RMI_REC_CREATE') args.rec = hex((own[one.granule % own.length] ?? 0) * PAGE)
  else if (one.granule % 3 !== 0) delete args.rec
  if (/^(host|guest) /.test(chosen.name) && known.includes('data')) args.data = 'text'
  // What is written to or delegated in the kernel's free memory is no part of a VM.
  const touches = ['RMI_GRANULE_DELEGATE', 'host write'].includes(chosen.name)
  if (touches && !own.includes(Number(BigInt(String(args.addr)) >> 12n))) return
  const applied = bench.t.apply({ type: 'call', vm: bench.vm, vcpu: 0, call: chosen.name, by: chosen.by, args })
  if (!applied.accepted) assert.equal(applied.refusal.code, 'vm-not-running')
  else if ((applied.value.status as { code: unknown }).code === 0) succeeded.add(chosen.name)
}

const stateName = (t: TestHost, vm: string): string =>
  hostOf(t).data.realms.get(recordOf({ t, vm }).rd)?.state ?? 'destroyed'

describe('random raw calls, then DELETE', () => {
  for (const active of [false, true]) {
    for (const privacy of PRIVACIES) {
      it(`arm-cca.md 2, 3: every frame free, nothing delegated but by raw calls: ${active ? 'ACTIVE' : 'NEW'}, ${privacy}`, () => {
        const seen = new Set<string>()
        const succeeded = new Set<string>()
        fc.assert(
          fc.property(throws, (history) => {
            const t = newHost(HOST_PAGES)
            const own = spare(t, OWN)
            const before = t.free()
            const bench = (active ? running : launching)({ privacy }, 24, t)
            const { vm, memfile } = bench
            if (privacy === 'attributes') t.attributes(vm, GPA, 24 * PAGE, true)
            if (active) filledPages(bench, 8)
            else t.ok({ type: 'launch.update', vm, gpa: GPA, length: 2 * PAGE, data: null, options: {} })
            for (const frame of own.slice(2)) must(bench, 'GRANULE_DELEGATE', { addr: hex(frame * PAGE) })
            for (const [index, one] of history.entries()) {
              make(bench, own, one, succeeded)
              if (index % 16 === 5) t.apply({ type: 'memfile.fallocate', memfile, offset: 0, length: 16 * PAGE })
              if (index % 16 === 13) t.apply({ type: 'memfile.punch-hole', memfile, offset: 0, length: 4 * PAGE })
              if (t.host.hardware.vmState(vm) === 'running' && index % 8 === 7) {
                reach(bench, 'write', GPA + (one.place % 16) * PAGE, { private: one.flags === 0 })
                request(bench, GPA + (one.place % 20) * PAGE, 3, one.level % 2 === 0 ? 'private' : 'shared')
              }
            }
            seen.add(stateName(t, vm))
            assert.equal(t.host.state.crashed, null)
            t.deleteVm(vm)
            t.ok({ type: 'memfile.delete', memfile })
            const still = own.filter((frame) => granuleAt(t, frame) !== GRANULE.UNDELEGATED)
            for (const frame of own) t.host.memory.clear(frame, 1)
            assertClean(t, before, still)
          }),
          { numRuns: 40 },
        )
        assert.ok(seen.size >= 2 && succeeded.size >= 20, `${[...seen].join()}; ${[...succeeded].join()}`)
      })
    }
  }
})
