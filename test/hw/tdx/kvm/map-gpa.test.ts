import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hex, MIB2, PAGE, pageStatesCommand, type TestHost } from '../../../support/domain.ts'
import {
  type Answer,
  codes,
  exitsOf,
  GFN,
  GPA,
  guest,
  makePrivate,
  resume,
  running,
  SHARED_BIT,
  stateOf,
  type TdBench,
  tdIn,
  type Value,
} from './td-host.ts'

const MAP_GPA = '0x10001'
const SUCCESS = '0x0'
const RETRY = '0x1'
const INVALID_OPERAND = '0x8000000000000000'
const ALIGN_ERROR = '0x8000000000000002'
const SUBFUNC_UNSUPPORTED = '0x8000000000000003'

/** MapGPA of addresses that may need all 64 bits. */
const mapGpa = (
  bench: Pick<TdBench, 't' | 'vm'>,
  start: bigint | number,
  size: bigint | number,
  more: Value = {},
): Answer => guest(bench, 'TDG.VP.VMCALL', { r11: MAP_GPA, r12: hex(BigInt(start)), r13: hex(BigInt(size)), ...more })

/** R10, R11 and how many exits the VMM has seen. */
const came = ({ r10, r11, exits }: Value): unknown[] => [r10, r11, (exits as unknown[]).length]

describe('MapGPA: what KVM refuses, in its order of checks', () => {
  const wide = 2n ** 51n
  const rows: [string, Value, bigint | number, bigint | number, string][] = [
    ['1. no exit enabled, whatever else is wrong', { exitHypercall: false }, 1, 0, SUBFUNC_UNSUPPORTED],
    ['2. size 0', {}, GPA, 0, INVALID_OPERAND],
    ['2. size 0, and unaligned', {}, GPA + 1, 0, INVALID_OPERAND],
    ['2. start + size wraps', {}, GPA, 2n ** 64n - BigInt(GPA), INVALID_OPERAND],
    ['2. the end is outside the width', {}, SHARED_BIT + SHARED_BIT - PAGE, 2 * PAGE, INVALID_OPERAND],
    ['2. the start is outside the width', {}, 2 * SHARED_BIT, PAGE, INVALID_OPERAND],
    ['2. over the shared-bit boundary', {}, SHARED_BIT - PAGE, 2 * PAGE, INVALID_OPERAND],
    ['2. over the boundary, and unaligned', {}, SHARED_BIT - PAGE, 2 * PAGE + 1, INVALID_OPERAND],
    ['2. over the boundary of 52 bits', { gpaw: 52 }, wide - 4096n, 8192, INVALID_OPERAND],
    ['3. start not aligned', {}, GPA + 1, PAGE, ALIGN_ERROR],
    ['3. size not aligned', {}, GPA, PAGE + 8, ALIGN_ERROR],
  ]
  for (const [name, config, start, size, r10] of rows) {
    it(`intel-tdx.md d.4: ${name}`, () => {
      const bench = running({ config, conversion: 'manual' })
      const answer = mapGpa(bench, start, size)
      assert.deepEqual(came(answer), [r10, hex(start), 0])
      assert.deepEqual(answer.status.code, r10)
      assert.deepEqual(exitsOf(bench.t, bench.vm), [])
    })
  }

  it('intel-tdx.md d.4: ranges that end at each border are legal', () => {
    const bench = running()
    // No memory there: the VMM refuses what is to be private, and has nothing to do for what is to be shared.
    assert.equal(mapGpa(bench, SHARED_BIT - PAGE, PAGE).r10, INVALID_OPERAND)
    assert.equal(mapGpa(bench, 2 * SHARED_BIT - PAGE, PAGE).r10, SUCCESS)
  })

  it('intel-tdx.md d.4: other sub-functions, and a vendor’s own', () => {
    const bench = running()
    for (const args of [{ r11: '0x10004' }, { r11: '0xffff' }, { r10: '0x1', r11: MAP_GPA }])
      assert.deepEqual(guest(bench, 'TDG.VP.VMCALL', { ...args, r12: '0x0', r13: '0x1000' }).r10, SUBFUNC_UNSUPPORTED)
    assert.equal(guest(bench, 'TDG.VP.VMCALL', { rcx: '0x2' }).status.code, '0xc000010000000001')
  })
})

