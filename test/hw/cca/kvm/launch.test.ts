import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { CommandOf } from '../../../../src/domain/commands.ts'
import { filled, hex, PAGE, pageStatesCommand } from '../../../support/domain.ts'
import {
  assertClean,
  frameOf,
  GFN,
  GPA,
  hostOf,
  launching,
  must,
  newHost,
  outcome,
  PAR,
  PRIVACIES,
  REC_PAGES,
  type RealmBench,
  reach,
  realmIn,
  rmi,
  rsi,
  stateOf,
  states,
  type Value,
} from './realm-host.ts'

const update = (
  { vm }: Pick<RealmBench, 'vm'>,
  gpa: number,
  pages = 1,
  options: Value = {},
): CommandOf<'launch.update'> => ({
  type: 'launch.update',
  vm,
  gpa: hex(gpa),
  length: pages * PAGE,
  data: filled(7, pages * PAGE),
  options,
})
const finish = ({ vm }: Pick<RealmBench, 'vm'>, options: Value = {}) =>
  ({ type: 'launch.finish', vm, options }) as const
const ram = (gpa: number, pages: number) => ({ gpa: hex(gpa), length: pages * PAGE })
const digestOf = ({ t, vm }: Pick<RealmBench, 't' | 'vm'>) => t.host.hardware.launchLog(vm).digest

