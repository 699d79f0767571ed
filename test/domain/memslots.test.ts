import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { CommandOf } from '../../src/domain/commands.ts'
import { hex, MIB2, PAGE, slotCommand, TestHost } from '../support/domain.ts'

type Set = Partial<CommandOf<'memslot.set'>>
const TOP = 2n ** 64n
const GPA = 0x1000000

/** A VM with a plain slot 1 at 16 MiB and a memfile of four pages; another VM with a memfile of its own. */
function world() {
  const t = new TestHost()
  const vm = t.vm()
  t.slot(vm, 1, GPA, 4 * PAGE, { hva: hex(0x10000000) })
  return { t, vm, memfile: t.memfile(4, vm), other: t.memfile(4, t.vm()), unbound: t.memfile(4) }
}

const HVA = hex(0x10000000)
type World = ReturnType<typeof world>
type Row = readonly [string, (world: World) => Set, string | 'created' | 'changed' | 'unchanged' | 'deleted']

/** Requests beside slot 0 at gpa 0 of one page without a memfile. Rows in the order in which the checks win. */
const ROWS: readonly Row[] = [
  ['memfile with dirtyLog → EINVAL', ({ memfile }) => ({ memfile, dirtyLog: true }), 'flags-conflict'],
  ['memfile with readOnly → EINVAL', ({ memfile }) => ({ memfile, readOnly: true }), 'flags-conflict'],
  ['flags come before the size', ({ memfile }) => ({ memfile, readOnly: true, size: 1 }), 'flags-conflict'],
  ['flags on a delete too', ({ memfile }) => ({ memfile, readOnly: true, slot: 1, size: 0 }), 'flags-conflict'],
  ['size unaligned → EINVAL', () => ({ size: PAGE + 1 }), 'size-unaligned'],
  ['gpa unaligned → EINVAL', () => ({ gpa: 1 }), 'gpa-unaligned'],
  ['gpa unaligned on a delete too', () => ({ gpa: 1, slot: 1, size: 0 }), 'gpa-unaligned'],
  ['hva unaligned → EINVAL', () => ({ hva: 1 }), 'hva-unaligned'],
  ['hva not user space → EINVAL', () => ({ hva: hex(2n ** 47n) }), 'hva-not-user'],
  ['hva range leaves user space → EINVAL', () => ({ hva: hex(2n ** 47n - 4096n), size: 2 * PAGE }), 'hva-not-user'],
  ['tagged hva on a delete too', () => ({ hva: hex(2n ** 63n), slot: 1, size: 0 }), 'hva-not-user'],
  ['memfile offset unaligned → EINVAL', ({ memfile }) => ({ memfile, memfileOffset: 1 }), 'memfile-offset-unaligned'],
  [
    'memfile offset wraps → EINVAL',
    ({ memfile }) => ({ memfile, memfileOffset: hex(TOP - 4096n) }),
    'memfile-offset-wraps',
  ],
  [
    'memfile offset wraps, beats EEXIST',
    ({ memfile }) => ({ memfile, memfileOffset: hex(TOP - 4096n), gpa: GPA }),
    'memfile-offset-wraps',
  ],
  ['offset ignored without a memfile', () => ({ memfileOffset: 1 }), 'created'],
  ['slot id 32764 → EINVAL', () => ({ slot: 32764 }), 'slot-out-of-range'],
  ['slot id 32763', () => ({ slot: 32763 }), 'created'],
  ['slot id on a delete too', () => ({ slot: 32764, size: 0 }), 'slot-out-of-range'],
  ['gpa + size wraps → EINVAL', () => ({ gpa: hex(TOP - 4096n) }), 'gpa-wraps'],
  ['2^31 pages → EINVAL', () => ({ size: hex(2n ** 43n) }), 'slot-too-large'],
  ['2^31 - 1 pages', () => ({ gpa: 2 ** 40, size: hex(2n ** 43n - 4096n) }), 'created'],
  ['size 0, slot absent → EINVAL', () => ({ size: 0 }), 'no-such-slot'],
  ['size 0, slot present → deleted', () => ({ slot: 1, size: 0, gpa: GPA }), 'deleted'],
  ['delete ignores a wrong gpa and a bad fd', () => ({ slot: 1, size: 0, gpa: 0, memfile: 'memfile-99' }), 'deleted'],
  ['present, with a memfile → EINVAL', ({ memfile }) => ({ slot: 1, gpa: GPA, memfile }), 'slot-exists'],
  ['present, with a bad fd → EINVAL', () => ({ slot: 1, gpa: GPA, memfile: 'memfile-99' }), 'slot-exists'],
  ['present, hva differs → EINVAL', () => ({ slot: 1, gpa: GPA, size: 4 * PAGE, hva: PAGE }), 'hva-changed'],
  ['present, size differs → EINVAL', () => ({ slot: 1, gpa: GPA, size: 8 * PAGE, hva: HVA }), 'size-changed'],
  [
    'present, READONLY toggled → EINVAL',
    () => ({ slot: 1, gpa: GPA, size: 4 * PAGE, hva: HVA, readOnly: true }),
    'read-only-toggled',
  ],
  ['present, the same → no-op', () => ({ slot: 1, gpa: GPA, size: 4 * PAGE, hva: HVA }), 'unchanged'],
  ['present, hva left out → no-op', () => ({ slot: 1, gpa: GPA, size: 4 * PAGE }), 'unchanged'],
  ['present, other LOG_DIRTY → changed', () => ({ slot: 1, gpa: GPA, size: 4 * PAGE, dirtyLog: true }), 'changed'],
  ['move', () => ({ slot: 1, gpa: GPA + PAGE, size: 4 * PAGE }), 'changed'],
  ['move and flags together', () => ({ slot: 1, gpa: 0, size: 4 * PAGE, dirtyLog: true }), 'changed'],
  ['move beyond 2^52 → EINVAL', () => ({ slot: 1, gpa: hex(2n ** 52n - 4096n), size: 4 * PAGE }), 'gpa-beyond-limit'],
  ['create over another slot → EEXIST', () => ({ gpa: GPA + PAGE }), 'EEXIST'],
  ['create around another slot → EEXIST', () => ({ gpa: GPA - PAGE, size: 16 * PAGE }), 'EEXIST'],
  ['abutting below is fine', () => ({ gpa: GPA - PAGE }), 'created'],
  ['abutting above is fine', () => ({ gpa: GPA + 4 * PAGE }), 'created'],
  ['a bad fd on a taken gpa → EEXIST', () => ({ gpa: GPA, memfile: 'memfile-99' }), 'EEXIST'],
  ['fd not open → EBADF', () => ({ memfile: 'memfile-99' }), 'EBADF'],
  ['EBADF comes before the limit of gpa', () => ({ gpa: hex(2n ** 52n), memfile: 'memfile-99' }), 'EBADF'],
  ['memfile of another VM → EINVAL', ({ other: memfile }) => ({ memfile }), 'memfile-not-this-vm'],
  ['unbound memfile → EINVAL', ({ unbound: memfile }) => ({ memfile }), 'memfile-not-this-vm'],
  [
    'offset + size > file size → EINVAL',
    ({ memfile }) => ({ memfile, memfileOffset: PAGE, size: 4 * PAGE }),
    'beyond-memfile',
  ],
  [
    'an offset beyond 2^63 does not pass as on 6.18',
    ({ memfile }) => ({ memfile, memfileOffset: '0x7fffffffffe00000', size: MIB2 }),
    'beyond-memfile',
  ],
  ['gpa end beyond 2^52 → EINVAL', () => ({ gpa: hex(2n ** 52n) }), 'gpa-beyond-limit'],
  ['gpa end at 2^52', () => ({ gpa: hex(2n ** 52n - 4096n) }), 'created'],
  ['hva 0 is fine', () => ({ hva: 0 }), 'created'],
  ['the same hva serves many slots', () => ({ hva: HVA }), 'created'],
  ['nothing mapped at the hva is fine', () => ({ hva: 'none' }), 'created'],
]

