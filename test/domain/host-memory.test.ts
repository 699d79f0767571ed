import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { account, hostUse } from '../../src/domain/accounting.ts'
import { bytesOf, filled, hex, hostAccessCommand, PAGE, TestHost } from '../support/domain.ts'

type Value = Record<string, unknown>
const outcome = (value: Value): unknown[] => [value.outcome, (value.fault as Value | undefined)?.name, value.completed]

/** A host of `pages` pages whose slot 0 of 16 pages starts at gpa 0. */
function world(pages = 64) {
  const t = new TestHost({ pages })
  const vm = t.vm()
  return { t, vm, memfile: t.memory(vm, 0, 16), free: t.free() }
}

const accounting = (t: TestHost, vm: string) => {
  const { private: own, shared, both, pinned } = account(t.host, t.vmState(vm))
  return [own, shared, both, pinned].map((bytes) => Number(bytes) / PAGE)
}

describe('host accesses', () => {
  for (const [as, name] of [
    ['user', 'SIGSEGV'],
    ['kernel', 'EFAULT'],
    ['device', 'IOMMU_PAGE_FAULT'],
  ] as const) {
    it(`kvm-guest-memory.md a.3: nothing mapped at the address, as ${as}: ${name}`, () => {
      const { t, vm } = world()
      t.slot(vm, 1, 0x100000, PAGE, { hva: 'none' })
      for (const gpa of [0x100000, 0x200000]) {
        assert.deepEqual(outcome(t.hostAccess(vm, 'read', gpa, 1, { as })), ['fault', name, 0])
      }
    })

    it(`pkvm-s390-swprotected.md 3.2: as ${as}, the host reads and writes the shared store alone`, () => {
      const { t, vm } = world()
      t.write(vm, 0, 0x11, PAGE)
      t.convert(vm, 0, 1, true)
      t.write(vm, 0, 0x22, PAGE)
      assert.equal(bytesOf(t.hostAccess(vm, 'read', 0, 1, { as }))[0], 0x11)
      assert.equal(t.hostAccess(vm, 'write', 0, filled(0x33), { as }).outcome, 'ok')
      assert.equal(t.read(vm, 0)[0], 0x22)
      t.convert(vm, 0, 1, false)
      assert.equal(t.read(vm, 0)[0], 0x33)
    })

    it(`pkvm-s390-swprotected.md 3.1: as ${as}, no protection at the physical address`, () => {
      const { t, vm } = world()
      t.convert(vm, 0, 1, true)
      t.write(vm, 0, 0x22, PAGE)
      const frame = [...t.host.memory.contents.keys()][0] ?? 0
      const at = { as, by: 'hpa' } as const
      assert.equal(bytesOf(t.hostAccess(vm, 'read', frame * PAGE, 1, at))[0], 0x22)
      assert.equal(t.hostAccess(vm, 'write', frame * PAGE + 1, filled(0x44, 1), at).outcome, 'ok')
      assert.deepEqual([...t.read(vm, 0, 3)], [0x22, 0x44, 0x22])
    })
  }

  it('no memory at the physical address: a machine check, after what was there', () => {
    const { t, vm } = world()
    const at = { by: 'hpa' } as const
    assert.deepEqual(outcome(t.hostAccess(vm, 'read', 64 * PAGE, 1, at)), ['fault', 'MACHINE_CHECK', 0])
    assert.deepEqual(outcome(t.hostAccess(vm, 'read', 64 * PAGE - 5, 10, at)), ['fault', 'MACHINE_CHECK', 5])
    assert.equal(t.refused(hostAccessCommand(vm, 'read', hex(2n ** 52n), 1)).code, 'address-beyond-limit')
  })

  it('no memory left at first touch: SIGBUS, and what was written before stays', () => {
    const { t, vm } = world(3)
    const value = t.hostAccess(vm, 'write', 0, filled(7, 3 * PAGE))
    assert.deepEqual(outcome(value), ['fault', 'SIGBUS', 2 * PAGE])
    assert.equal(t.hostRead(vm, PAGE)[0], 7)
  })

  it('bytes cross pages and keep their neighbours', () => {
    const { t, vm } = world()
    t.hostWrite(vm, 0, 1, 2 * PAGE)
    t.hostWrite(vm, PAGE - 2, 9, 4)
    assert.deepEqual([...t.read(vm, PAGE - 4, 8)], [1, 1, 9, 9, 9, 9, 1, 1])
    t.hostWrite(vm, 0, 0, 2 * PAGE)
    assert.equal(t.host.memory.contents.size, 0, 'a page of zeros keeps no bytes')
  })

  it('kvm-guest-memory.md d.1.7: a page the host wrote to while it was free is zero at first use', () => {
    const { t, vm } = world()
    for (let frame = 1; frame < 64; frame++) t.hostAccess(vm, 'write', frame * PAGE, filled(0xff), { by: 'hpa' })
    assert.equal(t.read(vm, 0)[0], 0)
    t.convert(vm, PAGE, 1, true)
    assert.equal(t.read(vm, PAGE)[0], 0)
    t.convert(vm, 2 * PAGE, 4, true)
    assert.deepEqual(
      [2, 3, 4, 5].map((page) => t.read(vm, page * PAGE)[0]),
      [0, 0, 0, 0],
    )
  })
})