for (const privacy of PRIVACIES) {
  const world = (pages = 64): RealmBench => {
    const bench = launching({ privacy }, pages)
    if (privacy === 'attributes') bench.t.attributes(bench.vm, GPA, pages * PAGE, true)
    return bench
  }

  describe(`POPULATE_REALM, ${privacy} (arm-cca.md 9)`, () => {
    it('arm-cca.md 4.1, 9: U/E → A/R outside INIT_RIPAS too; the guest finds its bytes', () => {
      const bench = world()
      const { t, vm } = bench
      const value = t.ok(update(bench, GPA, 3))
      assert.deepEqual([value.completed, value.next, value.state], [3 * PAGE, null, 'NEW'])
      assert.deepEqual(states(bench, GPA, 4), ['A/R', 'A/R', 'A/R', 'U/E'])
      assert.notEqual(t.ok(finish(bench)).digest, value.digest, 'the boot REC counts')
      assert.equal(t.read(vm, GPA + PAGE, 1, { private: true })[0], 7)
      assert.equal(outcome(reach(bench, 'read', GPA + 3 * PAGE, { private: true })), 'guest-fault SEA')
    })

    it('arm-cca.md 8: contents count only with measure, addresses always', () => {
      const digests = [true, false].flatMap((measure) =>
        [GPA, GPA + PAGE].map((gpa) => {
          const bench = world()
          return bench.t.ok(update(bench, gpa, 1, { measure })).digest
        }),
      )
      assert.equal(new Set(digests).size, 4)
      const other = world()
      other.t.ok({ ...update(other, GPA, 1, { measure: false }), data: filled(9) })
      assert.equal(digestOf(other), digests[2])
    })

    it('arm-cca.md 5, 9: a page that is assigned already: ENXIO; part of it done: where it stopped', () => {
      const bench = world()
      const { t } = bench
      t.ok(update(bench, GPA + 2 * PAGE))
      const { value } = t.accepted(update(bench, GPA, 4))
      assert.deepEqual(value.next, { gpa: hex(GPA + 2 * PAGE), length: 2 * PAGE })
      assert.equal((value.stopped as { errno: string }).errno, 'ENXIO')
      const { errno, code } = t.refused(update(bench, GPA))
      assert.deepEqual([errno, code], ['ENXIO', 'page-assigned'])
    })

    it('arm-cca.md 9: unaligned or nothing: EINVAL; no memslot: EFAULT; one without a memfile: EPERM; over two: EINVAL', () => {
      const bench = world()
      const { t, vm } = bench
      assert.equal(t.errno(update(bench, GPA + 1)), 'EINVAL')
      assert.equal(t.errno(update(bench, GPA, 0)), 'EINVAL')
      const refused = (gpa: number, pages = 1) => {
        const { errno, code, pointer } = t.refused(update(bench, gpa, pages))
        return [errno, code, pointer]
      }
      assert.deepEqual(refused(GPA - PAGE), ['EFAULT', 'no-memslot', '/gpa'])
      t.slot(vm, 5, GPA + 64 * PAGE, PAGE)
      assert.deepEqual(refused(GPA + 64 * PAGE), ['EPERM', 'memslot-not-private', '/gpa'])
      assert.deepEqual(refused(GPA + 63 * PAGE, 2), ['EINVAL', 'range-over-memslots', '/length'])
      assert.deepEqual(stateOf(bench, GPA + 63 * PAGE).slice(0, 3), 'U/E')
    })

    it('arm-cca.md 4: an unprotected IPA: EINVAL, and its page comes back', () => {
      const bench = world()
      const { t, vm, memfile } = bench
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      t.slot(vm, 0, PAR, 64 * PAGE, { memfile })
      if (privacy === 'attributes') t.attributes(vm, PAR, PAGE, true)
      const free = t.free()
      const { partial } = t.partial(update(bench, PAR))
      assert.deepEqual([partial.errno, partial.code, t.free()], ['EINVAL', 'ipa-unprotected', free])
    })

    it('arm-cca.md 9: a Realm that is not NEW: EPERM, before any memory is taken; the same for the end of the launch', () => {
      for (const end of ['finish', 'off', 'destroyed'] as const) {
        const bench = world()
        const { t } = bench
        if (end === 'destroyed') must(bench, 'REALM_DESTROY')
        else t.ok(finish(bench))
        if (end === 'off') t.ok({ type: 'call', vm: bench.vm, vcpu: 0, call: 'PSCI_SYSTEM_OFF', by: 'guest', args: {} })
        for (const command of [update(bench, GPA), update(bench, GPA - PAGE), finish(bench)]) {
          const { errno, code } = t.refused(command)
          assert.deepEqual([errno, code], ['EPERM', 'realm-not-new'])
        }
      }
    })

    it('arm-cca.md 4.1: what is taken away before the end stays measured, is DESTROYED, and can be created again', () => {
      const bench = world()
      const { t, memfile } = bench
      const { digest } = t.ok(update(bench, GPA))
      t.punch(memfile, 0, PAGE)
      assert.equal(stateOf(bench, GPA), 'U/D')
      assert.equal(digestOf(bench), digest)
      const again = t.ok(update(bench, GPA))
      assert.notEqual(again.digest, digest)
      assert.equal(stateOf(bench, GPA), 'A/R')
    })

    it('arm-cca.md 8, 9: the log: a line for consecutive pages treated alike, its copies, its digest', () => {
      const bench = world()
      const { t, vm } = bench
      t.ok(update(bench, GPA, 2))
      const second = t.ok(update(bench, GPA + 2 * PAGE, 2))
      const third = t.ok(update(bench, GPA + 4 * PAGE, 1, { measure: false }))
      const last = t.ok(finish(bench, { ripas: [ram(GPA + 8 * PAGE, 4)], entry: hex(GPA), x0: '0x1234' }))
      const { steps, digest, state } = t.host.hardware.launchLog(vm)
      assert.deepEqual(steps.slice(0, 2), [
        { operation: 'data', gpa: hex(GPA), pages: 4, copies: 8, digestAfter: second.digest },
        { operation: 'data-unmeasured', gpa: hex(GPA + 4 * PAGE), pages: 1, copies: 2, digestAfter: third.digest },
      ])
      assert.deepEqual(
        steps.slice(2).map(({ operation, gpa, pages }) => [operation, gpa, pages]),
        [
          ['init-ripas', hex(GPA + 8 * PAGE), 4],
          ['rec', undefined, undefined],
        ],
      )
      assert.deepEqual([digest, state, steps.at(-1)?.digestAfter], [last.digest, 'ACTIVE', last.digest])
    })

    it('arm-cca.md 5: no memory for a table: ENOMEM; what was added stays and is told of, even beside a page that was there', () => {
      const bench = world()
      const { t, vm, memfile } = bench
      const hoard = t.memfile(8192, t.vm())
      t.fallocate(hoard, 0, (t.free() - 2) * PAGE)
      const { partial } = t.partial(update(bench, GPA))
      assert.deepEqual([partial.errno, t.free()], ['ENOMEM', 1], 'one of two tables stays, the page is given back')
      t.fallocate(memfile, 0, PAGE)
      assert.equal(t.errno(update(bench, GPA)), 'ENOMEM', 'nothing could be done, nothing was')
      t.punch(hoard, 0, PAGE)
      t.ok(update(bench, GPA))
      assert.equal(t.free(), 0)
      assert.equal(t.host.hardware.translatePrivate?.(vm, GFN)?.frame, frameOf(bench, GPA))
    })

    it('arm-cca.md 5: the same where the page was there before its tables', () => {
      const bench = world()
      const { t, memfile } = bench
      t.fallocate(memfile, 0, PAGE)
      const hoard = t.memfile(8192, t.vm())
      t.fallocate(hoard, 0, (t.free() - 1) * PAGE)
      assert.equal(t.partial(update(bench, GPA)).partial.errno, 'ENOMEM')
      assert.equal(t.free(), 0)
    })

    it('arm-cca.md 2: a page that a raw call has delegated: ENXIO', () => {
      const bench = world()
      const { t, memfile } = bench
      t.fallocate(memfile, 0, PAGE)
      must(bench, 'GRANULE_DELEGATE', { addr: hex(frameOf(bench, GPA) * PAGE) })
      const { errno, code } = t.refused(update(bench, GPA))
      assert.deepEqual([errno, code], ['ENXIO', 'granule-not-delegable'])
    })
  })
}