const NOT_EINVAL = ['EEXIST', 'EBADF']

describe('memslot bind', () => {
  for (const [name, request, expected] of ROWS) {
    it(`kvm-guest-memory.md c.4: ${name}`, () => {
      const made = world()
      const command = { ...slotCommand(made.vm, 0, 0, PAGE), ...request(made) }
      if (['created', 'changed', 'unchanged', 'deleted'].includes(expected)) {
        assert.equal(made.t.ok(command).change, expected)
        return
      }
      const refusal = made.t.refused(command)
      if (NOT_EINVAL.includes(expected)) assert.equal(refusal.errno, expected)
      else assert.deepEqual([refusal.errno, refusal.code], ['EINVAL', expected])
    })
  }

  it('kvm-guest-memory.md c.4: a page of the file range that is bound → EINVAL, and freed page by page', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memfile(16, vm)
    t.slot(vm, 0, 0, 8 * PAGE, { memfile, memfileOffset: 4 * PAGE })
    for (const [offset, size] of [
      [4, 1],
      [11, 1],
      [0, 5],
      [11, 5],
      [0, 16],
    ] as const) {
      const refusal = t.refused(slotCommand(vm, 1, 0x100000, size * PAGE, { memfile, memfileOffset: offset * PAGE }))
      assert.deepEqual([refusal.errno, refusal.code], ['EINVAL', 'memfile-range-bound'])
    }
    t.slot(vm, 1, 0x100000, 4 * PAGE, { memfile })
    t.slot(vm, 2, 0x200000, 4 * PAGE, { memfile, memfileOffset: 12 * PAGE })
    t.ok({ type: 'memslot.delete', vm, slot: 0 })
    t.slot(vm, 3, 0x300000, PAGE, { memfile, memfileOffset: 6 * PAGE })
  })

  it('kvm-guest-memory.md c.4: a create that fails after the bind unbinds', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memfile(4, vm)
    assert.equal(t.errno(slotCommand(vm, 0, hex(2n ** 52n), 4 * PAGE, { memfile })), 'EINVAL')
    t.slot(vm, 0, 0, 4 * PAGE, { memfile })
  })

  it('kvm-guest-memory.md c.4: a slot with a memfile is only created and deleted', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 4)
    for (const change of [{}, { memfile }, { gpa: 4 * PAGE }, { dirtyLog: true }, { readOnly: true }]) {
      assert.equal(t.errno({ ...slotCommand(vm, 0, 0, 4 * PAGE), ...change }), 'EINVAL')
    }
    t.ok({ type: 'memfile.delete', memfile })
    assert.equal(t.errno(slotCommand(vm, 0, 0, 4 * PAGE)), 'EINVAL')
    t.slot(vm, 0, 0, 0)
  })

  it('kvm-guest-memory.md c.4: a refused move leaves the slot where it was', () => {
    const t = new TestHost()
    const vm = t.vm()
    t.slot(vm, 0, 0, 4 * PAGE)
    t.slot(vm, 1, 0x100000, 4 * PAGE)
    t.write(vm, 0, 7)
    assert.equal(t.errno(slotCommand(vm, 0, 0x101000, 4 * PAGE)), 'EEXIST')
    assert.equal(t.read(vm, 0)[0], 7)
    t.slot(vm, 0, 2 * PAGE, 4 * PAGE)
    assert.equal(t.read(vm, 2 * PAGE)[0], 7)
  })

  it('kvm-guest-memory.md c.4: delete keeps the contents of the file, which reappear elsewhere', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const t = new TestHost()
      const vm = t.vm({ privacy })
      const memfile = t.memory(vm, 0, 4)
      if (privacy === 'attributes') t.attributes(vm, 0, 64 * PAGE, true)
      t.fallocate(memfile, 0, 4 * PAGE)
      t.write(vm, PAGE, 0x66, PAGE)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      t.slot(vm, 5, 32 * PAGE, 2 * PAGE, { memfile, memfileOffset: PAGE })
      assert.equal(t.read(vm, 32 * PAGE)[0], 0x66)
    }
  })

  it('kvm-guest-memory.md e (set_memory_region_test): NR_MEMSLOTS slots, and one more → EINVAL', () => {
    const t = new TestHost()
    const vm = t.vm()
    for (let slot = 0; slot < 32764; slot++) {
      const applied = t.host.apply(slotCommand(vm, slot, slot * MIB2, MIB2, { hva: 0 }), 3 + slot)
      if (!applied.accepted) assert.fail(applied.refusal.detail)
    }
    assert.equal(t.errno(slotCommand(vm, 32764, 32764 * MIB2, MIB2)), 'EINVAL')
  })

  it('memory of a slot’s own is user address space, however much came before', () => {
    const t = new TestHost()
    const vm = t.vm()
    const size = hex(2n ** 43n - 4096n)
    let hva = 0n
    let made = 0
    for (; made < 100; made++) {
      const command = slotCommand(vm, made, hex(BigInt(made) * 2n ** 43n), size)
      const applied = t.apply(command)
      if (!applied.accepted) {
        assert.equal(t.errno(command), 'ENOMEM')
        break
      }
      hva = BigInt((applied.value.shared as { hva: string }).hva)
      assert.ok(hva + 2n ** 43n - 4096n <= 2n ** 47n)
    }
    assert.ok(made >= 8, `${made} slots of 8 TiB`)
  })
})
