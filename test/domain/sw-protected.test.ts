import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hex, MIB2, PAGE, TestHost } from '../support/domain.ts'

type Value = Record<string, unknown>
type Args = { gpa: number | string; pages: number | string; attributes: number | string; cpl?: number }

const hypercall = (t: TestHost, vm: string, args: Args): Value =>
  t.ok({ type: 'call', vm, vcpu: 0, call: 'MAP_GPA_RANGE', by: 'guest', args })

/** What the guest finds in RAX, and whether an exit happened. Conditions in the order in which they win. */
const ROWS: readonly [string, Args, boolean, number, boolean][] = [
  ['CPL 3 → -1', { gpa: 0, pages: 1, attributes: 16, cpl: 3 }, true, -1, false],
  ['CPL comes before the exit not enabled', { gpa: 0, pages: 1, attributes: 16, cpl: 1 }, false, -1, false],
  ['CPL comes before a bad range', { gpa: 1, pages: 0, attributes: 16, cpl: 3 }, true, -1, false],
  ['exit not enabled → -1000', { gpa: 0, pages: 1, attributes: 16 }, false, -1000, false],
  ['exit not enabled comes before a bad range', { gpa: 1, pages: 0, attributes: 16 }, false, -1000, false],
  ['gpa unaligned → -22', { gpa: 1, pages: 1, attributes: 16 }, true, -22, false],
  ['pages 0 → -22', { gpa: 0, pages: 0, attributes: 16 }, true, -22, false],
  ['the range wraps → -22', { gpa: '0xfffffffffffff000', pages: 2, attributes: 16 }, true, -22, false],
  ['the range wraps by its pages → -22', { gpa: 4096, pages: '0xffffffffffffffff', attributes: 0 }, true, -22, false],
  ['beyond what a guest can address → -22', { gpa: hex(2n ** 52n), pages: 1, attributes: 16 }, true, -22, false],
  ['to private → 0', { gpa: 0, pages: 2, attributes: 16 }, true, 0, true],
  ['to shared → 0', { gpa: 0, pages: 2, attributes: 0 }, true, 0, true],
  ['attributes are not checked', { gpa: 0, pages: 2, attributes: '0xffffffffffffffff' }, true, 0, true],
  ['to private where no memory is: the VMM’s answer', { gpa: 2 ** 40, pages: 1, attributes: 16 }, true, -22, true],
  ['to shared where no memory is: ignored', { gpa: 2 ** 40, pages: 1, attributes: 0 }, true, 0, true],
  ['CPL 0 given', { gpa: 0, pages: 1, attributes: 16, cpl: 0 }, true, 0, true],
]