describe('POPULATE_REALM in the attributes model', () => {
  it('without the private attribute nothing is populated', () => {
    const bench = launching({ privacy: 'attributes' })
    assert.equal(bench.t.errno(update(bench, GPA)), 'EFAULT')
  })
})

describe('what is populated and not measured', () => {
  it('arm-cca.md 7: while NEW fallocate maps nothing; the page waits for its fault, or for a RIPAS', () => {
    const bench = launching()
    const { t, vm, memfile } = bench
    t.fallocate(memfile, 0, 4 * PAGE)
    assert.equal(t.runs(vm, GFN, GFN + 4)[0]?.hardware.granule, 'UNDELEGATED')
    t.ok(finish(bench, { ripas: [ram(GPA, 2)] }))
    assert.deepEqual(states(bench, GPA, 3), ['U/R', 'U/R', 'U/E'])
    t.write(vm, GPA, 1, PAGE, { private: true })
    assert.deepEqual(
      t
        .runs(vm, GFN, GFN + 4)
        .map(({ count, owner, hardware: { hipas, ripas, granule, pas } }) => [
          count,
          owner,
          `${hipas} ${ripas} ${granule} ${pas}`,
        ]),
      [
        [1, 'guest', 'ASSIGNED RAM DATA REALM'],
        [1, 'host', 'UNASSIGNED RAM UNDELEGATED NS'],
        [2, 'host', 'UNASSIGNED EMPTY UNDELEGATED NS'],
      ],
    )
  })
})

