import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { lookup } from '../../src/domain/stage2.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'
import { accessCommand, filled, hex, MIB2, PAGE, TestHost } from '../support/domain.ts'

type Exit = { reason: string; gpa: string; length: number; private: boolean; errno?: string; id: string | null }

/** The exit an access comes to. */
function exitOf(t: TestHost, vm: string, kind: 'read' | 'write', gpa: number, isPrivate?: boolean): Exit {
  const data = kind === 'read' ? 1 : filled(1, 1)
  const value = t.access(vm, kind, gpa, data, isPrivate === undefined ? {} : { private: isPrivate })
  assert.equal(value.outcome, 'exit', JSON.stringify(value))
  return value.exit as Exit
}

const fault = (gpa: number, isPrivate: boolean, errno = 'EFAULT') => ({
  reason: 'KVM_EXIT_MEMORY_FAULT',
  gpa: hex(gpa),
  length: PAGE,
  private: isPrivate,
  errno,
})

const seen = ({ reason, gpa, length, private: isPrivate, errno }: Exit) => ({
  reason,
  gpa,
  length,
  private: isPrivate,
  ...(errno === undefined ? {} : { errno }),
})

/** A host whose accesses say their kind. Nobody converts by itself but the client. */
function world(privacy: 'populated' | 'attributes', pages = 4096) {
  const { backend, knobs } = accessKindBackend()
  const t = new TestHost({ backend, pages })
  return { t, knobs, vm: t.vm({ privacy, conversion: 'manual', vcpus: 8 }) }
}

const spanAt = (t: TestHost, vm: string, gfn: number): number => lookup(t.vmState(vm), gfn)?.span ?? 0

