import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { rowsOf } from '../../src/domain/rows.ts'
import type { Backend, GuestRequest, Hardware, LaunchPlan, Verdict } from '../../src/hw/contract.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'
import { accessCommand, hex, PAGE, pageStatesCommand, TestHost } from '../support/domain.ts'

type Value = Record<string, unknown>
type Asked = GuestRequest & { answers: number[] }

/** Hardware that is asked itself for conversions, in a table that KVM doesn't see: what Realms of Arm CCA need. */
function world(own: Partial<Hardware> = {}, options: { readonly conversion?: 'auto' | 'manual' } = {}) {
  const { backend } = accessKindBackend()
  const asking: Backend = { ...backend, open: (data, machine) => Object.assign(backend.open(data, machine), own) }
  const t = new TestHost({ backend: asking })
  const vm = t.vm({ ...options, vcpus: 2 })
  return { t, vm, memfile: t.memory(vm, 0, 16) }
}

/** Asks for pages 2 to 6 to be private in one exit, and says what it was answered. */
const asks: Partial<Hardware> = {
  beginRequest: (): Asked => ({ kind: 'asks', statuses: [undefined], completed: 0, answers: [] }),
  nextExit: (_guest, request) =>
    (request as Asked).answers.length > 0
      ? undefined
      : { reason: 'KVM_EXIT_MEMORY_FAULT', gfn: 2, pages: 5, private: true },
  completeExit(_guest, request, ret) {
    ;(request as Asked).answers.push(ret)
    request.statuses[0] = { name: 'ANSWERED', code: Math.abs(ret) }
    if (ret === 0) request.completed = 1
  },
}
const entry = [{ gpa: 2 * PAGE, pages: 5, operation: 'private' as const }]
const waiting = (t: TestHost, vm: string): string[] => [...t.vmState(vm).exits.keys()]
const codes = (value: Value): unknown[] =>
  ((value.statuses ?? (value.entries as { status: Value }[]).map(({ status }) => status)) as Value[]).map(
    (status) => status?.code,
  )

describe('a conversion that the guest asks its hardware for (contract.ts, ConversionExit)', () => {
  it('kvm-guest-memory.md b.1: auto: converted over the whole range, a memory fault with EFAULT and no hypercall', () => {
    const { t, vm } = world(asks)
    const value = t.ok(pageStatesCommand(vm, entry)) as { exits: { exit: Value; ret: number }[] } & Value
    assert.deepEqual([value.completed, codes(value), value.exits[0]?.ret], [1, [0], 0])
    const exit = { reason: 'KVM_EXIT_MEMORY_FAULT', firstGfn: 2, pages: 5, private: true, errno: 'EFAULT' }
    assert.deepEqual(value.exits[0]?.exit, { vcpu: 0, ...exit })
    assert.equal(t.kinds(vm, 0, 8), 'ssPPPPPs')
  })

  it('kvm-guest-memory.md d.5: manual: the exit waits, and its answer goes to the hardware, whatever it is', () => {
    for (const ret of [0, -14, -22]) {
      const { t, vm } = world(asks, { conversion: 'manual' })
      assert.deepEqual(codes(t.ok(pageStatesCommand(vm, entry))), [undefined])
      assert.equal(t.refused(pageStatesCommand(vm, entry)).code, 'vcpu-waiting')
      const [exit = ''] = waiting(t, vm)
      assert.equal(t.vmState(vm).exits.get(exit)?.answersRequest, true)
      const { result } = t.ok({ type: 'exit.resume', vm, exit, ret })
      assert.deepEqual(codes(result as Value), [Math.abs(ret)])
      assert.equal(t.kinds(vm, 0, 8), 's'.repeat(8), 'the VMM converts, not KVM')
    }
  })

  it('kvm-guest-memory.md d.1: an exit of the guest’s own access asks nothing of the hardware', () => {
    const { t, vm } = world(asks, { conversion: 'manual' })
    t.ok(accessCommand(vm, 'read', 0, 1, { private: true }))
    const [exit = ''] = waiting(t, vm)
    assert.equal(t.vmState(vm).exits.get(exit)?.answersRequest, false)
    assert.deepEqual((t.ok({ type: 'exit.resume', vm, exit, ret: -14 }).result as Value).outcome, 'refused')
  })

  it('reliability.md G2: rows of pages that only the hardware changed are stored anew, in both modes', () => {
    for (const conversion of ['auto', 'manual'] as const) {
      const { t, vm, memfile } = world(asks, { conversion })
      t.fallocate(memfile, 2 * PAGE, 5 * PAGE)
      t.changes.clear()
      t.ok(pageStatesCommand(vm, entry))
      const windows = () =>
        rowsOf(new Map([[t.host.state.name, t.host]]), t.changes).windows.map(({ start, end }) => [start, end])
      if (conversion === 'manual') {
        t.changes.clear()
        t.ok({ type: 'exit.resume', vm, exit: waiting(t, vm)[0] ?? '', ret: 0 })
      }
      assert.ok(
        windows().some(([start = 0, end = 0]) => start <= 2 && end >= 7),
        conversion,
      )
    }
  })
})

