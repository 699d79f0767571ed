import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { MIB2, PAGE, TestHost } from '../support/domain.ts'

type Operation = 'memfile.fallocate' | 'memfile.punch-hole'
const BOTH: readonly Operation[] = ['memfile.fallocate', 'memfile.punch-hole']
const PUNCH: readonly Operation[] = ['memfile.punch-hole']
const ALLOCATE: readonly Operation[] = ['memfile.fallocate']
const FILE = 4 * PAGE
const TOP = 2n ** 63n
const hex = (value: bigint): string => `0x${value.toString(16)}`

/** Of a file of four pages. `undefined`: accepted. */
const ROWS: readonly [string, readonly Operation[], bigint, bigint, string | undefined][] = [
  ['offset < 0 → EINVAL', BOTH, TOP, 4096n, 'EINVAL'],
  ['offset < 0 comes before the sum', BOTH, 2n ** 64n - 4096n, 8192n, 'EINVAL'],
  ['len 0 → EINVAL', BOTH, 0n, 0n, 'EINVAL'],
  ['len 0 comes before an unaligned offset', BOTH, 1n, 0n, 'EINVAL'],
  ['len < 0 → EINVAL', BOTH, 0n, TOP, 'EINVAL'],
  ['offset + len > 2^63 - 1 → EFBIG', BOTH, TOP - 4096n, 4096n, 'EFBIG'],
  ['EFBIG comes before the file’s own alignment check', BOTH, TOP - 1n, 1n, 'EFBIG'],
  ['EFBIG comes before allocating beyond the end', ALLOCATE, TOP - 4096n, 8192n, 'EFBIG'],
  ['offset unaligned → EINVAL', BOTH, 1n, 4096n, 'EINVAL'],
  ['len unaligned → EINVAL', BOTH, 4096n, 4095n, 'EINVAL'],
  ['punch beyond EOF, unaligned → EINVAL', PUNCH, BigInt(FILE) + 1n, 4096n, 'EINVAL'],
  ['allocate straddling EOF → EINVAL', ALLOCATE, BigInt(FILE - PAGE), 8192n, 'EINVAL'],
  ['allocate at EOF → EINVAL', ALLOCATE, BigInt(FILE), 4096n, 'EINVAL'],
  ['allocate past EOF → EINVAL', ALLOCATE, BigInt(FILE + PAGE), 4096n, 'EINVAL'],
  ['allocate the whole file → 0', ALLOCATE, 0n, BigInt(FILE), undefined],
  ['punch straddling EOF → 0', PUNCH, BigInt(FILE - PAGE), 8192n, undefined],
  ['punch at EOF → 0', PUNCH, BigInt(FILE), 4096n, undefined],
  ['punch beyond EOF → 0', PUNCH, BigInt(FILE + PAGE), 4096n, undefined],
  ['punch far beyond EOF → 0', PUNCH, TOP - 8192n, 4096n, undefined],
  ['punch from 0 to the last offset there is → 0', PUNCH, 0n, TOP - 4096n, undefined],
]

