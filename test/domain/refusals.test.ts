import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import fc from 'fast-check'
import { furnished } from '../model/furnished.ts'
import { commandOf, hardwareSteps } from '../model/steps.ts'
import { accessKind, snp, software } from '../model/technology.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'
import { accessCommand, PAGE, pageStatesCommand, slotCommand, TestHost } from '../support/domain.ts'

/** {@link TestHost.refused} compares state and contents before and after each refusal, in every other test too. */

describe('a refusal leaves no footprint (G4)', () => {
  for (const technology of [software, accessKind, snp]) {
    it(`${technology.name}: whatever is refused, in whatever state`, () => {
      let refusals = 0
      fc.assert(
        fc.property(hardwareSteps(60), (history) => {
          const t = furnished(technology, 60)
          for (const step of history) {
            const command = commandOf(t.host, step)
            const before = t.footprint()
            if (t.apply(command).accepted) continue
            t.assertFootprint(before, command.type)
            refusals++
          }
        }),
        { numRuns: 40 },
      )
      assert.ok(refusals > 200, `${refusals} refusals`)
    })
  }

  it('a refused command does not lend its number: the next one has it', () => {
    const t = new TestHost()
    assert.equal(t.refused({ type: 'vm.delete', vm: 'vm-9' }).code, 'no-such-vm')
    assert.equal(t.vm(), 'vm-2')
  })

  it('everything addressed that is not there is not found', () => {
    const t = new TestHost()
    const vm = t.vm()
    const range = { offset: 0, length: PAGE }
    for (const [command, code] of [
      [{ type: 'vm.delete', vm: 'vm-9' }, 'no-such-vm'],
      [accessCommand('vm-9', 'read', 0, 1), 'no-such-vm'],
      [{ type: 'memslot.delete', vm, slot: 3 }, 'no-such-memslot'],
      [{ type: 'memfile.fallocate', memfile: 'memfile-9', ...range }, 'no-such-memfile'],
      [{ type: 'memfile.punch-hole', memfile: 'memfile-9', ...range }, 'no-such-memfile'],
      [{ type: 'memfile.delete', memfile: 'memfile-9' }, 'no-such-memfile'],
      [{ type: 'exit.resume', vm, exit: 'exit-9', ret: 0 }, 'no-such-exit'],
      [{ type: 'mapping.delete', vm, mapping: 'mapping-9' }, 'no-such-mapping'],
      [{ type: 'pin.delete', vm, pin: 'pin-9' }, 'no-such-pin'],
    ] as const) {
      const refusal = t.refused(command)
      assert.deepEqual([refusal.kind, refusal.code], ['not-found', code])
    }
  })
})

describe('refusals by the hardware', () => {
  it('a slot over populated pages that the hardware does not take is not made, and takes no address space', () => {
    const { backend, knobs } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm()
    const memfile = t.memfile(8, vm)
    t.fallocate(memfile, 0, 2 * PAGE)
    t.fallocate(memfile, 4 * PAGE, 2 * PAGE)
    knobs.refuseAssign = true
    const refusal = t.refused(slotCommand(vm, 0, 0, 8 * PAGE, { memfile }))
    assert.deepEqual([refusal.errno, refusal.hardware?.status], ['EIO', 'TEST'])
    knobs.refuseAssign = false
    t.slot(vm, 0, 0, 8 * PAGE, { memfile })
    assert.equal(t.kinds(vm, 0, 8), 'PPssPPss')
  })

  it('what it took before it refused is taken back', () => {
    const { backend, knobs } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm()
    const memfile = t.memfile(8, vm)
    t.fallocate(memfile, 0, 2 * PAGE)
    t.fallocate(memfile, 4 * PAGE, 2 * PAGE)
    knobs.refuseAfter = 1
    assert.equal(t.errno(slotCommand(vm, 0, 16 * PAGE, 8 * PAGE, { memfile })), 'EIO')
    assert.deepEqual(knobs.released, ['16 2'])
  })

  it('pages that it does not take are populated all the same, and told: the request stops there', () => {
    const { backend, knobs } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 8)
    knobs.refuseAssign = true
    const { value, partial } = t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: 4 * PAGE })
    assert.deepEqual([partial.code, partial.errno, value.populatedBytes], ['hardware-refused', 'EIO', 4 * PAGE])
  })

  it('before its launch is finished a guest does not run, but raw calls do', () => {
    const { backend, knobs } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm()
    t.memory(vm, 0, 8)
    knobs.launching = true
    for (const command of [
      accessCommand(vm, 'read', 0, 1),
      pageStatesCommand(vm, [{ gpa: 0, operation: 'private' }]),
    ]) {
      const refusal = t.refused(command)
      assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'vm-not-running', 'launching'])
    }
    const args = { gpa: 0, pages: 1, attributes: 0 }
    t.ok({ type: 'call', vm, vcpu: 0, call: 'MAP_GPA_RANGE', by: 'guest', args })
  })
})

describe('a host that dies while it serves a command', () => {
  /** A host on which the kernel faults on the next page it hands out. */
  function doomed() {
    const { backend, knobs } = accessKindBackend()
    const t = new TestHost({ backend, pages: 64 })
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 8)
    for (let frame = 0; frame < 64; frame++) knobs.guarded.add(frame)
    return { t, vm, memfile }
  }
  type Doomed = ReturnType<typeof doomed>
  const rows: readonly [string, (world: Doomed) => Parameters<TestHost['apply']>[0]][] = [
    ['fallocate', ({ memfile }) => ({ type: 'memfile.fallocate', memfile, offset: 0, length: 4 * PAGE })],
    ['a pin', ({ vm }) => ({ type: 'pin.create', vm, gpa: 0, length: PAGE, by: 'vfio' })],
    ['a guest access', ({ vm }) => accessCommand(vm, 'read', 0, 1)],
    ['a page-state change', ({ vm }) => pageStatesCommand(vm, [{ gpa: 0, pages: 2, operation: 'private' }])],
    ['a launch update', ({ vm }) => ({ type: 'launch.update', vm, gpa: 0, length: PAGE, data: null, options: {} })],
    [
      'a host access',
      ({ vm }) => ({
        type: 'host-access',
        vm,
        as: 'user',
        by: 'gpa',
        address: 0,
        kind: 'read',
        length: 1,
        data: null,
      }),
    ],
    [
      'the kernel’s own write',
      ({ vm }) => ({
        type: 'host-access',
        vm,
        as: 'kernel',
        by: 'hpa',
        address: PAGE,
        kind: 'write',
        length: 1,
        data: 'AA==',
      }),
    ],
  ]
  for (const [name, command] of rows) {
    it(`${name}: it has happened, is journaled, and nothing but a reboot follows`, () => {
      const world = doomed()
      const { t, vm } = world
      const { value } = t.accepted(command(world))
      assert.match(String(value.hostCrashed), /which it does not own \(PF\)/)
      assert.equal(t.host.state.crashed?.seq, t.seq)
      assert.equal(t.refused({ type: 'vm.delete', vm }).code, 'host-crashed')
      assert.equal(t.refused({ type: 'memfile.create', name: null, size: 0, span: 1, placed: false }).kind, 'conflict')
    })
  }

  it('a user’s write to a guarded page is a fault of the user’s', () => {
    const { t, vm } = doomed()
    const value = t.hostAccess(vm, 'write', PAGE, 'AA==', { by: 'hpa' })
    assert.equal(value.outcome, 'fault')
    assert.equal(t.host.state.crashed, null)
  })
})
