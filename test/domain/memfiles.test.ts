import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MIB2, PAGE, TestHost } from '../support/domain.ts'

const FLAGS = { userInaccessible: true, unmovable: true, unreclaimable: true } as const
const create = (size: number | string, span = 1) =>
  ({ type: 'memfile.create', name: null, size, span, placed: false }) as const
const bind = (memfile: string, vm: string) => ({ type: 'memfile.bind', memfile, vm, adopt: null }) as const
const consume = (memfile: string, name: string, flags: Partial<typeof FLAGS> | Record<string, boolean> = {}) =>
  ({ type: 'memfile.consume', memfile, name, flags: { ...FLAGS, ...flags } }) as const

describe('creating a memfile', () => {
  const rows: [string, number | string, number, string | undefined][] = [
    ['c.1: size 0 → EINVAL', 0, 1, 'EINVAL'],
    ['c.1: size 1 → EINVAL', 1, 1, 'EINVAL'],
    ['c.1: size 4095 → EINVAL', 4095, 1, 'EINVAL'],
    ['c.1: size 4097 → EINVAL', 4097, 1, 'EINVAL'],
    ['c.1: size 2^63 → EINVAL', '0x8000000000000000', 1, 'EINVAL'],
    ['c.1: size 2^64 - 4096 → EINVAL', '0xfffffffffffff000', 1, 'EINVAL'],
    ['b.5: a size that is no multiple of the folio → EINVAL', MIB2 + PAGE, 512, 'EINVAL'],
    ['c.1: one page', PAGE, 1, undefined],
    ['c.1: even size 2^63 - 4096', '0x7ffffffffffff000', 1, undefined],
    ['b.5: one folio of 2 MiB', MIB2, 512, undefined],
  ]
  for (const [name, size, span, errno] of rows) {
    it(`kvm-guest-memory.md ${name}`, () => {
      const t = new TestHost()
      if (errno === undefined) {
        const made = t.ok(create(size, span))
        assert.equal(made.state, 'unbound')
        assert.equal(BigInt(Number(made.size)), BigInt(size))
        assert.equal(made.allocated, 0)
      } else assert.equal(t.errno(create(size, span)), errno)
    })
  }

  it('kvm-guest-memory.md e (guest_memfd_test): each size of 1..4095 bytes → EINVAL', () => {
    const t = new TestHost()
    for (let size = 1; size < PAGE; size++) {
      const applied = t.host.apply(create(size), 2)
      assert.equal(applied.accepted ? 'accepted' : applied.refusal.errno, 'EINVAL')
    }
  })

  it('kvm-guest-memory.md e (guest_memfd_test): two files keep their own sizes and identities', () => {
    const t = new TestHost()
    const [one, two] = [t.ok(create(PAGE)), t.ok(create(2 * PAGE))]
    assert.deepEqual([one.size, two.size], [PAGE, 2 * PAGE])
    assert.notEqual(one.id, two.id)
  })

  it('kvm-guest-memory.md c.1: nothing is allocated, whatever the size', () => {
    const t = new TestHost()
    const before = t.free()
    t.ok(create('0x7ffffffffffff000'))
    assert.equal(t.free(), before)
  })
})