for (const privacy of ['populated', 'attributes'] as const) {
  describe(`MapGPA, ${privacy}`, () => {
    it('intel-tdx.md d.4: to private and back: intent alone; the pages follow with fault or fallocate', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      assert.deepEqual(came(mapGpa(bench, GPA, 4 * PAGE)), [SUCCESS, undefined, 1])
      assert.equal(t.kinds(vm, GFN, 5), 'PPPPs')
      assert.equal(stateOf(bench, GPA).split(' ')[0], privacy === 'populated' ? 'PENDING' : 'FREE')
      makePrivate(bench, GPA, 4)
      assert.equal(stateOf(bench, GPA), 'MAPPED')
      assert.deepEqual(came(mapGpa(bench, GPA + SHARED_BIT, 2 * PAGE)), [SUCCESS, undefined, 1])
      assert.equal(t.kinds(vm, GFN, 5), 'ssPPs')
      assert.deepEqual([stateOf(bench, GPA), stateOf(bench, GPA + 2 * PAGE)], ['FREE', 'MAPPED'])
    })

    it('intel-tdx.md d.4: chunks of 2 MiB from the start, not from the next border', () => {
      const bench = running({ privacy, conversion: 'manual' }, 2048)
      const { t, vm, memfile } = bench
      const start = GPA + 3 * PAGE
      mapGpa(bench, start, 1030 * PAGE)
      for (const [done, pages] of [
        [0, 512],
        [512, 512],
        [1024, 6],
      ] as const) {
        const [id = ''] = exitsOf(t, vm)
        const exit = t.vmState(vm).exits.get(id)?.exit
        assert.deepEqual(
          [exit?.reason, exit?.firstGfn, exit?.pages, exit?.private, exit?.span],
          ['KVM_EXIT_HYPERCALL', GFN + 3 + done, pages, true, 1],
        )
        if (privacy === 'populated') t.fallocate(memfile, (3 + done) * PAGE, pages * PAGE)
        else t.attributes(vm, start + done * PAGE, pages * PAGE, true)
        const value = resume(t, vm)
        if (done === 1024) assert.deepEqual(came(value), [SUCCESS, undefined, 0])
        else assert.ok(value.waiting !== undefined)
      }
      assert.deepEqual(exitsOf(t, vm), [])
      assert.equal(t.kinds(vm, GFN, 1034), `sss${'P'.repeat(1030)}s`)
    })

    it('intel-tdx.md d.4: the hypercall: nr 12, the address without the bit, pages, bit 4 for encrypted', () => {
      for (const [start, attribute] of [
        [GPA, '0x10'],
        [GPA + SHARED_BIT, '0x0'],
      ] as const) {
        const bench = running({ privacy })
        const [exit] = mapGpa(bench, start, 2 * PAGE).exits as Value[]
        assert.deepEqual([exit?.reason, exit?.number], ['KVM_EXIT_HYPERCALL', 3])
        assert.deepEqual(exit?.hypercall, { nr: 12, args: [hex(GPA), '0x2', attribute] })
      }
    })

    for (const [name, ret, r10] of [
      ['-EAGAIN is RETRY', -11, RETRY],
      ['-EINVAL is INVALID_OPERAND', -22, INVALID_OPERAND],
      ['-ENOMEM is INVALID_OPERAND', -12, INVALID_OPERAND],
    ] as const) {
      for (const [kind, bit] of [
        ['private', 0],
        ['shared', SHARED_BIT],
      ] as const) {
        it(`intel-tdx.md d.4: the VMM stops at the second chunk: ${name}; R11 is that chunk, with the bit as given: ${kind}`, () => {
          const bench = running({ privacy, conversion: 'manual' }, 2048)
          const { t, vm, memfile } = bench
          if (privacy === 'populated') t.fallocate(memfile, 0, 1024 * PAGE)
          else t.attributes(vm, GPA, 1024 * PAGE, kind === 'shared')
          mapGpa(bench, GPA + bit, 1024 * PAGE)
          if (kind === 'shared') t.punch(memfile, 0, MIB2)
          if (privacy === 'attributes') t.attributes(vm, GPA, MIB2, kind === 'private')
          resume(t, vm)
          const value = resume(t, vm, ret)
          assert.deepEqual(came(value), [r10, hex(GPA + bit + MIB2), 0])
          assert.deepEqual(exitsOf(t, vm), [])
          const after = t.kinds(vm, GFN, 1024)
          if (privacy === 'attributes' || kind === 'shared')
            assert.equal(after[0] === after[1023], false, 'what was done before stays')
          // The guest goes on at R11, as Linux does.
          mapGpa(bench, BigInt(String(value.r11)), MIB2)
          if (kind === 'shared') t.punch(memfile, MIB2, MIB2)
          if (privacy === 'attributes') t.attributes(vm, GPA + MIB2, MIB2, kind === 'private')
          assert.equal(resume(t, vm).r10, SUCCESS)
          assert.equal(new Set(t.kinds(vm, GFN, 1024)).size, 1)
        })
      }
    }

    it('intel-tdx.md d.4: gmemd as the VMM runs out of memory in the middle: INVALID_OPERAND, where it stopped', () => {
      const bench = running({ privacy }, 2048)
      const { t, vm } = bench
      t.slot(vm, 1, GPA + 1024 * PAGE + 2 ** 32, PAGE)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      t.slot(vm, 0, GPA, 600 * PAGE, { memfile: bench.memfile })
      const answer = mapGpa(bench, GPA, 1024 * PAGE)
      assert.deepEqual(came(answer), [INVALID_OPERAND, hex(GPA + MIB2), 2])
    })

    it('intel-tdx.md d.4: page-states is a MapGPA an entry, with one exit a chunk', () => {
      const bench = running({ privacy }, 2048)
      const { t, vm } = bench
      const value = t.pageStates(vm, [
        { gpa: GPA, pages: 2, span: 512, operation: 'private' },
        { gpa: GPA + 1030 * PAGE, pages: 3, operation: 'private' },
        { gpa: GPA, pages: 1, operation: 'shared' },
      ])
      assert.deepEqual(
        [value.completed, codes(value), (value.exits as unknown[]).length],
        [3, [SUCCESS, SUCCESS, SUCCESS], 4],
      )
      assert.equal(t.kinds(vm, GFN, 1034), `s${'P'.repeat(1023)}${'s'.repeat(6)}PPPs`)
    })

    it('intel-tdx.md d.4: page-states stops at the first entry that fails; hints are no sub-function', () => {
      const bench = running({ privacy })
      const { t, vm } = bench
      const value = t.pageStates(vm, [
        { gpa: GPA, operation: 'private' },
        { gpa: 2 ** 41, operation: 'private' },
        { gpa: GPA + PAGE, operation: 'private' },
      ])
      assert.deepEqual([value.completed, codes(value)], [1, [SUCCESS, INVALID_OPERAND, -1]])
      const hint = t.pageStates(vm, [{ gpa: GPA, operation: 'psmash' }])
      assert.deepEqual([hint.completed, codes(hint)], [0, [SUBFUNC_UNSUPPORTED]])
      const beyond = t.pageStates(vm, [{ gpa: SHARED_BIT, operation: 'shared' }])
      assert.deepEqual(codes(beyond), [INVALID_OPERAND])
      assert.equal(t.kinds(vm, GFN, 2), 'Ps')
    })

    it('intel-tdx.md d.4: page-states without the exit enabled: SUBFUNC_UNSUPPORTED, and nothing happens', () => {
      const bench = running({ privacy, config: { exitHypercall: false } })
      const value = bench.t.pageStates(bench.vm, [{ gpa: GPA, operation: 'private' }])
      assert.deepEqual([codes(value), value.exits], [[SUBFUNC_UNSUPPORTED], []])
    })

    it('intel-tdx.md d.4: page-states, manual: each chunk waits, goes on with 0, and the answer of another ends it', () => {
      const bench = running({ privacy, conversion: 'manual' }, 2048)
      const { t, vm, memfile } = bench
      const entries = [{ gpa: GPA, pages: 3, span: 512, operation: 'private' as const }]
      const asked = t.ok(pageStatesCommand(vm, entries))
      assert.deepEqual([asked.completed, codes(asked)], [0, [-1]])
      const convert = (chunk: number, host: TestHost = t) =>
        privacy === 'populated'
          ? host.fallocate(memfile, chunk * MIB2, MIB2)
          : host.attributes(vm, GPA + chunk * MIB2, MIB2, true)
      convert(0)
      const second = resume(t, vm)
      assert.equal((second.waiting as Value).gpa, hex(GPA + MIB2))
      const ended = resume(t, vm, -11)
      assert.deepEqual([ended.completed, codes(ended)], [0, [RETRY]])
      assert.equal(t.kinds(vm, GFN, 513), `${'P'.repeat(512)}s`)
    })
  })
}

describe('what MapGPA leaves alone', () => {
  it('intel-tdx.md d.4: the module never hears of it', () => {
    const bench = running({ privacy: 'attributes' })
    const { t, vm } = bench
    const before = structuredClone(tdIn(t, vm))
    mapGpa(bench, GPA, 8 * PAGE)
    assert.deepEqual(tdIn(t, vm), before)
  })
})
