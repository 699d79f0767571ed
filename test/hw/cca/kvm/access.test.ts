import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { accessCommand, filled, hex, PAGE } from '../../../support/domain.ts'
import {
  comply,
  exitsOf,
  filledPages,
  frameOf,
  GPA,
  granuleAt,
  hpaOf,
  must,
  newHost,
  outcome,
  PAR,
  PRIVACIES,
  reach,
  resume,
  running,
  stateOf,
  stateSet,
  type Value,
} from './realm-host.ts'

const KINDS = ['read', 'write', 'execute'] as const
const PRIVATE = { private: true } as const
const faultOf = (value: Value): unknown[] => {
  const { name, code, errorCode } = value.fault as Value
  return [name, code, errorCode]
}
const STUCK = 'exit KVM_EXIT_INTERNAL_ERROR'

for (const privacy of PRIVACIES) {
  describe(`a protected access, ${privacy} (arm-cca.md 6)`, () => {
    it('arm-cca.md 6: A/R works, and is zero at first', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      comply(bench, GPA, 2, true)
      assert.equal(t.read(vm, GPA, 1, PRIVATE)[0], 0)
      t.write(vm, GPA, 5, 2 * PAGE, PRIVATE)
      assert.equal(t.read(vm, GPA + 2 * PAGE - 1, 1, PRIVATE)[0], 5)
      assert.equal(outcome(reach(bench, 'execute', GPA, PRIVATE)), 'ok')
      assert.equal(stateOf(bench, GPA), 'A/R')
    })

    it('arm-cca.md 6, 7: U/R: KVM maps the page that the guest touched, and no other', () => {
      const bench = running({ privacy })
      const value = reach(bench, 'read', GPA + 2 * PAGE, PRIVATE)
      assert.deepEqual([outcome(value), (value.exits as unknown[]).length], ['ok', 1], 'auto converts')
      assert.deepEqual([stateOf(bench, GPA + 2 * PAGE), stateOf(bench, GPA + 3 * PAGE)], ['A/R', 'U/R'])
    })

    it('arm-cca.md 4.1: what was never mapped is not destroyed by losing it', () => {
      const bench = running({ privacy })
      comply(bench, GPA, 2, true)
      bench.t.punch(bench.memfile, 0, 2 * PAGE)
      assert.equal(stateOf(bench, GPA), privacy === 'populated' ? 'U/D' : 'U/R')
    })

    it('arm-cca.md 6: U/E and A/E: SEA in the Realm, no exit, whatever the access', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      filledPages(bench, 2)
      stateSet(bench, GPA, 2, 'EMPTY')
      comply(bench, GPA, 1, true)
      assert.equal(stateOf(bench, GPA), privacy === 'populated' ? 'A/E' : 'U/E')
      for (const page of [0, 1]) {
        for (const kind of KINDS) {
          const value = reach(bench, kind, GPA + page * PAGE, PRIVATE)
          assert.deepEqual([value.outcome, value.exits, value.completed], ['guest-fault', [], 0])
          assert.deepEqual(faultOf(value), ['SEA', kind === 'execute' ? 0x21 : 0x25, '0x10'])
        }
      }
      assert.deepEqual(exitsOf(t, vm), [])
      assert.equal(t.host.hardware.vmState(vm), 'running')
    })

    it('arm-cca.md 6, 7: U/D, then A/D: KVM gives a page, and the access leaves the Realm again, every time', () => {
      const bench = running({ privacy, vcpus: 2 })
      const { t, vm, memfile } = bench
      filledPages(bench, 2)
      t.punch(memfile, 0, PAGE)
      assert.equal(stateOf(bench, GPA), 'U/D')
      for (const kind of [...KINDS, ...KINDS]) {
        const value = reach(bench, kind, GPA, PRIVATE)
        assert.equal(outcome(value), STUCK)
        assert.deepEqual(faultOf(value), ['REC_EXIT_SYNC', 0, kind === 'execute' ? '0x80000007' : '0x90000007'])
        assert.equal(stateOf(bench, GPA), 'A/D')
      }
      assert.equal(outcome(reach(bench, 'read', GPA + PAGE, PRIVATE)), 'ok', 'other pages are as before')
      stateSet(bench, GPA, 1, 'RAM', 0, 1)
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), STUCK, 'not without CHANGE_DESTROYED')
      stateSet(bench, GPA, 1, 'RAM', 1)
      assert.equal(t.read(vm, GPA, 1, PRIVATE)[0], 0, 'the guest has acknowledged the loss')
    })

    it('arm-cca.md 6: nothing gives a guest its destroyed page back: fallocate, attribute, memslot', () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      filledPages(bench, 1)
      t.punch(memfile, 0, PAGE)
      t.fallocate(memfile, 0, PAGE)
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), STUCK)
      if (privacy === 'attributes') for (const to of [false, true]) t.attributes(vm, GPA, PAGE, to)
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), STUCK)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      t.slot(vm, 0, GPA, 64 * PAGE, { memfile })
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), STUCK)
      assert.equal(stateOf(bench, GPA), 'A/D')
    })

    it('arm-cca.md 6: over a border of RAM and EMPTY: what came before is done', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      filledPages(bench, 2)
      stateSet(bench, GPA + PAGE, 1, 'EMPTY')
      const value = t.ok(accessCommand(vm, 'write', GPA + PAGE - 8, filled(7, 16), PRIVATE))
      assert.deepEqual([outcome(value), value.completed], ['guest-fault SEA', 8])
      assert.equal(t.read(vm, GPA + PAGE - 1, 1, PRIVATE)[0], 7)
    })
  })

  describe(`an unprotected access, ${privacy} (arm-cca.md 6)`, () => {
    it('arm-cca.md 4: by `private: false` and by the alias it is the same memory, which the VMM sees', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      t.write(vm, GPA + PAR, 9, 8)
      assert.equal(t.read(vm, GPA, 1, { private: false })[0], 9)
      assert.equal(t.hostRead(vm, GPA)[0], 9)
      t.hostWrite(vm, GPA, 3, 8)
      assert.equal(t.read(vm, GPA + PAR)[0], 3)
      const { code, pointer } = t.refused(accessCommand(vm, 'read', GPA + PAR, 1, PRIVATE))
      assert.deepEqual([code, pointer], ['private-shared-address', '/private'])
    })

    it('arm-cca.md 6: a fetch is a SEA in the Realm, mapped or not', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      for (const value of [reach(bench, 'execute', GPA + PAR), reach(bench, 'execute', GPA, { private: false })])
        assert.deepEqual([outcome(value), faultOf(value)], ['guest-fault SEA', ['SEA', 0x21, '0x10']])
      t.write(vm, GPA + PAR, 9, 8)
      assert.equal(outcome(reach(bench, 'execute', GPA + PAR)), 'guest-fault SEA')
    })

    it('arm-cca.md 6: nothing there: MMIO', () => {
      const bench = running({ privacy })
      assert.equal(outcome(reach(bench, 'read', 0x1000 + PAR)), 'exit KVM_EXIT_MMIO')
      assert.equal(outcome(reach(bench, 'write', 0x1000, { private: false })), 'exit KVM_EXIT_MMIO')
    })

    it('arm-cca.md 2: a page that the host has delegated meanwhile: an external abort in the Realm', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      t.write(vm, GPA + PAR, 9, 8)
      const frame = [...t.host.memory.contents.keys()].at(-1) ?? 0
      must(bench, 'GRANULE_DELEGATE', { addr: hex(frame * PAGE) })
      for (const kind of ['read', 'write'] as const)
        assert.deepEqual(faultOf(reach(bench, kind, GPA + PAR)), ['SEA', 0x25, '0x10'])
      assert.equal((t.hostAccess(vm, 'read', GPA, 1).fault as Value).name, 'SIGBUS')
      must(bench, 'GRANULE_UNDELEGATE', { addr: hex(frame * PAGE) })
      assert.equal(t.read(vm, GPA + PAR)[0], 0, 'wiped')
    })

    it('arm-cca.md 6: at or above 2^s2sz: an address size fault in the Realm, no exit', () => {
      const bench = running({ privacy })
      for (const gpa of [2 * PAR, 2 * PAR + GPA, 2 ** 51]) {
        for (const kind of KINDS) {
          const value = reach(bench, kind, gpa)
          assert.deepEqual([outcome(value), value.exits], ['guest-fault ADDRESS_SIZE_FAULT', []])
        }
      }
      assert.equal(outcome(reach(bench, 'read', 2 * PAR - PAGE)), 'exit KVM_EXIT_MMIO', 'the last page is there')
    })

    it('arm-cca.md 4: both aliases may hold memory, on different granules; private hides shared', () => {
      const bench = running({ privacy, conversion: 'manual' })
      const { t, vm } = bench
      t.hostWrite(vm, GPA, 0x11, 8)
      comply(bench, GPA, 1, true)
      t.write(vm, GPA, 0x22, 8, PRIVATE)
      assert.equal(t.hostRead(vm, GPA)[0], 0x11)
      const value = reach(bench, 'read', GPA + PAR)
      const { reason, private: isPrivate, gpa, flags, errno } = value.exit as Value
      assert.deepEqual(
        [reason, isPrivate, gpa, flags, errno],
        ['KVM_EXIT_MEMORY_FAULT', false, hex(GPA), 0, 'EFAULT'],
        'without the bit',
      )
    })
  })

  describe(`an access of the other kind than KVM's record, ${privacy} (arm-cca.md 9)`, () => {
    it('arm-cca.md 9, manual: the private side of a shared page: exit with the private flag; the VMM converts, it goes on', () => {
      const bench = running({ privacy, conversion: 'manual' })
      const { t, vm } = bench
      const value = reach(bench, 'write', GPA + 3 * PAGE, PRIVATE)
      const { reason, gpa, flags, length } = value.exit as Value
      assert.deepEqual([reason, gpa, flags, length], ['KVM_EXIT_MEMORY_FAULT', hex(GPA + 3 * PAGE), 8, PAGE])
      assert.equal(t.refused(accessCommand(vm, 'read', GPA, 1)).code, 'vcpu-waiting')
      comply(bench, GPA + 3 * PAGE, 1, true)
      assert.equal(resume(t, vm).outcome, 'ok')
      assert.deepEqual(exitsOf(t, vm), [])
    })

    it('arm-cca.md 7.1: private → shared is possible for the host alone, and shared → private never once EMPTY', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      filledPages(bench, 1)
      assert.equal(t.read(vm, GPA + PAR)[0], 0, 'auto converts: contents are lost')
      assert.equal(stateOf(bench, GPA), 'U/D', 'but the guest has not given it up')
      stateSet(bench, GPA, 1, 'EMPTY')
      assert.equal(stateOf(bench, GPA), 'U/E')
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), 'guest-fault SEA')
    })
  })
}