describe('an access that nothing translates (contract.ts, checkUnmapped)', () => {
  const fault = { name: 'SEA', code: 0x25, detail: 'stays in the guest' }
  const guarded: Partial<Hardware> = {
    checkUnmapped: (_vm, gfn, isPrivate, kind) =>
      isPrivate && gfn % 2 === 1 && kind !== 'execute' ? { kind: 'guest-fault', fault } : undefined,
  }

  it('arm-cca.md 6: a fault that stays in the guest: no exit, no memory, nothing converted', () => {
    const { t, vm } = world(guarded)
    const free = t.free()
    for (const kind of ['read', 'write'] as const) {
      const data = kind === 'read' ? 8 : Buffer.alloc(8).toString('base64')
      const value = t.access(vm, kind, PAGE - 4, data, { private: true })
      assert.deepEqual([value.outcome, value.completed, value.fault], ['guest-fault', 4, fault])
    }
    assert.deepEqual([t.free(), t.kinds(vm, 0, 2)], [free - 1, 'Ps'], 'the page before it was converted')
  })

  it('arm-cca.md 6: what it lets through is a fault for KVM; what is mapped it is never asked about', () => {
    const { t, vm, memfile } = world(guarded)
    assert.equal(t.access(vm, 'execute', PAGE, 1, { private: true }).outcome, 'ok')
    assert.equal(t.access(vm, 'read', PAGE, 1, { private: true }).outcome, 'ok', 'mapped by now')
    t.punch(memfile, PAGE, PAGE)
    assert.equal(t.access(vm, 'read', PAGE, 1, { private: true }).outcome, 'guest-fault')
    assert.equal(t.access(vm, 'read', PAGE, 1, { private: false }).outcome, 'ok')
  })
})

describe('a launch in steps of other kinds (contract.ts, PlanStep)', () => {
  const seen: string[] = []
  const plan: LaunchPlan = {
    steps: [
      { gfn: 8, pages: 4, bytes: undefined, options: { operation: 'first' }, measureOnly: true },
      { gfn: 8, pages: 1, bytes: Buffer.alloc(PAGE, 1), options: { measure: true } },
      { gfn: 0, pages: 0, bytes: undefined, options: { operation: 'last' }, measureOnly: true },
    ],
    finish: {},
  }
  const launches: Partial<Hardware> = {
    launchPlan: () => ({ ok: true, value: plan }),
    launchMeasure(_vm, gfn, pages, options): Verdict {
      seen.push(`${options.operation} ${gfn} ${pages}`)
      if (options.operation !== 'last') return { ok: true, value: undefined }
      return { ok: false, refusal: { errno: 'ENXIO', code: 'no', detail: 'refused by the test' } }
    },
  }

  it('the hardware gets each with its options, in order; the first that it refuses ends the launch, told as part of it', () => {
    const { t, vm } = world(launches)
    const image = new Uint8Array(PAGE)
    const { partial, value } = t.partial({
      type: 'launch.image',
      vm,
      attachment: image,
      options: {},
      finish: true,
    })
    assert.deepEqual([partial.errno, value.completed], ['ENXIO', PAGE])
    assert.deepEqual(seen, ['first 8 4', 'last 0 0'])
  })

  it('what a refused page changed in the hardware is told, though its memory was there before', () => {
    for (const effects of [undefined, true] as const) {
      const { t, vm, memfile } = world({
        launchPage: () => ({
          ok: false,
          refusal: { errno: 'ENOMEM', code: 'no', detail: 'refused', ...(effects === undefined ? {} : { effects }) },
        }),
      })
      t.fallocate(memfile, 0, PAGE)
      const command = { type: 'launch.update', vm, gpa: hex(0), length: PAGE, data: null, options: {} } as const
      if (effects) assert.equal(t.partial(command).partial.errno, 'ENOMEM')
      else assert.equal(t.refused(command).errno, 'ENOMEM')
    }
  })

  it('a range that is not within one private slot: the technology’s own errno, before anything is taken', () => {
    const ranges: string[] = []
    const { t, vm, memfile } = world({
      launchRange(_vm, range): Verdict {
        ranges.push(range)
        return { ok: false, refusal: { errno: 'EPERM', code: range, detail: 'refused' } }
      },
    })
    t.slot(vm, 1, 16 * PAGE, PAGE)
    const errno = (gfn: number, pages: number) =>
      t.errno({ type: 'launch.update', vm, gpa: gfn * PAGE, length: pages * PAGE, data: null, options: {} })
    assert.deepEqual([errno(32, 1), errno(16, 1), errno(15, 2)], ['EPERM', 'EPERM', 'EPERM'])
    assert.deepEqual(ranges, ['no-slot', 'shared-slot', 'over-slots'])
    t.ok({ type: 'launch.update', vm, gpa: 0, length: 16 * PAGE, data: null, options: {} })
    assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 16)
  })
})