describe('a memfile from unbound to released', () => {
  it('kvm-guest-memory.md a.4: unbound, only bind and delete are legal', () => {
    const t = new TestHost()
    const memfile = t.memfile(4)
    const vm = t.vm()
    for (const type of ['memfile.fallocate', 'memfile.punch-hole'] as const) {
      const refusal = t.refused({ type, memfile, offset: 0, length: PAGE })
      assert.deepEqual([refusal.kind, refusal.code], ['conflict', 'memfile-unbound'])
      assert.deepEqual([refusal.currentState, refusal.allowedStates], ['unbound', ['bound', 'released']])
    }
    assert.equal(t.refused(consume(memfile, 'vfio')).code, 'memfile-unbound')
    const slot = {
      slot: 0,
      gpa: 0,
      size: PAGE,
      memfileOffset: 0,
      hva: 'auto',
      readOnly: false,
      dirtyLog: false,
    } as const
    assert.equal(t.errno({ type: 'memslot.set', vm, memfile, ...slot }), 'EINVAL')
    t.ok({ type: 'memfile.delete', memfile })
    assert.equal(t.refused({ type: 'memfile.delete', memfile }).kind, 'not-found')
  })

  it('kvm-guest-memory.md a.4: an unbound file takes a wrong range as a conflict, not as EINVAL', () => {
    const t = new TestHost()
    const memfile = t.memfile(4)
    assert.equal(t.errno({ type: 'memfile.fallocate', memfile, offset: 1, length: 0 }), 'memfile-unbound')
  })

  it('kvm-guest-memory.md a.4: binds once, to one VM', () => {
    const t = new TestHost()
    const [first, second] = [t.vm(), t.vm()]
    const memfile = t.memfile(4)
    assert.equal(t.bind(memfile, first).state, 'bound')
    for (const vm of [first, second]) {
      const refusal = t.refused(bind(memfile, vm))
      assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'memfile-not-unbound', 'bound'])
    }
  })

  it('kvm-guest-memory.md b.3: its VM gone, it is released, empty, still works, and never binds again', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 4)
    t.fallocate(memfile, 0, 4 * PAGE)
    t.deleteVm(vm)
    const state = t.host.state.memfiles.get(memfile)
    assert.deepEqual([state?.state, state?.vm, state?.allocated, state?.bindings.length], ['released', null, 0, 0])
    assert.equal(t.refused(bind(memfile, t.vm())).currentState, 'released')
    assert.equal(t.fallocate(memfile, 0, 2 * PAGE).populatedBytes, 2 * PAGE)
    assert.equal(t.punch(memfile, 0, 4 * PAGE).freedBytes, 2 * PAGE)
  })

  it('a bind to a VM or of a memfile that is not there is not found, the VM first', () => {
    const t = new TestHost()
    assert.equal(t.refused(bind('memfile-99', 'vm-99')).code, 'no-such-vm')
    assert.equal(t.refused(bind('memfile-99', t.vm())).code, 'no-such-memfile')
  })
})

describe('the memfile notifier', () => {
  it('kvm-guest-memory.md a.4: the VM registers with the flags of its technology', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memfile(4, vm)
    const consumers = t.host.state.memfiles.get(memfile)?.consumers
    assert.deepEqual(consumers, [{ name: vm, flags: FLAGS, populated: 0, invalidated: 0 }])
  })

  it('kvm-guest-memory.md a.4: a consumer that agrees is taken and told of every page', () => {
    const t = new TestHost()
    const memfile = t.memfile(8, t.vm())
    t.ok(consume(memfile, 'vfio'))
    t.fallocate(memfile, 0, 4 * PAGE)
    t.fallocate(memfile, 0, 8 * PAGE)
    t.punch(memfile, PAGE, 2 * PAGE)
    t.punch(memfile, 0, 3 * PAGE)
    const consumers = t.host.state.memfiles.get(memfile)?.consumers ?? []
    for (const { populated, invalidated } of consumers) assert.deepEqual([populated, invalidated], [8, 3])
    assert.equal(consumers.length, 2)
  })

  for (const flag of ['userInaccessible', 'unmovable', 'unreclaimable'] as const) {
    it(`kvm-guest-memory.md a.4: a consumer that disagrees on ${flag} → EINVAL`, () => {
      const t = new TestHost()
      const memfile = t.memfile(4, t.vm())
      const refusal = t.refused(consume(memfile, 'vfio', { [flag]: false }))
      assert.deepEqual([refusal.errno, refusal.code], ['EINVAL', 'notifier-flags-conflict'])
    })
  }

  it('kvm-guest-memory.md a.4: a name is taken once, and that is found before the flags', () => {
    const t = new TestHost()
    const memfile = t.memfile(4, t.vm())
    t.ok(consume(memfile, 'vfio'))
    assert.equal(t.errno(consume(memfile, 'vfio', { unmovable: false })), 'EEXIST')
  })

  it('kvm-guest-memory.md a.4: released, the consumers are gone and the first to register decides', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memfile(4, vm)
    t.deleteVm(vm)
    t.ok(consume(memfile, 'vfio', { unmovable: false }))
    assert.equal(t.errno(consume(memfile, 'vdpa')), 'EINVAL')
  })

  it('what a reply shows of the consumers is as of its own command', () => {
    const t = new TestHost()
    const memfile = t.memfile(4, t.vm())
    const reply = t.fallocate(memfile, 0, PAGE)
    const shown = structuredClone(reply)
    t.fallocate(memfile, 0, 4 * PAGE)
    t.ok(consume(memfile, 'vfio'))
    assert.deepEqual(reply, shown)
  })
})
