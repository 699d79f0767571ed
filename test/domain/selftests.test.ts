import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import type { PrivacyModel } from '../../src/domain/state.ts'
import { hex, MIB2, PAGE, slotCommand, TestHost } from '../support/domain.ts'

/** Scenarios of tools/testing/selftests/kvm, as kvm-guest-memory.md (e) tells them. */

const BASE = 0x100000000
const FIRST_SLOT = 10
const RANGES = [
  [0, PAGE],
  [0, MIB2],
  [PAGE, PAGE],
  [PAGE, MIB2],
  [MIB2, PAGE],
] as const

/** A VM of private_mem_conversions_test: a region a vCPU, just larger than 2 MiB, over `slots` slots of one file. */
class Conversions {
  readonly t = new TestHost({ pages: 32768 })
  readonly vm: string
  readonly memfile: string
  readonly region = MIB2 + 2 * PAGE
  readonly size: number
  readonly vcpus: number

  constructor(privacy: PrivacyModel, vcpus: number, slots: number) {
    this.vcpus = vcpus
    this.vm = this.t.vm({ privacy, vcpus, conversion: 'manual' })
    this.size = this.region * vcpus
    this.memfile = this.t.memfile(this.size / PAGE, this.vm)
    const slotSize = this.size / slots
    for (let slot = 0; slot < slots; slot++) {
      const memfileOffset = slot * slotSize
      this.t.slot(this.vm, FIRST_SLOT + slot, BASE + memfileOffset, slotSize, { memfile: this.memfile, memfileOffset })
    }
  }

  /** The guest asks, and the exit handler of the selftest does what it does. */
  convert(vcpu: number, gpa: number, size: number, toPrivate: boolean, how: 'fallocate' | 'attributes' | 'both'): void {
    const { t, vm, memfile } = this
    const operation = toPrivate ? 'private' : 'shared'
    const { waiting } = t.pageStates(vm, [{ gpa, pages: size / PAGE, operation }], vcpu)
    assert.notEqual(waiting, undefined)
    if (how !== 'attributes') {
      if (toPrivate) t.fallocate(memfile, gpa - BASE, size)
      else t.punch(memfile, gpa - BASE, size)
    }
    if (how !== 'fallocate') t.attributes(vm, gpa, size, toPrivate)
    const exit = t.vmState(vm).vcpus[vcpu]?.waiting ?? ''
    t.ok({ type: 'exit.resume', vm, exit, ret: 0 })
  }

  fill(vcpu: number, gpa: number, size: number, value: number): void {
    this.t.write(this.vm, gpa, value, size, { vcpu })
  }

  guestSees(vcpu: number, gpa: number, size: number, value: number): void {
    this.same(this.t.read(this.vm, gpa, size, { vcpu }), value, `guest at ${hex(gpa)}`)
  }

  hostSees(gpa: number, size: number, value: number): void {
    this.same(this.t.hostRead(this.vm, gpa, size), value, `host at ${hex(gpa)}`)
  }

  same(bytes: Buffer, value: number, what: string): void {
    if (!bytes.equals(Buffer.alloc(bytes.length, value))) assert.fail(`${what}: not all 0x${value.toString(16)}`)
  }
}

