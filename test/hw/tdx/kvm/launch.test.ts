import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { CommandOf } from '../../../../src/domain/commands.ts'
import { vcpuAt } from '../../../../src/hw/tdx/module/td.ts'
import { filled, hex, PAGE } from '../../../support/domain.ts'
import {
  acceptPages,
  assertClean,
  frameOf,
  GFN,
  GPA,
  guest,
  hostOf,
  launching,
  must,
  newHost,
  reach,
  SHARED_BIT,
  seamcall,
  stateOf,
  type TdBench,
  tdIn,
  type Value,
} from './td-host.ts'

const NOTHING_MEASURED =
  '38b060a751ac96384cd9327eb1b1e36a21fdb71114be07434c0cc7bf63f6e1da274edebfe76f65fbd51ad2f14898b95b'

const update = (
  { vm }: Pick<TdBench, 'vm'>,
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
const finish = ({ vm }: Pick<TdBench, 'vm'>, options: Value = {}) => ({ type: 'launch.finish', vm, options }) as const

for (const privacy of ['populated', 'attributes'] as const) {
  const world = (pages = 64): TdBench => {
    const bench = launching({ privacy }, pages)
    if (privacy === 'attributes') bench.t.attributes(bench.vm, GPA, pages * PAGE, true)
    return bench
  }

  describe(`KVM_TDX_INIT_MEM_REGION, ${privacy}`, () => {
    it('intel-tdx.md f.3: tables, PAGE.ADD and 16 MR.EXTEND a page; the guest finds it MAPPED with its bytes', () => {
      const bench = world()
      const { t, vm } = bench
      const value = t.ok(update(bench, GPA, 3))
      assert.deepEqual([value.completed, value.next, value.state], [3 * PAGE, null, 'INITIALIZED'])
      assert.equal(stateOf(bench, GPA + 2 * PAGE), 'MAPPED')
      const { digest } = t.ok(finish(bench))
      assert.equal(digest, value.digest)
      assert.equal(t.read(vm, GPA + PAGE, 1, { private: true })[0], 7)
    })

    it('intel-tdx.md e.1: contents count only with measure, addresses always', () => {
      const digests = [true, false].flatMap((measure) =>
        [GPA, GPA + PAGE].map((gpa) => {
          const bench = world()
          return bench.t.ok(update(bench, gpa, 1, { measure })).digest
        }),
      )
      assert.equal(new Set(digests).size, 4)
      const other = world()
      other.t.ok({ ...update(other, GPA, 1, { measure: false }), data: filled(9) })
      assert.equal(other.t.host.hardware.launchLog(other.vm).digest, digests[2])
    })

    it('intel-tdx.md g: a page that is added already: EEXIST; part of it done: where it stopped', () => {
      const bench = world()
      const { t } = bench
      t.ok(update(bench, GPA + 2 * PAGE))
      const { value } = t.accepted(update(bench, GPA, 4))
      assert.deepEqual(value.next, { gpa: hex(GPA + 2 * PAGE), length: 2 * PAGE })
      assert.equal((value.stopped as { errno: string }).errno, 'EEXIST')
      assert.equal(t.errno(update(bench, GPA)), 'EEXIST')
    })

    it('intel-tdx.md g: unaligned, nothing, no memory there, a shared address: EINVAL', () => {
      const bench = world()
      const { t, vm } = bench
      for (const gpa of [GPA + 1, GPA - PAGE, GPA + SHARED_BIT]) assert.equal(t.errno(update(bench, gpa)), 'EINVAL')
      assert.equal(t.errno(update(bench, GPA, 0)), 'EINVAL')
      t.slot(vm, 5, GPA + 2 ** 32, PAGE)
      assert.equal(t.errno(update(bench, GPA + 2 ** 32)), 'EINVAL', 'a slot without a memfile')
    })

    it('intel-tdx.md g: after FINALIZE nothing is added and nothing finalised: EINVAL', () => {
      const bench = world()
      const { t } = bench
      t.ok(finish(bench))
      assert.equal(t.errno(update(bench, GPA)), 'EINVAL')
      assert.equal(t.errno(finish(bench)), 'EINVAL')
    })

    it('intel-tdx.md a.4: FINALIZE of a TD without pages gives SHA-384 of nothing', () => {
      const bench = world()
      const { digest, state } = bench.t.ok(finish(bench))
      assert.deepEqual([digest, state], [NOTHING_MEASURED, 'RUNNABLE'])
    })

    it('intel-tdx.md e.1: what is removed before FINALIZE stays measured, and can be added again', () => {
      const bench = world()
      const { t, memfile } = bench
      const { digest } = t.ok(update(bench, GPA))
      t.punch(memfile, 0, PAGE)
      assert.equal(stateOf(bench, GPA), 'FREE')
      assert.equal(tdIn(t, bench.vm).epoch, 1, 'no blocking, no tracking before RUNNABLE')
      assert.equal(t.host.hardware.launchLog(bench.vm).digest, digest)
      const again = t.ok(update(bench, GPA))
      assert.notEqual(again.digest, digest)
      assert.equal(stateOf(bench, GPA), 'MAPPED')
    })

    it('intel-tdx.md f.3: the log has one line for consecutive pages treated alike, each with its digest', () => {
      const bench = world()
      const { t } = bench
      t.ok(update(bench, GPA, 2))
      const second = t.ok(update(bench, GPA + 2 * PAGE, 2))
      const third = t.ok(update(bench, GPA + 4 * PAGE, 1, { measure: false }))
      const last = t.ok(update(bench, GPA + 8 * PAGE, 1, { measure: false }))
      const log = t.host.hardware.launchLog(bench.vm)
      assert.deepEqual(log.steps, [
        { operation: 'add-extend', gpa: hex(GPA), pages: 4, digestAfter: second.digest },
        { operation: 'add', gpa: hex(GPA + 4 * PAGE), pages: 1, digestAfter: third.digest },
        { operation: 'add', gpa: hex(GPA + 8 * PAGE), pages: 1, digestAfter: last.digest },
      ])
      assert.equal(log.digest, last.digest)
    })

    it('intel-tdx.md b: no memory for a Secure EPT table is ENOMEM, and the page is given back', () => {
      const bench = world()
      const { t, vm } = bench
      const hoard = t.memfile(8192, t.vm())
      const left = (frames: number) => t.fallocate(hoard, 0, (t.free() - frames) * PAGE)
      left(3)
      const { partial } = t.partial(update(bench, GPA))
      assert.equal(partial.errno, 'ENOMEM')
      assert.equal(t.free(), 1, 'two tables of three stay, for the next try')
      t.punch(hoard, 0, PAGE)
      t.ok(update(bench, GPA))
      assert.equal(t.free(), 0)
      assert.equal(t.host.hardware.translatePrivate?.(vm, GFN)?.frame, frameOf(bench, GPA))
    })

    it('intel-tdx.md 0.3 step 4: a table that raw calls have blocked takes no page: EIO', () => {
      const bench = world()
      const { t } = bench
      t.ok(update(bench, GPA))
      for (const level of [1, 2, 3]) {
        const gpa = level === 3 ? '0x0' : hex(GPA)
        must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa, level })
        assert.equal(t.errno(update(bench, GPA)), 'EIO')
        assert.equal(t.partial(update(bench, GPA + PAGE)).partial.errno, 'EIO')
        must(bench, 'host', 'TDH.MEM.RANGE.UNBLOCK', { gpa, level })
      }
      assert.equal(t.errno(update(bench, GPA)), 'EEXIST')
      t.ok(update(bench, GPA + PAGE))
    })
  })
}