describe('fallocate and punch hole', () => {
  for (const [name, operations, offset, length, errno] of ROWS) {
    for (const type of operations) {
      it(`kvm-guest-memory.md c.3: ${type.slice(8)}: ${name}`, () => {
        const t = new TestHost()
        const memfile = t.memfile(4, t.vm())
        const command = { type, memfile, offset: hex(offset), length: hex(length) }
        if (errno === undefined) t.ok(command)
        else assert.equal(t.errno(command), errno)
      })
    }
  }

  it('kvm-guest-memory.md c.3: allocating is idempotent: holes get pages, pages are untouched', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 4)
    assert.equal(t.fallocate(memfile, PAGE, 2 * PAGE).populatedBytes, 2 * PAGE)
    t.write(vm, PAGE, 0x55, PAGE)
    assert.equal(t.fallocate(memfile, 0, FILE).populatedBytes, 2 * PAGE)
    assert.equal(t.fallocate(memfile, 0, FILE).populatedBytes, 0)
    assert.equal(t.read(vm, PAGE)[0], 0x55)
  })

  it('kvm-guest-memory.md c.3: punching is idempotent, and what comes after is zero', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 4)
    t.fallocate(memfile, 0, FILE)
    t.write(vm, 0, 0x55, FILE)
    assert.equal(t.punch(memfile, PAGE, PAGE).freedBytes, PAGE)
    assert.equal(t.punch(memfile, PAGE, PAGE).freedBytes, 0)
    t.fallocate(memfile, 0, FILE)
    assert.deepEqual(
      [0, 1, 2, 3].map((page) => t.read(vm, page * PAGE)[0]),
      [0x55, 0, 0x55, 0x55],
    )
  })

  it('kvm-guest-memory.md c.3: punching crosses slot and binding borders', () => {
    const t = new TestHost()
    const vm = t.vm()
    const memfile = t.memfile(10, vm)
    t.slot(vm, 0, 0, 3 * PAGE, { memfile, memfileOffset: PAGE })
    t.slot(vm, 1, 64 * PAGE, 3 * PAGE, { memfile, memfileOffset: 6 * PAGE })
    t.fallocate(memfile, 0, 10 * PAGE)
    assert.equal(t.kinds(vm, 0, 3) + t.kinds(vm, 64, 3), 'PPPPPP')
    assert.equal(t.punch(memfile, 2 * PAGE, 6 * PAGE).freedBytes, 6 * PAGE)
    assert.equal(t.kinds(vm, 0, 3) + t.kinds(vm, 64, 3), 'PssssP')
  })

  it('kvm-guest-memory.md c.3: out of memory, the prefix stays; with nothing done it is a refusal', () => {
    const t = new TestHost({ pages: 9 })
    const vm = t.vm()
    const memfile = t.memory(vm, 0, 16)
    const { value, partial } = t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: 16 * PAGE })
    assert.deepEqual([partial.errno, value.populatedBytes, value.allocated], ['ENOMEM', 8 * PAGE, 8 * PAGE])
    assert.equal(t.kinds(vm, 0, 16), 'PPPPPPPPssssssss')
    assert.equal(t.errno({ type: 'memfile.fallocate', memfile, offset: 8 * PAGE, length: 8 * PAGE }), 'ENOMEM')
    t.fallocate(memfile, 0, 8 * PAGE)
    t.punch(memfile, 0, 4 * PAGE)
    t.fallocate(memfile, 8 * PAGE, 4 * PAGE)
  })

  it('b.5: out of folios of 2 MiB, the folios before stay', () => {
    const t = new TestHost({ pages: 1200 })
    const memfile = t.memfile(1536, t.vm(), 512)
    const { value, partial } = t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: 3 * MIB2 })
    assert.deepEqual([partial.errno, value.populatedBytes], ['ENOMEM', MIB2])
    assert.equal(t.errno({ type: 'memfile.fallocate', memfile, offset: MIB2, length: MIB2 }), 'ENOMEM')
  })

  it('b.5: a file of 2 MiB folios is allocated and punched by folios', () => {
    const t = new TestHost()
    const memfile = t.memfile(1024, t.vm(), 512)
    for (const type of BOTH) {
      assert.equal(t.errno({ type, memfile, offset: PAGE, length: MIB2 }), 'EINVAL')
      assert.equal(t.errno({ type, memfile, offset: 0, length: PAGE }), 'EINVAL')
    }
    assert.equal(t.fallocate(memfile, MIB2, MIB2).populatedBytes, MIB2)
    assert.equal(t.punch(memfile, 0, 2 * MIB2).freedBytes, MIB2)
  })

  it('c.1, c.3: a file may end at 2^63 - 4096, but no memory is held that far into it', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    const far = 2 ** 62
    const memfile = t.memfile(2 ** 51 - 1, vm)
    const offset = `0x${far.toString(16)}`
    assert.equal(t.errno({ type: 'memfile.fallocate', memfile, offset, length: PAGE }), 'ENOMEM')
    t.punch(memfile, offset, PAGE)
    t.slot(vm, 0, 0, 2 * PAGE, { memfile, memfileOffset: offset })
    t.attributes(vm, 0, PAGE, true)
    const { exit } = t.access(vm, 'read', 0, 1)
    assert.equal((exit as Record<string, unknown>).errno, 'ENOMEM')
    assert.ok(t.host.snapshot().length < 1e6, 'the tables stay small')
  })

  it('e (guest_memfd_test): the fallocate sequence', () => {
    const t = new TestHost()
    const memfile = t.memfile(4, t.vm())
    const fails = (type: Operation, offset: number, length: number) =>
      assert.equal(t.errno({ type, memfile, offset, length }), 'EINVAL')
    t.fallocate(memfile, 0, FILE)
    fails('memfile.punch-hole', PAGE - 1, PAGE)
    fails('memfile.fallocate', FILE, PAGE)
    fails('memfile.fallocate', FILE + PAGE, PAGE)
    t.punch(memfile, FILE, PAGE)
    t.punch(memfile, FILE + PAGE, PAGE)
    fails('memfile.punch-hole', PAGE, PAGE - 1)
    t.punch(memfile, PAGE, PAGE)
    t.fallocate(memfile, PAGE, PAGE)
    for (const offset of [0, 1, PAGE]) {
      for (const length of [1, PAGE - 1, PAGE, PAGE + 1]) {
        if (offset % PAGE === 0 && length % PAGE === 0) continue
        fails('memfile.punch-hole', offset, length)
      }
    }
  })
})