describe('where memory goes', () => {
  it('kvm-guest-memory.md a.3: both backings may be populated at once, and the private page hides the shared one', () => {
    const { t, vm, memfile, free } = world()
    t.write(vm, 0, 1, 4 * PAGE)
    assert.deepEqual(accounting(t, vm), [0, 4, 0, 0])
    t.fallocate(memfile, 2 * PAGE, 4 * PAGE)
    assert.deepEqual(accounting(t, vm), [4, 4, 2, 0])
    assert.equal(free - t.free(), 8)
    assert.deepEqual(
      [1, 2].map((page) => t.read(vm, page * PAGE)[0]),
      [1, 0],
    )
    assert.deepEqual(hostUse(t.host), { private: 4 * PAGE, shared: 4 * PAGE, metadata: 0 })
    t.punch(memfile, 0, 16 * PAGE)
    assert.deepEqual(accounting(t, vm), [0, 4, 0, 0])
  })

  it('slots that show the same memory count it once in all', () => {
    const { t, vm } = world()
    const hva = hex(0x10000000)
    t.slot(vm, 1, 0x100000, 4 * PAGE, { hva })
    t.slot(vm, 2, 0x200000, 4 * PAGE, { hva })
    t.write(vm, 0x100000, 5, 4 * PAGE)
    assert.equal(t.read(vm, 0x203000)[0], 5)
    assert.deepEqual(accounting(t, vm), [0, 4, 0, 0])
    t.ok({ type: 'memslot.delete', vm, slot: 1 })
    assert.equal(t.read(vm, 0x203000)[0], 5)
  })

  it('deleting a slot gives its own memory back, and not what it was told to use', () => {
    const { t, vm, free } = world()
    t.slot(vm, 1, 0x100000, 4 * PAGE, { hva: hex(0x10000000) })
    t.write(vm, 0, 5, 4 * PAGE)
    t.write(vm, 0x100000, 6, 4 * PAGE)
    t.ok({ type: 'memslot.delete', vm, slot: 0 })
    t.ok({ type: 'memslot.delete', vm, slot: 1 })
    assert.equal(free - t.free(), 4)
    t.slot(vm, 3, 0, PAGE, { hva: hex(0x10000000) })
    assert.equal(t.read(vm, 0)[0], 6)
  })

  it('the end of a VM returns every page: pool and tables are what they were at the start', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const t = new TestHost({ pages: 4096 })
      const free = t.free()
      const vm = t.vm({ privacy, conversion: 'manual', vcpus: 2 })
      const memfile = t.memory(vm, 0, 64)
      t.memory(vm, 0x40000000, 1024, { slot: 1, span: 512 })
      t.slot(vm, 2, 0x200000, 16 * PAGE, { hva: hex(0x10000000) })
      t.fallocate(memfile, 0, 20 * PAGE)
      if (privacy === 'attributes') t.attributes(vm, 0, 0x80000000, true)
      for (const gpa of [0, 0x3f000, 0x40000000, 0x200000]) t.hostWrite(vm, gpa, 9, 100)
      t.read(vm, 0x40000000)
      t.pin(vm, 0, 8)
      t.pin(vm, 0x200000, 4)
      t.ok({ type: 'mapping.create', vm, gpa: 0, length: PAGE, memory: 'shared' })
      t.pageStates(vm, [{ gpa: 0, operation: 'private' }], 1)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      t.deleteVm(vm)
      assert.equal(t.free(), free)
      const { vms, pinned, orphans } = t.host.state
      assert.deepEqual([vms.size, pinned.size, orphans.size, t.host.memory.contents.size], [0, 0, 0, 0])
      assert.deepEqual(hostUse(t.host), { private: 0, shared: 0, metadata: 0 })
      assert.equal(t.refused({ type: 'vm.delete', vm }).code, 'no-such-vm')
    }
  })
})