describe('fault resolution', () => {
  for (const privacy of ['populated', 'attributes'] as const) {
    it(`kvm-guest-memory.md d.1.3: a mismatch exits with the kind of the access, ${privacy}`, () => {
      const { t, vm } = world(privacy)
      const memfile = t.memory(vm, 0, 4)
      assert.deepEqual(seen(exitOf(t, vm, 'read', PAGE + 8, true)), fault(PAGE, true))
      if (privacy === 'populated') t.fallocate(memfile, 0, PAGE)
      else t.attributes(vm, 0, PAGE, true)
      t.ok({ type: 'exit.resume', vm, exit: [...t.vmState(vm).exits.keys()][0] ?? '', ret: -14 })
      assert.deepEqual(seen(exitOf(t, vm, 'write', 0, false)), fault(0, false))
    })
  }

  it('kvm-guest-memory.md d.1.3: the mismatch precedes the slot test: a private access to a hole is no MMIO', () => {
    const { t, vm } = world('attributes')
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0x5000, true)), fault(0x5000, true))
  })

  it('kvm-guest-memory.md d.1.3: a shared access to a private hole is a mismatch, no MMIO', () => {
    const { t, vm } = world('attributes')
    t.attributes(vm, 0, PAGE, true)
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0, false)), fault(0, false))
  })

  it('kvm-guest-memory.md d.1.4: no slot, shared: MMIO at the byte address, which waits for nobody', () => {
    const { t, vm } = world('attributes')
    const exit = exitOf(t, vm, 'write', 0x5008, false)
    assert.deepEqual([exit.reason, exit.gpa, exit.id], ['KVM_EXIT_MMIO', '0x5008', null])
    assert.equal(t.vmState(vm).exits.size, 0)
  })

  it('kvm-guest-memory.md d.1.4: no slot, private: the memory exit', () => {
    const { t, vm } = world('attributes')
    t.attributes(vm, 0, PAGE, true)
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0, true)), fault(0, true))
  })

  it('kvm-guest-memory.md d.1.7: private, slot without a memfile: exit EFAULT', () => {
    const { t, vm } = world('attributes')
    t.slot(vm, 0, 0, PAGE)
    t.attributes(vm, 0, PAGE, true)
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0, true)), fault(0, true))
  })

  it('kvm-guest-memory.md d.1.7, b.3: private, file closed: exit EFAULT', () => {
    const { t, vm } = world('attributes')
    const memfile = t.memory(vm, 0, 1)
    t.attributes(vm, 0, PAGE, true)
    t.write(vm, 0, 1)
    t.ok({ type: 'memfile.delete', memfile })
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0, true)), fault(0, true))
  })

  it('kvm-guest-memory.md d.1.7: private, absent: allocated, zero; out of memory: exit ENOMEM', () => {
    const { t, vm } = world('attributes', 2)
    const memfile = t.memory(vm, 0, 4)
    t.attributes(vm, 0, 4 * PAGE, true)
    assert.equal(t.read(vm, 0)[0], 0)
    assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 1)
    assert.deepEqual(seen(exitOf(t, vm, 'read', PAGE, true)), fault(PAGE, true, 'ENOMEM'))
  })

  it('kvm-guest-memory.md d.1.7: the errno of the hardware’s prepare passes through', () => {
    const { t, vm, knobs } = world('attributes')
    t.memory(vm, 0, 4)
    t.attributes(vm, 0, 4 * PAGE, true)
    knobs.refuseAssign = true
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0, true)), fault(0, true, 'EIO'))
  })

  it('kvm-guest-memory.md d.1.8: shared, nothing mapped at the hva: exit EFAULT', () => {
    const { t, vm } = world('populated')
    t.slot(vm, 0, 0, PAGE, { hva: 'none' })
    assert.deepEqual(seen(exitOf(t, vm, 'read', 0)), fault(0, false))
  })

  it('kvm-guest-memory.md d.1.8: a write to a READONLY slot is MMIO, mapped already or not', () => {
    const { t, vm } = world('populated')
    t.slot(vm, 0, 0, 2 * PAGE, { readOnly: true })
    assert.equal(exitOf(t, vm, 'write', 4).reason, 'KVM_EXIT_MMIO')
    assert.equal(t.read(vm, 4)[0], 0)
    const exit = exitOf(t, vm, 'write', 4)
    assert.deepEqual([exit.reason, exit.gpa], ['KVM_EXIT_MMIO', '0x4'])
  })

  it('kvm-guest-memory.md d.1: an exit not mended repeats for ever', () => {
    const { t, vm } = world('attributes')
    t.memory(vm, 0, 4)
    for (let round = 0; round < 3; round++) {
      const exit = exitOf(t, vm, 'read', 0, true)
      const { result } = t.ok({ type: 'exit.resume', vm, exit: exit.id ?? '', ret: 0 })
      const again = (result as { exit: Exit }).exit
      assert.deepEqual(seen(again), fault(0, true))
      t.ok({ type: 'exit.resume', vm, exit: again.id ?? '', ret: -14 })
    }
  })

  it('kvm-guest-memory.md a.3: played by gmemd, the VMM converts what the access asks for, each way', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const { backend } = accessKindBackend()
      const t = new TestHost({ backend })
      const vm = t.vm({ privacy })
      t.memory(vm, 0, 4)
      t.write(vm, 0, 0x11, PAGE, { private: true })
      assert.equal(t.kinds(vm, 0, 4), 'Psss')
      const value = t.access(vm, 'read', 0, 1, { private: false })
      assert.equal((value.exits as Exit[]).length, 1)
      assert.equal(t.kinds(vm, 0, 4), 'ssss')
      assert.equal(t.read(vm, 0, 1, { private: true })[0], 0)
    }
  })

  it('an access over several pages stops where it must and tells how far it came', () => {
    const { t, vm } = world('populated')
    t.slot(vm, 0, 0, 2 * PAGE)
    const value = t.access(vm, 'write', PAGE + 100, filled(5, 2 * PAGE))
    assert.deepEqual([value.outcome, value.completed], ['exit', PAGE - 100])
    assert.equal(t.read(vm, 2 * PAGE - 1)[0], 5)
  })

  it('an access beyond 2^52, by no vCPU, or before others is refused', () => {
    const { t, vm } = world('populated')
    t.slot(vm, 0, hex(2n ** 52n - 4096n), PAGE)
    t.read(vm, hex(2n ** 52n - 1n))
    assert.equal(t.refused(accessCommand(vm, 'read', hex(2n ** 52n - 1n), 2)).code, 'gpa-beyond-limit')
    assert.equal(t.refused(accessCommand(vm, 'read', 0, 1, { vcpu: 8 })).code, 'no-such-vcpu')
  })
})