describe('the end of a launch (arm-cca.md 3, 9)', () => {
  it('arm-cca.md 3, 8: RECs: the first boots at `entry` with x0, the others are parked and not measured', () => {
    const digests = [1, 3].map((vcpus) => {
      const bench = launching({ vcpus })
      const { digest } = bench.t.ok(finish(bench, { entry: hex(GPA), x0: '0x55' }))
      const recs = realmIn(bench).recs.map((rec) => hostOf(bench.t).data.recs.get(rec))
      assert.deepEqual(
        recs.map((rec) => [rec?.index, rec?.mpidr, rec?.runnable, rec?.pc, rec?.gprs[0]]),
        [
          [0, 0n, true, BigInt(GPA), 0x55n],
          [1, 1n, false, 0n, 0n],
          [2, 2n, false, 0n, 0n],
        ].slice(0, vcpus),
      )
      assert.equal(rsi(bench, 'VERSION', { req: '0x10000' }).status.name, 'RSI_SUCCESS')
      if (vcpus > 1) assert.equal(rsi(bench, 'VERSION', { req: '0x10000' }, 1).status.name, 'RMI_ERROR_REC')
      return digest
    })
    assert.equal(digests[0], digests[1])
  })

  it('arm-cca.md 10: a REC and 16 auxiliary granules for each vCPU', () => {
    const bench = launching({ vcpus: 5 })
    const before = bench.t.free()
    bench.t.ok(finish(bench))
    assert.equal(before - bench.t.free(), 5 * REC_PAGES)
  })

  it('arm-cca.md 8: RIPAS range by range, entry by entry: order and tables make other RIMs', () => {
    const finished = (ripas: Value[], pages = 1024) => {
      const bench = launching({}, pages)
      return bench.t.ok(finish(bench, { ripas })).digest
    }
    const digests = [
      finished([ram(GPA, 1024)]),
      finished([ram(GPA, 512), ram(GPA + 512 * PAGE, 512)]),
      finished([ram(GPA + 512 * PAGE, 512), ram(GPA, 512)]),
      finished([ram(GPA, 1024), ram(GPA, 1024)]),
      finished([ram(GPA, 1), ram(GPA + PAGE, 1023)]),
    ]
    assert.equal(digests[0], digests[1], 'two entries of 2M either way')
    assert.equal(new Set(digests).size, 4)
  })

  it('arm-cca.md 4: a range that is no whole pages in the protected half: EINVAL, and nothing of any range happens', () => {
    const bench = launching()
    for (const bad of [
      ram(GPA + 1, 1),
      { gpa: hex(GPA), length: 1 },
      ram(GPA, 0),
      ram(PAR, 1),
      ram(PAR - PAGE, 2),
      { gpa: '0xfffffffffffff000', length: PAGE },
    ]) {
      const { errno, code, pointer } = bench.t.refused(finish(bench, { ripas: [ram(GPA, 4), bad] }))
      assert.deepEqual([errno, code, pointer], ['EINVAL', 'ripas-range', '/ripas/1'])
    }
    bench.t.ok(finish(bench, { ripas: [ram(PAR - PAGE, 1)] }))
    assert.equal(stateOf(bench, PAR - PAGE), 'U/R')
  })

  it('arm-cca.md 5: RIPAS over what is assigned: ENXIO with the RMM’s answer; what came before stays, and is in the log', () => {
    const bench = launching()
    const { t, vm } = bench
    t.ok(update(bench, GPA + 2 * PAGE))
    const { partial, value } = t.partial(finish(bench, { ripas: [ram(GPA, 4)] }))
    assert.deepEqual(
      [partial.errno, partial.code, partial.hardware],
      ['ENXIO', 'rmi-refused', { status: 'RMI_ERROR_RTT', code: 0x304 }],
    )
    assert.deepEqual(states(bench, GPA, 4), ['U/R', 'U/R', 'A/R', 'U/E'])
    const { steps, digest, state } = t.host.hardware.launchLog(vm)
    assert.deepEqual([state, value.state], ['NEW', 'NEW'])
    assert.deepEqual([steps.at(-1)?.pages, steps.at(-1)?.digestAfter], [2, digest])
    t.ok(finish(bench))
  })

  it('arm-cca.md 10: no memory for a REC: ENOMEM, its pages come back; the RECs before it stay; the next try goes on', () => {
    const bench = launching({ vcpus: 3 })
    const { t, vm } = bench
    const hoard = t.memfile(8192, t.vm())
    t.fallocate(hoard, 0, (t.free() - REC_PAGES - 5) * PAGE)
    const { partial } = t.partial(finish(bench))
    assert.deepEqual([partial.errno, t.free(), realmIn(bench).recs.length], ['ENOMEM', 5, 1])
    const digest = digestOf(bench)
    assert.equal(t.partial(finish(bench)).partial.errno, 'ENOMEM')
    assert.deepEqual([t.free(), digestOf(bench)], [5, digest])
    t.punch(hoard, 0, 2 * REC_PAGES * PAGE)
    assert.equal(t.ok(finish(bench)).digest, digest)
    assert.equal(t.host.hardware.vmState(vm), 'running')
  })

  it('arm-cca.md 3: nothing runs before it: 409 for accesses and requests; the RMM answers raw calls', () => {
    const bench = launching()
    const { t, vm } = bench
    const entries = [{ gpa: GPA, operation: 'private' as const }]
    const access = {
      type: 'access',
      vm,
      vcpu: 0,
      gpa: GPA,
      private: true,
      kind: 'read',
      length: 1,
      data: null,
    } as const
    for (const command of [{ ...access, vmpl: 0 } as const, pageStatesCommand(vm, entries)]) {
      const refusal = t.refused(command)
      assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'vm-not-running', 'launching'])
    }
    assert.equal(rsi(bench, 'VERSION', { req: '0x10000' }).status.name, 'RMI_ERROR_INPUT', 'there is no REC')
    assert.equal(rmi(bench, 'RTT_READ_ENTRY', { ipa: hex(GPA), level: 3 }).status.name, 'RMI_SUCCESS')
  })

  it('arm-cca.md 3: a raw REALM_ACTIVATE is the same end of the launch, without a REC', () => {
    const bench = launching()
    const { t, vm } = bench
    t.ok(update(bench, GPA))
    const before = digestOf(bench)
    must(bench, 'REALM_ACTIVATE')
    assert.deepEqual([t.host.hardware.vmState(vm), digestOf(bench)], ['running', before])
    assert.equal(t.errno(finish(bench)), 'EPERM')
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 7)
  })

  it('arm-cca.md 3: a half-built Realm is deleted without a trace', () => {
    const t = newHost()
    const free = t.free()
    const bench = launching({ vcpus: 2 }, 64, t)
    t.ok(update(bench, GPA, 5))
    t.deleteVm(bench.vm)
    t.ok({ type: 'memfile.delete', memfile: bench.memfile })
    assertClean(t, free)
  })

  it('arm-cca.md 3: SYSTEM_OFF and SYSTEM_RESET end the guest for good: 409, and no way back', () => {
    for (const name of ['PSCI_SYSTEM_OFF', 'PSCI_SYSTEM_RESET']) {
      const bench = launching()
      const { t, vm } = bench
      t.ok(finish(bench))
      t.ok({ type: 'call', vm, vcpu: 0, call: name, by: 'guest', args: {} })
      assert.equal(realmIn(bench).state, 'SYSTEM_OFF')
      const refusal = t.refused(pageStatesCommand(vm, [{ gpa: GPA, operation: 'private' }]))
      assert.deepEqual([refusal.code, refusal.currentState], ['vm-not-running', 'dead'])
      t.fallocate(bench.memfile, 0, PAGE)
      assert.equal(t.host.hardware.evidence(vm, new Uint8Array()).ok, false)
    }
  })
})