describe('pins', () => {
  const pin = (vm: string, gpa: number, length: number) =>
    ({ type: 'pin.create', vm, gpa, length, by: 'vfio' }) as const

  it('kvm-guest-memory.md a.5: a pin faults every page in and counts', () => {
    const { t, vm, free } = world()
    t.pin(vm, 2 * PAGE, 4)
    assert.equal(free - t.free(), 4)
    assert.deepEqual(accounting(t, vm), [0, 4, 0, 4])
  })

  it('kvm-guest-memory.md a.5: a pinned page lives on when its slot is gone, until the last pin is dropped', () => {
    const { t, vm, free } = world()
    t.hostWrite(vm, 0, 0x77, 4 * PAGE)
    const [first, second] = [t.pin(vm, 0, 2), t.pin(vm, PAGE, 2)]
    t.ok({ type: 'memslot.delete', vm, slot: 0 })
    assert.equal(free - t.free(), 3)
    assert.equal(t.host.state.orphans.size, 3)
    assert.equal(t.host.memory.contents.size, 3, 'with what they hold')
    assert.deepEqual(hostUse(t.host).shared, 3 * PAGE)
    t.slot(vm, 0, 0, 16 * PAGE)
    assert.equal(t.read(vm, 0)[0], 0)
    t.ok({ type: 'pin.delete', vm, pin: first })
    assert.equal(t.host.state.orphans.size, 2)
    t.ok({ type: 'pin.delete', vm, pin: second })
    assert.deepEqual([free - t.free(), t.host.state.pinned.size], [1, 0])
    assert.equal(t.refused({ type: 'pin.delete', vm, pin: first }).code, 'no-such-pin')
  })

  it('kvm-guest-memory.md a.5: a destructive conversion never meets pins', () => {
    const { t, vm } = world()
    t.hostWrite(vm, 0, 0x77, PAGE)
    t.pin(vm, 0, 1)
    t.convert(vm, 0, 1, true)
    assert.equal(t.read(vm, 0)[0], 0)
    assert.equal(t.hostRead(vm, 0)[0], 0x77)
  })

  it('a pin of what is not shared memory → EFAULT; of no whole pages, invalid', () => {
    const { t, vm } = world()
    t.slot(vm, 1, 16 * PAGE, PAGE, { hva: 'none' })
    assert.equal(t.errno(pin(vm, 15 * PAGE, 2 * PAGE)), 'EFAULT')
    assert.equal(t.errno(pin(vm, 0x1000000, PAGE)), 'EFAULT')
    assert.equal(t.refused(pin(vm, 1, PAGE)).kind, 'invalid')
    assert.equal(t.refused(pin(vm, 0, 0)).kind, 'invalid')
    assert.equal(t.refused(pin(vm, 0, PAGE + 1)).kind, 'invalid')
    assert.equal(t.errno(pin(vm, 0, 2 ** 33)), 'EINVAL')
  })

  it('no memory for a pin → ENOMEM, and no page is faulted in', () => {
    const { t, vm } = world(9)
    t.hostWrite(vm, 15 * PAGE, 1)
    assert.equal(t.errno(pin(vm, 0, 8 * PAGE)), 'ENOMEM')
    assert.equal(t.errno(pin(vm, 7 * PAGE, 9 * PAGE)), 'ENOMEM')
    t.pin(vm, 9 * PAGE, 7)
    assert.equal(t.free(), 1)
  })

  it('a pin across slots that show the same memory needs it once', () => {
    const { t, vm } = world(9)
    const hva = hex(0x10000000)
    t.slot(vm, 1, 0x100000, 8 * PAGE, { hva })
    t.slot(vm, 2, 0x108000, 8 * PAGE, { hva })
    const id = t.pin(vm, 0x100000, 16)
    assert.equal(t.free(), 0)
    t.ok({ type: 'pin.delete', vm, pin: id })
    assert.equal(t.host.state.pinned.size, 0)
  })
})

describe('mappings', () => {
  const map = (vm: string, gpa: number, memory: 'shared' | 'private') =>
    ({ type: 'mapping.create', vm, gpa, length: PAGE, memory }) as const

  it('kvm-guest-memory.md c.2: private memory without the MMAP flag → ENODEV, which comes before the range', () => {
    const { t, vm } = world()
    assert.equal(t.errno(map(vm, 0, 'private')), 'ENODEV')
    assert.equal(t.errno(map(vm, 0x1000000, 'private')), 'ENODEV')
  })

  it('a mapping of shared memory is made and dropped; of nothing → EFAULT', () => {
    const { t, vm } = world()
    const { id } = t.ok(map(vm, 0, 'shared'))
    assert.equal(t.errno(map(vm, 0x1000000, 'shared')), 'EFAULT')
    t.ok({ type: 'mapping.delete', vm, mapping: String(id) })
    assert.equal(t.refused({ type: 'mapping.delete', vm, mapping: String(id) }).code, 'no-such-mapping')
  })
})