describe('a host access (arm-cca.md 2)', () => {
  it('arm-cca.md 2: to a Realm page: SIGBUS for the user, an error for the device, the end of the host for the kernel', () => {
    const bench = running()
    const { t, vm } = bench
    filledPages(bench, 1)
    const at = hpaOf(bench, GPA)
    for (const kind of ['read', 'write'] as const) {
      const data = kind === 'read' ? 8 : filled(1, 8)
      const user = t.hostAccess(vm, kind, at, data, { by: 'hpa' })
      assert.deepEqual([user.outcome, user.completed, faultOf(user)], ['fault', 0, ['SIGBUS', 7, 'GPF']])
      const device = t.hostAccess(vm, kind, at, data, { by: 'hpa', as: 'device' })
      assert.deepEqual([device.outcome, faultOf(device)], ['fault', ['SMMU_GPF', 0, undefined]])
    }
    assert.equal(t.read(vm, GPA, 1, PRIVATE)[0], 0x5e, 'nothing was written')
    const kernel = t.hostAccess(vm, 'read', at, 8, { by: 'hpa', as: 'kernel' })
    assert.deepEqual([kernel.outcome, faultOf(kernel)[0]], ['host-crash', 'GPF'])
    assert.match(t.host.state.crashed?.reason ?? '', /GPF/)
  })

  it('arm-cca.md 2: RD, REC, its auxiliary granules, tables and merely DELEGATED ones are guarded alike', () => {
    const bench = running()
    const { t, vm } = bench
    const held = Array.from({ length: t.host.state.frames }, (_, frame) => frame).filter((frame) => {
      const state = granuleAt(t, frame)
      return state >= 1 && state <= 6
    })
    assert.equal(new Set(held.map((frame) => granuleAt(t, frame))).size, 4, 'RD, REC, REC_AUX, RTT')
    const free = t.host.memory.allocateFrame()
    must(bench, 'GRANULE_DELEGATE', { addr: hex(free * PAGE) })
    for (const frame of [...held, free]) {
      const { fault } = t.hostAccess(vm, 'read', hex(frame * PAGE), 1, { by: 'hpa' })
      assert.equal((fault as Value)?.name, 'SIGBUS')
    }
  })

  it('arm-cca.md 2: what has come back is Non-secure, and holds none of the old bytes', () => {
    const bench = running()
    const { t, vm, memfile } = bench
    filledPages(bench, 1)
    const frame = frameOf(bench, GPA)
    t.punch(memfile, 0, PAGE)
    const seen = t.hostAccess(vm, 'read', hex(frame * PAGE), PAGE, { by: 'hpa' })
    assert.deepEqual([seen.outcome, Buffer.from(String(seen.data), 'base64')], ['ok', Buffer.alloc(PAGE)])
  })

  it('arm-cca.md 2: memory that a raw call has delegated and the kernel then hands out kills the host', () => {
    const t = newHost()
    const bench = running({}, 64, t)
    const next = t.host.memory.allocateFrame()
    t.host.memory.freeFrame(next)
    must(bench, 'GRANULE_DELEGATE', { addr: hex(next * PAGE) })
    t.accepted({ type: 'memfile.fallocate', memfile: bench.memfile, offset: 0, length: PAGE })
    assert.match(t.host.state.crashed?.reason ?? '', /GPF/)
  })
})