describe('KVM_TDX_INIT_MEM_REGION in the attributes model', () => {
  it('intel-tdx.md g: without the private attribute EINVAL', () => {
    const bench = launching({ privacy: 'attributes' })
    assert.equal(bench.t.errno(update(bench, GPA)), 'EINVAL')
  })
})

describe('what is populated and not added', () => {
  it('intel-tdx.md d.3: before RUNNABLE fallocate adds nothing; the page waits for its fault, and is then pending', () => {
    const bench = launching()
    const { t, vm, memfile } = bench
    t.fallocate(memfile, 0, 4 * PAGE)
    assert.equal(hostOf(t).data.pamt.owners.length, 2)
    assert.equal(t.runs(vm, GFN, GFN + 1)[0]?.hardware.sept, 'FREE')
    assert.equal(tdIn(t, vm).childCount, 6 + 6, 'control pages alone')
    t.ok(finish(bench))
    acceptPages(bench, GPA + PAGE)
    assert.deepEqual(
      t.runs(vm, GFN, GFN + 4).map(({ count, hardware }) => [count, hardware.sept]),
      [
        [1, 'FREE'],
        [1, 'MAPPED'],
        [2, 'FREE'],
      ],
    )
    const fault = reach(bench, 'read', GPA, { private: true }).exit as Value
    assert.equal(fault.errno, 'EIO')
    assert.equal(stateOf(bench, GPA), 'PENDING')
  })
})

