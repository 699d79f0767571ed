import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { furnished } from '../model/furnished.ts'
import { snp } from '../model/technology.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'
import { accessCommand, bytesOf, hex, MIB2, PAGE, pageStatesCommand, TestHost } from '../support/domain.ts'

type Value = Record<string, unknown>
type Exit = Value & { id: string }
const STATUS = { NOT_PROCESSED: -1, SUCCESS: 0 }
const codes = (value: Value): unknown[] => {
  const statuses = (value.statuses ?? (value.entries as { status: Value }[]).map((entry) => entry.status)) as Value[]
  return statuses.map((status) => status?.code ?? STATUS.NOT_PROCESSED)
}
const waiting = (t: TestHost, vm: string): string[] => [...t.vmState(vm).exits.keys()]
const resume = (t: TestHost, vm: string, ret: number, exit = waiting(t, vm)[0] ?? ''): Value =>
  t.ok({ type: 'exit.resume', vm, exit, ret }).result as Value

function world(privacy: 'populated' | 'attributes' = 'populated', vcpus = 2) {
  const t = new TestHost()
  const vm = t.vm({ conversion: 'manual', privacy, vcpus })
  return { t, vm, memfile: t.memory(vm, 0, 16) }
}

describe('manual conversion', () => {
  it('kvm-guest-memory.md d.5: a request waits in its exit, and nothing has changed', () => {
    const { t, vm } = world()
    const value = t.pageStates(vm, [{ gpa: 2 * PAGE, pages: 3, operation: 'private' }])
    assert.deepEqual([value.completed, codes(value)], [0, [-1]])
    const [id] = waiting(t, vm)
    const exit = t.vmState(vm).exits.get(id ?? '')?.exit
    assert.deepEqual(
      [exit?.reason, exit?.firstGfn, exit?.pages, exit?.private, exit?.span],
      ['KVM_EXIT_HYPERCALL', 2, 3, true, 1],
    )
    assert.equal(t.kinds(vm, 0, 16), 's'.repeat(16))
    assert.equal(t.vmState(vm).vcpus[0]?.waiting, id)
  })

  it('kvm-guest-memory.md b.1: the hypercall’s arguments: gpa, pages of 4 KiB, size and kind', () => {
    const { t, vm } = world()
    t.pageStates(vm, [{ gpa: MIB2, pages: 2, span: 512, operation: 'private' }])
    const value = t.accepted(pageStatesCommand(vm, [{ gpa: 0, operation: 'shared' }], 1)).value
    assert.ok(value.waiting !== undefined)
    const { result } = t.ok({ type: 'exit.resume', vm, exit: waiting(t, vm)[0] ?? '', ret: -22 })
    assert.deepEqual((result as Value).exits, [])
    const shown = t.ok({ type: 'exit.resume', vm, exit: waiting(t, vm)[0] ?? '', ret: 0 })
    assert.equal((shown.result as Value).completed, 1)
  })

  it('409: a vCPU that waits takes no request, access or call; another one does', () => {
    const { t, vm } = world()
    t.pageStates(vm, [{ gpa: 0, operation: 'private' }])
    const call = {
      type: 'call',
      vm,
      call: 'MAP_GPA_RANGE',
      by: 'guest',
      args: { gpa: 0, pages: 1, attributes: 0 },
    } as const
    for (const command of [
      pageStatesCommand(vm, [{ gpa: PAGE, operation: 'private' }]),
      accessCommand(vm, 'read', 0, 1),
      { ...call, vcpu: 0 },
    ]) {
      const refusal = t.refused(command)
      assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'vcpu-waiting', 'waiting'])
    }
    t.read(vm, 0, 1, { vcpu: 1 })
    t.ok({ ...call, vcpu: 1 })
    assert.equal(waiting(t, vm).length, 2)
  })

  it('the host works on while a vCPU waits for it: its calls need no vCPU', () => {
    const t = furnished(snp, 64)
    const [vm = ''] = t.host.state.vms.keys()
    t.pageStates(vm, [{ gpa: 480 * PAGE, operation: 'private' }])
    const [exit] = waiting(t, vm)
    const call = { type: 'call', vm, vcpu: 0, call: 'RMPREAD', args: { hpa: 0 } } as const
    assert.equal(t.refused({ ...call, by: 'guest' }).code, 'vcpu-waiting')
    assert.equal((t.ok({ ...call, by: 'host' }).status as Value).code, 0)
    assert.equal(t.vmState(vm).vcpus[0]?.waiting, exit)
  })

  it('kvm-guest-memory.md a.1: the VMM converts with fallocate and resumes with 0', () => {
    const { t, vm, memfile } = world()
    t.pageStates(vm, [
      { gpa: 0, pages: 2, operation: 'private' },
      { gpa: 4 * PAGE, operation: 'private' },
    ])
    t.fallocate(memfile, 0, 2 * PAGE)
    const between = resume(t, vm, 0)
    assert.deepEqual([between.completed, codes(between)], [1, [0, -1]])
    assert.equal((between.waiting as Exit).gpa, hex(4 * PAGE))
    t.fallocate(memfile, 4 * PAGE, PAGE)
    const done = resume(t, vm, 0)
    assert.deepEqual([done.completed, codes(done), done.waiting], [2, [0, 0], undefined])
    assert.equal(t.kinds(vm, 0, 5), 'PPssP')
    assert.deepEqual([waiting(t, vm), t.vmState(vm).vcpus[0]?.waiting], [[], null])
  })

  it('pkvm-s390-swprotected.md 3.4: 0 from the VMM without a conversion: the guest goes on in the old state', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const { t, vm } = world(privacy)
      t.pageStates(vm, [{ gpa: 0, pages: 4, operation: 'private' }])
      const value = resume(t, vm, 0)
      assert.deepEqual([value.completed, codes(value)], [1, [0]])
      assert.equal(t.kinds(vm, 0, 4), 'ssss')
      t.write(vm, 0, 1)
    }
  })

  it('pkvm-s390-swprotected.md 3.4: a negative answer lands in RAX, and later entries are not processed', () => {
    for (const [ret, name] of [
      [-22, 'KVM_EINVAL'],
      [-12, 'VMM_ERROR'],
      [-1, 'KVM_EPERM'],
    ] as const) {
      const { t, vm } = world()
      t.pageStates(vm, [
        { gpa: 0, operation: 'private' },
        { gpa: PAGE, operation: 'private' },
      ])
      const value = resume(t, vm, ret)
      assert.deepEqual([value.completed, codes(value)], [0, [ret, -1]])
      assert.equal((value.entries as { status: Value }[])[0]?.status.name, name)
      assert.equal(t.vmState(vm).vcpus[0]?.waiting, null)
    }
  })

  it('what a waiting request showed stays as it was when it goes on', () => {
    const { t, vm } = world()
    const value = t.pageStates(vm, [
      { gpa: 0, operation: 'private' },
      { gpa: PAGE, operation: 'private' },
    ])
    const shown = structuredClone(value)
    resume(t, vm, 0)
    resume(t, vm, -5)
    assert.deepEqual(value, shown)
  })

  it('an exit is resumed once; one that is not there is not found', () => {
    const { t, vm } = world()
    t.pageStates(vm, [{ gpa: 0, operation: 'private' }])
    const [exit = ''] = waiting(t, vm)
    resume(t, vm, 0)
    assert.equal(t.refused({ type: 'exit.resume', vm, exit, ret: 0 }).code, 'no-such-exit')
  })

  it('a raw hypercall waits as a request does', () => {
    const { t, vm, memfile } = world()
    const args = { gpa: hex(PAGE), pages: '0x2', attributes: 16 }
    const value = t.ok({ type: 'call', vm, vcpu: 0, call: 'MAP_GPA_RANGE', by: 'guest', args })
    assert.deepEqual((value.waiting as Exit).hypercall, { nr: 12, args: ['0x1000', '0x2', '0x10'] })
    t.fallocate(memfile, PAGE, 2 * PAGE)
    assert.deepEqual(resume(t, vm, 0).status, { name: 'SUCCESS', code: 0 })
  })

  it('a memory fault waits; converted and resumed, the access goes through', () => {
    const { backend } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm({ conversion: 'manual' })
    const memfile = t.memory(vm, 0, 4)
    const value = t.access(vm, 'read', 0, 4, { private: true })
    const { id } = value.exit as Exit
    t.fallocate(memfile, 0, PAGE)
    assert.deepEqual([...bytesOf(resume(t, vm, 0, id))], [0, 0, 0, 0])
  })

  it('a memory fault answered with an errno ends the access; answered 0 without a conversion it exits again', () => {
    const { backend } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm({ conversion: 'manual' })
    t.memory(vm, 0, 4)
    t.access(vm, 'read', 0, 4, { private: true })
    const again = resume(t, vm, 0)
    assert.equal(again.outcome, 'exit')
    assert.deepEqual(resume(t, vm, -14), { outcome: 'refused', ret: -14 })
    assert.equal(t.vmState(vm).vcpus[0]?.waiting, null)
  })

  it('a memory fault that waits survives its slot; the VM’s end takes the exit with it', () => {
    const { backend } = accessKindBackend()
    const t = new TestHost({ backend })
    const vm = t.vm({ conversion: 'manual' })
    t.memory(vm, 0, 4)
    const { exit } = t.access(vm, 'read', 0, 4, { private: true })
    t.ok({ type: 'memslot.delete', vm, slot: 0 })
    assert.equal(resume(t, vm, 0).outcome, 'exit')
    t.deleteVm(vm)
    assert.equal(t.refused({ type: 'exit.resume', vm, exit: (exit as Exit).id, ret: 0 }).code, 'no-such-vm')
  })
})