/** guest_test_explicit_conversion. */
function explicitConversion(c: Conversions, vcpu: number, how: 'fallocate' | 'attributes' | 'both'): void {
  const base = BASE + vcpu * c.region
  const reset = () => c.fill(vcpu, base, c.region, 0xcc)
  c.fill(vcpu, base, c.region, 0xaa)
  c.hostSees(base, c.region, 0xaa)
  c.t.hostWrite(c.vm, base, 0xcc, c.region)
  c.guestSees(vcpu, base, c.region, 0xcc)
  for (const [offset, size] of RANGES) {
    const gpa = base + offset
    c.fill(vcpu, gpa, size, 0x11)
    c.hostSees(gpa, size, 0x11)
    c.convert(vcpu, gpa, size, true, how)
    c.fill(vcpu, gpa, size > PAGE ? PAGE : size, 0x22)
    c.hostSees(gpa, size, 0x11)
    if (size === PAGE) {
      c.guestSees(vcpu, gpa, size, 0x22)
      if (offset > 0) c.guestSees(vcpu, base, offset, 0xcc)
      c.guestSees(vcpu, gpa + size, c.region - offset - size, 0xcc)
    } else {
      for (let page = 0; page < size / PAGE; page += 64) {
        const at = gpa + page * PAGE
        if (page % 128 === 0) {
          c.hostSees(at, PAGE, 0x11)
          continue
        }
        c.convert(vcpu, at, PAGE, false, how)
        c.hostSees(at, PAGE, 0x11)
        c.t.hostWrite(c.vm, at, 0x33, PAGE)
        c.guestSees(vcpu, at, PAGE, 0x33)
      }
    }
    c.convert(vcpu, gpa, size, false, how)
    c.fill(vcpu, gpa, size, 0x33)
    c.hostSees(gpa, size, 0x33)
    c.t.hostWrite(c.vm, gpa, 0x44, size)
    c.guestSees(vcpu, gpa, size, 0x44)
    reset()
  }
  c.t.punch(c.memfile, vcpu * c.region, c.region)
}

/** guest_test_punch_hole: no exit happens for the refault. `precise`: only the range is touched. */
function punchHole(c: Conversions, vcpu: number, precise: boolean): void {
  const base = BASE + vcpu * c.region
  c.convert(vcpu, base, c.region, true, 'attributes')
  for (const [offset, size] of RANGES) {
    const [from, length] = precise ? [base + offset, size] : [base, c.region]
    c.t.punch(c.memfile, vcpu * c.region, c.region)
    c.fill(vcpu, from, length, 0xcc)
    c.guestSees(vcpu, from, length, 0xcc)
    c.t.punch(c.memfile, vcpu * c.region + offset, size)
    c.guestSees(vcpu, base + offset, size, 0)
    if (!precise && offset > 0) c.guestSees(vcpu, base, offset, 0xcc)
  }
  c.t.punch(c.memfile, vcpu * c.region, c.region)
  c.convert(vcpu, base, c.region, false, 'attributes')
}

describe('kvm-guest-memory.md e: private_mem_conversions_test', () => {
  for (const [vcpus, slots] of [
    [1, 1],
    [2, 2],
  ] as const) {
    for (const how of ['attributes', 'both'] as const) {
      it(`explicit conversion ${how === 'both' ? 'with' : 'without'} fallocate, ${vcpus} vCPUs, ${slots} slots`, () => {
        const c = new Conversions('attributes', vcpus, slots)
        for (let vcpu = 0; vcpu < vcpus; vcpu++) explicitConversion(c, vcpu, how)
        assert.equal(c.t.host.state.memfiles.get(c.memfile)?.allocated, 0)
      })
    }

    it(`explicit conversion by fallocate alone (populated), ${vcpus} vCPUs, ${slots} slots`, () => {
      const c = new Conversions('populated', vcpus, slots)
      for (let vcpu = 0; vcpu < vcpus; vcpu++) explicitConversion(c, vcpu, 'fallocate')
    })

    it(`punch without conversion, ${vcpus} vCPUs, ${slots} slots`, () => {
      const c = new Conversions('attributes', vcpus, slots)
      for (let vcpu = 0; vcpu < vcpus; vcpu++) {
        punchHole(c, vcpu, false)
        punchHole(c, vcpu, true)
      }
    })
  }

  it('finally, the VM gone: punching and allocating the whole file still succeed', () => {
    const c = new Conversions('attributes', 1, 1)
    c.t.deleteVm(c.vm)
    c.t.punch(c.memfile, 0, c.size)
    assert.equal(c.t.fallocate(c.memfile, 0, c.size).populatedBytes, c.size)
  })
})