describe('FINALIZE', () => {
  it('intel-tdx.md f.2: the TD_HOB named at the end goes into every vCPU; without one they keep theirs', () => {
    for (const [options, expected] of [
      [{ tdHob: '0x809000' }, 0x809000n],
      [{}, 0x1000n],
    ] as const) {
      const bench = launching({ vcpus: 2, config: { tdHob: '0x1000' } })
      bench.t.ok(finish(bench, options))
      const td = tdIn(bench.t, bench.vm)
      assert.deepEqual([vcpuAt(td, 0)?.initialRcx, vcpuAt(td, 1)?.initialRcx], [expected, expected])
    }
  })

  it('intel-tdx.md g: KVM_RUN before FINALIZE: 409 for accesses and requests; the module answers raw calls', () => {
    const bench = launching()
    const { t, vm } = bench
    const access = {
      type: 'access',
      vm,
      vcpu: 0,
      gpa: GPA,
      private: true,
      kind: 'read',
      length: 1,
      data: null,
      vmpl: 0,
    } as const
    const entries = [{ gfn: GFN, pages: 1, span: 1, operation: 'private' }] as const
    for (const command of [access, { type: 'page-states', vm, vcpu: 0, accept: true, entries } as const]) {
      const refusal = t.refused(command)
      assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'vm-not-running', 'launching'])
    }
    assert.equal(guest(bench, 'TDG.VP.INFO').status.code, '0xc000060800000000')
    assert.equal(seamcall(bench, 'TDH.VP.ENTER').status.code, '0xc000060800000000')
  })

  it('intel-tdx.md a.4: a raw MR.FINALIZE is the same end of the launch', () => {
    const bench = launching()
    const { t, vm } = bench
    t.ok(update(bench, GPA))
    const before = t.host.hardware.launchLog(vm).digest
    assert.equal(must(bench, 'host', 'TDH.MR.FINALIZE').mrtd, before)
    assert.equal(t.host.hardware.vmState(vm), 'running')
    assert.equal(t.errno(finish(bench)), 'EINVAL')
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 7)
  })

  it('intel-tdx.md c.3: raw PAGE.ADD and MR.EXTEND are measured with what the launch adds', () => {
    const added = launching()
    added.t.ok(update(added, GPA, 2))
    const digest = added.t.ok(finish(added)).digest
    const raw = launching()
    const { t, vm } = raw
    t.ok(update(raw, GPA))
    t.slot(vm, 9, 2 ** 33, PAGE)
    t.hostWrite(vm, 2 ** 33, 7, PAGE)
    const free = t.host.memory.allocateFrame()
    t.host.memory.freeFrame(free)
    const source = hex(BigInt(t.host.memory.contents.keys().toArray().at(-1) ?? 0) << 12n)
    must(raw, 'host', 'TDH.MEM.PAGE.ADD', { gpa: hex(GPA + PAGE), page: hex(BigInt(free) << 12n), source })
    for (let chunk = 0; chunk < 16; chunk++) must(raw, 'host', 'TDH.MR.EXTEND', { gpa: hex(GPA + PAGE + 256 * chunk) })
    assert.equal(t.ok(finish(raw)).digest, digest)
  })

  it('intel-tdx.md a.5: a half-built TD is deleted without a trace', () => {
    const t = newHost()
    const free = t.free()
    const bench = launching({}, 64, t)
    t.ok(update(bench, GPA, 5))
    t.deleteVm(bench.vm)
    t.ok({ type: 'memfile.delete', memfile: bench.memfile })
    assertClean(t, free)
  })
})
