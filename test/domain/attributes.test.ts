import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { lookup } from '../../src/domain/stage2.ts'
import { hex, PAGE, TestHost } from '../support/domain.ts'

const TOP = 2n ** 64n
const set = (vm: string, gpa: bigint, length: bigint, isPrivate = true) =>
  ({ type: 'attributes.set', vm, gpa: hex(gpa), length: hex(length), private: isPrivate }) as const

const ROWS: readonly [string, bigint, bigint, string | undefined][] = [
  ['size 0 → EINVAL', 0n, 0n, 'length-zero'],
  ['size 0 comes before an unaligned address', 1n, 0n, 'length-zero'],
  ['address + size wraps → EINVAL', TOP - 4096n, 8192n, 'range-wraps'],
  ['wrapping comes before unaligned', TOP - 1n, 4096n, 'range-wraps'],
  ['address unaligned → EINVAL', 1n, 4096n, 'gpa-unaligned'],
  ['size unaligned → EINVAL', 4096n, 1n, 'length-unaligned'],
  ['what no guest can address → EINVAL', 2n ** 52n, 4096n, 'gpa-beyond-limit'],
  ['no slot needed → 0', 1n << 40n, 4096n, undefined],
  ['the whole address space → 0', 0n, 2n ** 52n, undefined],
]

describe('memory attributes', () => {
  for (const [name, gpa, length, code] of ROWS) {
    it(`kvm-guest-memory.md c.5: ${name}`, () => {
      const t = new TestHost()
      const vm = t.vm({ privacy: 'attributes' })
      if (code === undefined) {
        t.ok(set(vm, gpa, length))
        return
      }
      const refusal = t.refused(set(vm, gpa, length))
      assert.deepEqual([refusal.errno, refusal.code], ['EINVAL', code])
    })

    it(`kvm-guest-memory.md c.5: without the feature → ENOTTY comes before: ${name}`, () => {
      const t = new TestHost()
      assert.equal(t.errno(set(t.vm(), gpa, length)), 'ENOTTY')
    })
  }

  it('kvm-guest-memory.md c.5: covers gaps and several slots, survives slots, and default is shared', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    t.memory(vm, 0, 4, { slot: 0 })
    t.memory(vm, 8 * PAGE, 4, { slot: 1 })
    assert.equal(t.kinds(vm, 0, 16), 'ssssssssssssssss')
    t.attributes(vm, 2 * PAGE, 8 * PAGE, true)
    assert.equal(t.kinds(vm, 0, 16), 'ssPPPPPPPPssssss')
    t.ok({ type: 'memslot.delete', vm, slot: 0 })
    t.slot(vm, 2, 0, 8 * PAGE)
    assert.equal(t.kinds(vm, 0, 16), 'ssPPPPPPPPssssss')
  })

  it('kvm-guest-memory.md c.5: touches neither contents nor allocation', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    const memfile = t.memory(vm, 0, 4)
    t.write(vm, 0, 0x11, PAGE)
    t.attributes(vm, 0, 4 * PAGE, true)
    assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 0)
    assert.equal(t.read(vm, 0)[0], 0)
    t.write(vm, 0, 0x22, PAGE)
    t.attributes(vm, 0, 4 * PAGE, false)
    assert.equal(t.read(vm, 0)[0], 0x11)
    t.attributes(vm, 0, 4 * PAGE, true)
    assert.equal(t.read(vm, 0)[0], 0x22)
    assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 1)
  })

  it('kvm-guest-memory.md c.5: a range that is as asked stays mapped; one page that differs unmaps all of it', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    t.memory(vm, 0, 4)
    t.write(vm, 0, 1, 4 * PAGE)
    const mapped = () => [0, 1, 2, 3].map((gfn) => (lookup(t.vmState(vm), gfn) ? 1 : 0))
    t.attributes(vm, 0, 4 * PAGE, false)
    assert.deepEqual(mapped(), [1, 1, 1, 1])
    t.attributes(vm, 2 * PAGE, PAGE, true)
    assert.deepEqual(mapped(), [1, 1, 0, 1])
    t.attributes(vm, 0, 3 * PAGE, false)
    assert.deepEqual(mapped(), [0, 0, 0, 1])
  })
})