describe('kvm-guest-memory.md e: private_mem_kvm_exits_test', () => {
  const GPA = 0xc0000000
  const EXIT = {
    vcpu: 0,
    reason: 'KVM_EXIT_MEMORY_FAULT',
    private: true,
    number: 39,
    flags: 8,
    errno: 'EFAULT',
    gpa: hex(GPA),
    length: PAGE,
  }

  it('the slot of a guest that reads a private page is deleted', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    t.memory(vm, GPA, 1, { slot: FIRST_SLOT })
    t.attributes(vm, GPA, PAGE, true)
    t.read(vm, GPA)
    t.ok({ type: 'memslot.delete', vm, slot: FIRST_SLOT })
    assert.deepEqual(t.access(vm, 'read', GPA, 1).exit, { id: null, ...EXIT })
  })

  it('a slot without a memfile, attribute private', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    t.slot(vm, FIRST_SLOT, GPA, PAGE)
    t.attributes(vm, GPA, PAGE, true)
    assert.deepEqual(t.access(vm, 'read', GPA, 1).exit, { id: null, ...EXIT })
  })
})

describe('kvm-guest-memory.md e: set_memory_region_test', () => {
  it('overlap of memfile slots: EEXIST for both re-creations', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memfile((4 * MIB2) / PAGE, vm)
    const second = 0x180000000
    t.slot(vm, 10, 0xc0000000, 2 * MIB2, { memfile })
    t.slot(vm, 11, second, 2 * MIB2, { memfile, memfileOffset: 2 * MIB2 })
    t.slot(vm, 10, 0xc0000000, 0)
    for (const gpa of [second - MIB2, second + MIB2]) {
      assert.equal(t.errno(slotCommand(vm, 10, gpa, 2 * MIB2, { memfile })), 'EEXIST')
    }
  })

  it('move: the reader sees 0, then MMIO or 1, never the host’s word while misaligned', () => {
    const t = new TestHost()
    const vm = t.vm()
    const gpa = 0xc0000000
    t.slot(vm, 10, gpa, 2 * MIB2)
    assert.equal(t.read(vm, gpa)[0], 0)
    t.hostWrite(vm, gpa, 1)
    t.hostWrite(vm, gpa + PAGE, 2)
    t.slot(vm, 10, gpa - PAGE, 2 * MIB2)
    assert.equal(t.read(vm, gpa)[0], 2)
    t.slot(vm, 10, gpa, 2 * MIB2)
    assert.equal(t.read(vm, gpa)[0], 1)
  })

  it('delete: the reader gets MMIO exits; re-created, it reads 0', () => {
    const t = new TestHost()
    const vm = t.vm()
    const gpa = 0xc0000000
    t.slot(vm, 10, gpa, 2 * MIB2)
    t.write(vm, gpa, 7)
    t.ok({ type: 'memslot.delete', vm, slot: 10 })
    assert.equal((t.access(vm, 'read', gpa, 1).exit as { reason: string }).reason, 'KVM_EXIT_MMIO')
    t.slot(vm, 10, gpa, 2 * MIB2)
    assert.equal(t.read(vm, gpa)[0], 0)
  })
})

describe('kvm-guest-memory.md b.3: inode and file', () => {
  for (const privacy of ['populated', 'attributes'] as const) {
    it(`the file outlives the slot, the slot outlives the file, contents outlive slots (${privacy})`, () => {
      const t = new TestHost()
      const vm = t.vm({ privacy })
      const memfile = t.memory(vm, 0, 4)
      if (privacy === 'attributes') t.attributes(vm, 0, 4 * PAGE, true)
      t.fallocate(memfile, 0, 4 * PAGE)
      t.write(vm, 0, 0x5a, PAGE)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 4)
      t.slot(vm, 1, 0, 4 * PAGE, { memfile })
      assert.equal(t.read(vm, 0)[0], 0x5a)
      const free = t.free()
      t.ok({ type: 'memfile.delete', memfile })
      assert.equal(t.free() - free, 4)
      assert.equal(t.errno(slotCommand(vm, 2, 0, PAGE)), 'EEXIST')
      const again = t.memfile(4, vm)
      assert.equal(t.errno(slotCommand(vm, 1, 0, 4 * PAGE, { memfile: again })), 'EINVAL')
      assert.equal(t.access(vm, 'read', 0, 1).outcome, privacy === 'attributes' ? 'exit' : 'ok')
      const { statuses } = t.pageStates(vm, [{ gpa: 0, operation: 'private' }])
      assert.equal((statuses as { code: number }[])[0]?.code, -22)
      t.ok({ type: 'memslot.delete', vm, slot: 1 })
      t.slot(vm, 1, 0, 4 * PAGE, { memfile: again })
    })
  }
})