describe('the level of a mapping', () => {
  const FOLIO = { span: 512 }
  /** Slots of memory in 2 MiB folios, and the span that a private access to `gpa` is mapped with. */
  const rows: [string, (t: TestHost, vm: string) => number, number][] = [
    [
      'd.2: order-0 folios: always 4K',
      (t, vm) => {
        t.memory(vm, 0, 1024)
        return 0
      },
      1,
    ],
    [
      'd.2: a folio of 2 MiB, all congruent',
      (t, vm) => {
        t.memory(vm, 0, 1024, FOLIO)
        return MIB2 + PAGE
      },
      512,
    ],
    [
      'd.2: the aligned block is not wholly inside the slot',
      (t, vm) => {
        const memfile = t.memfile(1024, vm, 512)
        t.slot(vm, 0, 0, MIB2 + PAGE, { memfile })
        return MIB2
      },
      1,
    ],
    [
      'd.2: the block before it is',
      (t, vm) => {
        const memfile = t.memfile(1024, vm, 512)
        t.slot(vm, 0, 0, MIB2 + PAGE, { memfile })
        return 0
      },
      512,
    ],
    [
      'd.2: gpa and file offset are not congruent',
      (t, vm) => {
        const memfile = t.memfile(2048, vm, 512)
        t.slot(vm, 0, 0, 2 * MIB2, { memfile, memfileOffset: PAGE })
        return 0
      },
      1,
    ],
    [
      'd.2: gpa and hva are not congruent: no block in the whole slot, also for private faults',
      (t, vm) => {
        t.memory(vm, 0, 1024, { ...FOLIO, hva: PAGE })
        return MIB2
      },
      1,
    ],
    [
      'd.2: gpa and hva are congruent',
      (t, vm) => {
        t.memory(vm, 0, 1024, { ...FOLIO, hva: MIB2 })
        return MIB2
      },
      512,
    ],
    [
      'd.3: attributes differ inside the block: 4K',
      (t, vm) => {
        t.memory(vm, 0, 1024, FOLIO)
        t.attributes(vm, 5 * PAGE, PAGE, false)
        return 0
      },
      1,
    ],
    [
      'd.3: attributes differ in the next block only',
      (t, vm) => {
        t.memory(vm, 0, 1024, FOLIO)
        t.attributes(vm, MIB2 + 5 * PAGE, PAGE, false)
        return 0
      },
      512,
    ],
    [
      'd.3: attributes set before the slot exists count',
      (t, vm) => {
        t.attributes(vm, 5 * PAGE, PAGE, false)
        t.memory(vm, 0, 1024, FOLIO)
        return 0
      },
      1,
    ],
    [
      'd.3: the differing page set back: large again',
      (t, vm) => {
        t.memory(vm, 0, 1024, FOLIO)
        t.attributes(vm, 5 * PAGE, PAGE, false)
        t.read(vm, 0, 1, { private: true })
        t.attributes(vm, 5 * PAGE, PAGE, true)
        return PAGE
      },
      512,
    ],
  ]
  for (const [name, prepare, expected] of rows) {
    it(`kvm-guest-memory.md ${name}`, () => {
      const { t, vm } = world('attributes')
      t.attributes(vm, 0, 16 * MIB2, true)
      const gpa = prepare(t, vm)
      t.read(vm, gpa, 1, { private: true })
      assert.equal(spanAt(t, vm, gpa / PAGE), expected)
    })
  }

  it('kvm-guest-memory.md d.2: 1 GiB folios, from the largest that fits down', () => {
    const GIB = 262144
    const { backend, knobs } = accessKindBackend()
    const t = new TestHost({ backend, pages: 4 * GIB })
    const vm = t.vm({ privacy: 'attributes' })
    t.attributes(vm, 0, 8 * GIB * PAGE, true)
    const memfile = t.memfile(2 * GIB, vm, GIB)
    t.slot(vm, 0, 0, (GIB + 1024) * PAGE, { memfile })
    const span = (gfn: number): number => {
      t.read(vm, gfn * PAGE, 1, { private: true })
      return spanAt(t, vm, gfn)
    }
    assert.deepEqual([span(GIB - 1), span(GIB), span(GIB + 1023)], [GIB, 512, 512])
    t.attributes(vm, 700 * PAGE, PAGE, false)
    assert.deepEqual([span(0), span(512), span(1024)], [512, 1, 512])
    knobs.span = 1
    t.attributes(vm, 2048 * PAGE, MIB2, false)
    t.attributes(vm, 2048 * PAGE, MIB2, true)
    assert.equal(span(2048), 1)
  })

  it('kvm-guest-memory.md d.2: the hardware is given whole blocks, or single pages', () => {
    const { t, vm, knobs } = world('attributes')
    t.attributes(vm, 0, 16 * MIB2, true)
    const memfile = t.memory(vm, 0, 512, FOLIO)
    const small = t.memory(vm, 4 * MIB2, 4, { slot: 1 })
    t.fallocate(memfile, 0, MIB2)
    t.fallocate(small, 0, 4 * PAGE)
    assert.equal(knobs.assigned.length, 0)
    t.read(vm, 7 * PAGE, 1, { private: true })
    t.read(vm, 4 * MIB2 + PAGE, 1, { private: true })
    assert.deepEqual(
      knobs.assigned.map((line) => line.split(' ').filter((_, index) => index !== 1)),
      [
        ['0', '512', '512'],
        ['2049', '1', '1'],
      ],
    )
  })

  it('kvm-guest-memory.md d.4: punching part of a block unmaps all of it, and the hardware first', () => {
    const { t, vm, knobs } = world('attributes')
    t.attributes(vm, 0, 16 * MIB2, true)
    const memfile = t.memory(vm, 0, 1024, FOLIO)
    t.read(vm, 0, 1, { private: true })
    t.read(vm, MIB2, 1, { private: true })
    t.punch(memfile, 0, MIB2)
    assert.deepEqual(knobs.released, ['0 512'])
    assert.deepEqual([spanAt(t, vm, 0), spanAt(t, vm, 511), spanAt(t, vm, 512)], [0, 0, 512])
  })

  it('kvm-guest-memory.md d.4: an attribute in the middle of a block unmaps all of it', () => {
    const { t, vm } = world('attributes')
    t.attributes(vm, 0, 16 * MIB2, true)
    t.memory(vm, 0, 1024, FOLIO)
    t.read(vm, 0, 1, { private: true })
    t.read(vm, MIB2, 1, { private: true })
    t.attributes(vm, 9 * PAGE, PAGE, false)
    assert.deepEqual([spanAt(t, vm, 0), spanAt(t, vm, 511), spanAt(t, vm, 512)], [0, 0, 512])
  })

  it('kvm-guest-memory.md d.4: deleting or moving a slot unmaps all of it', () => {
    const { t, vm } = world('populated')
    t.slot(vm, 0, 0, 4 * PAGE)
    t.write(vm, 0, 1, 4 * PAGE)
    t.slot(vm, 0, 2 * PAGE, 4 * PAGE)
    assert.deepEqual(
      [0, 1, 2, 3, 4, 5].map((gfn) => spanAt(t, vm, gfn)),
      [0, 0, 0, 0, 0, 0],
    )
    assert.equal(t.read(vm, 5 * PAGE)[0], 1)
    t.ok({ type: 'memslot.delete', vm, slot: 0 })
    assert.equal(spanAt(t, vm, 5), 0)
  })

  it('kvm-guest-memory.md a.1, d.4: populating unmaps the shared pages of the range, punching the private ones', () => {
    const { t, vm } = world('populated')
    const memfile = t.memory(vm, 0, 4)
    t.write(vm, 0, 1, 4 * PAGE)
    t.fallocate(memfile, PAGE, 2 * PAGE)
    assert.deepEqual(
      [0, 1, 2, 3].map((gfn) => spanAt(t, vm, gfn)),
      [1, 0, 0, 1],
    )
    t.read(vm, PAGE, 1, { private: true })
    t.punch(memfile, 0, 4 * PAGE)
    assert.equal(spanAt(t, vm, 1), 0)
  })
})