describe('KVM_HC_MAP_GPA_RANGE', () => {
  for (const [name, args, exitHypercall, rax, exits] of ROWS) {
    for (const privacy of ['populated', 'attributes'] as const) {
      it(`pkvm-s390-swprotected.md 3.4: ${name} (${privacy})`, () => {
        const t = new TestHost()
        const vm = t.vm({ privacy, config: { exitHypercall } })
        t.memory(vm, 0, 16)
        const value = hypercall(t, vm, args)
        assert.equal((value.status as Value).code, rax)
        assert.equal((value.exits as Value[]).length, exits ? 1 : 0)
        const wanted = rax === 0 && (BigInt(args.attributes) & 16n) !== 0n && args.gpa === 0
        assert.equal(t.kinds(vm, 0, 1), wanted ? 'P' : 's')
      })
    }
  }

  it('the host has nobody to call: #UD', () => {
    const t = new TestHost()
    const vm = t.vm()
    const args = { gpa: 0, pages: 1, attributes: 16 }
    const value = t.ok({ type: 'call', vm, vcpu: 0, call: 'MAP_GPA_RANGE', by: 'host', args })
    assert.deepEqual(value.status, { name: '#UD', code: 6 })
  })

  it('pkvm-s390-swprotected.md 3.4: page-state changes give the same numbers', () => {
    const t = new TestHost()
    const vm = t.vm({ config: { exitHypercall: false } })
    t.memory(vm, 0, 16)
    const { completed, statuses, exits } = t.pageStates(vm, [
      { gpa: 0, operation: 'private' },
      { gpa: PAGE, operation: 'private' },
    ])
    assert.deepEqual([completed, exits], [0, []])
    assert.deepEqual(statuses, [{ name: 'KVM_ENOSYS', code: -1000 }, undefined])
  })

  it('pkvm-s390-swprotected.md 3.4: smash hints are done at once, before, between and after', () => {
    const t = new TestHost()
    const vm = t.vm()
    t.memory(vm, 0, 16)
    const { completed, exits } = t.pageStates(vm, [
      { gpa: 0, span: 512, operation: 'psmash' },
      { gpa: 0, operation: 'private' },
      { gpa: 0, span: 512, operation: 'unsmash' },
      { gpa: PAGE, operation: 'private' },
      { gpa: 0, span: 512, operation: 'psmash' },
    ])
    assert.deepEqual([completed, (exits as unknown[]).length], [5, 2])
  })

  it('pkvm-s390-swprotected.md 3.4: out of memory, the VMM’s answer is -12 and the prefix stays', () => {
    const t = new TestHost({ pages: 5 })
    const vm = t.vm()
    t.memory(vm, 0, 16)
    const { completed, statuses } = t.pageStates(vm, [
      { gpa: 0, pages: 8, operation: 'private' },
      { gpa: 8 * PAGE, operation: 'shared' },
    ])
    assert.deepEqual([completed, statuses], [0, [{ name: 'VMM_ERROR', code: -12 }, undefined]])
    assert.equal(t.kinds(vm, 0, 8), 'PPPPssss')
  })

  it('pkvm-s390-swprotected.md 3.4: the exit hands on the page size the guest gave', () => {
    const t = new TestHost()
    const vm = t.vm()
    t.memory(vm, 0, 1024)
    for (const [pages, attributes, shown] of [
      [1024, 17, '0x11'],
      [512, 1, '0x1'],
      [512, 0, '0x0'],
      [3, 16, '0x10'],
    ] as const) {
      const [exit] = hypercall(t, vm, { gpa: 0, pages, attributes }).exits as Value[]
      assert.deepEqual(exit?.hypercall, { nr: 12, args: ['0x0', hex(pages), shown] })
    }
  })

  it('pkvm-s390-swprotected.md 3.1: an access never converts and never exits for its kind', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const t = new TestHost()
      const vm = t.vm({ privacy })
      t.memory(vm, 0, 16)
      t.convert(vm, PAGE, 1, true)
      for (const isPrivate of [true, false]) {
        for (const gpa of [0, PAGE]) assert.deepEqual(t.access(vm, 'read', gpa, 1, { private: isPrivate }).exits, [])
      }
      assert.equal(t.kinds(vm, 0, 3), 'sPs')
    }
  })

  it('pkvm-s390-swprotected.md 3.2: each store keeps its bytes', () => {
    const t = new TestHost()
    const vm = t.vm({ privacy: 'attributes' })
    t.memory(vm, 0, 16)
    t.write(vm, 0, 0x11, PAGE)
    t.attributes(vm, 0, PAGE, true)
    assert.equal(t.hostRead(vm, 0)[0], 0x11)
    assert.equal(t.read(vm, 0)[0], 0)
    t.write(vm, 0, 0x22, PAGE)
    t.attributes(vm, 0, PAGE, false)
    assert.equal(t.read(vm, 0)[0], 0x11)
    t.attributes(vm, 0, PAGE, true)
    assert.equal(t.read(vm, 0)[0], 0x22)
  })

  it('kvm-guest-memory.md a.6: 2M requests on 2M folios; part of a folio cannot become shared', () => {
    const t = new TestHost()
    const vm = t.vm()
    t.memory(vm, 0, 1024, { span: 512 })
    t.convert(vm, PAGE, 1, true)
    assert.equal(t.runs(vm, 0, 1024)[0]?.count, 512)
    const { statuses } = t.pageStates(vm, [{ gpa: PAGE, operation: 'shared' }])
    assert.equal((statuses as Value[])[0]?.code, -22)
    t.convert(vm, 0, 512, false)
    const both = t.pageStates(vm, [{ gpa: 0, pages: 2, span: 512, operation: 'private' }])
    assert.equal(both.completed, 1)
    assert.equal(t.runs(vm, 0, 1024)[0]?.count, 1024)
    assert.equal(MIB2, 512 * PAGE)
  })

  it('a launch, evidence and a call that the technology does not have', () => {
    const t = new TestHost()
    const vm = t.vm()
    t.memory(vm, 0, 4)
    const update = { type: 'launch.update', vm, gpa: 0, length: PAGE, data: null, options: {} } as const
    assert.equal(t.errno(update), 'ENOTTY')
    const image = { type: 'launch.image', vm, finish: true, options: {}, attachment: new Uint8Array(16) } as const
    assert.equal(t.errno(image), 'ENOTTY')
    assert.equal(t.errno({ type: 'launch.finish', vm, options: {} }), 'ENOTTY')
    const call = { type: 'call', vm, vcpu: 0, call: 'PVALIDATE', by: 'guest', args: {} } as const
    assert.equal(t.errno(call), 'no-such-call')
  })
})