describe('measured population', () => {
  const update = (vm: string, gpa: number, pages: number, first = 0, length = pages * PAGE) =>
    ({
      type: 'launch.update',
      vm,
      gpa,
      length,
      data: Buffer.alloc(pages * PAGE, first).toString('base64'),
      options: {},
    }) as const

  it('kvm-guest-memory.md c.7: length 0, unaligned, or beyond 2^52 → EINVAL', () => {
    const { t, vm } = world('populated')
    t.memory(vm, 0, 4)
    for (const [gpa, length] of [
      [0, 0],
      [0, 1],
      [1, PAGE],
      [2 ** 52, PAGE],
    ] as const) {
      assert.equal(t.errno(update(vm, gpa, 1, 0, length)), 'EINVAL')
    }
  })

  it('kvm-guest-memory.md c.7: slot missing or without a memfile → EINVAL', () => {
    const { t, vm } = world('populated')
    t.slot(vm, 0, 0, 4 * PAGE)
    assert.equal(t.errno(update(vm, 0, 1)), 'EINVAL')
    assert.equal(t.errno(update(vm, 0x100000, 1)), 'EINVAL')
  })

  it('kvm-guest-memory.md c.7: the attribute is not PRIVATE → the technology’s errno', () => {
    const { t, vm } = world('attributes')
    t.memory(vm, 0, 4)
    assert.equal(t.errno(update(vm, 0, 1)), 'EIO')
    t.attributes(vm, 0, 4 * PAGE, true)
    t.ok(update(vm, 0, 1))
  })

  it('kvm-guest-memory.md c.7: n pages done → where to go on', () => {
    const { t, vm } = world('attributes')
    t.memory(vm, 0, 4)
    t.attributes(vm, 0, 2 * PAGE, true)
    const { value } = t.accepted(update(vm, 0, 4))
    assert.equal(value.completed, 2 * PAGE)
    assert.deepEqual(value.next, { gpa: hex(2 * PAGE), length: 2 * PAGE })
    assert.equal((value.stopped as { errno: string }).errno, 'EIO')
  })

  it('kvm-guest-memory.md c.7: clipped to the end of the slot', () => {
    const { t, vm } = world('populated')
    t.memory(vm, 0, 2)
    assert.equal(t.accepted(update(vm, 0, 4)).value.completed, 2 * PAGE)
  })

  it('kvm-guest-memory.md c.7: a first page refused by the firmware frees what was taken for it, and is told', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const { t, vm } = world(privacy)
      const memfile = t.memory(vm, 0, 4)
      if (privacy === 'attributes') t.attributes(vm, 0, 4 * PAGE, true)
      const free = t.free()
      const { partial } = t.partial(update(vm, 0, 1, 0xee))
      assert.deepEqual([partial.errno, partial.hardware], ['EIO', { status: 'TEST', code: 1 }])
      assert.deepEqual([t.host.state.memfiles.get(memfile)?.allocated, t.free()], [0, free])
      t.fallocate(memfile, 0, PAGE)
      assert.equal(t.errno(update(vm, 0, 1, 0xee)), 'EIO')
    }
  })

  it('kvm-guest-memory.md c.7: no memory for the first page → ENOMEM', () => {
    const { backend } = accessKindBackend()
    const t = new TestHost({ backend, pages: 1 })
    const vm = t.vm()
    t.memory(vm, 0, 4)
    assert.equal(t.errno(update(vm, 0, 1)), 'ENOMEM')
  })
})
