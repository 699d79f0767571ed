import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { hex, MIB2, PAGE } from '../../../support/domain.ts'
import {
  assertClean,
  comply,
  delegated,
  filledPages,
  frameOf,
  GFN,
  GPA,
  granuleAt,
  hpaOf,
  must,
  newHost,
  outcome,
  PAR,
  PRIVACIES,
  REC_PAGES,
  type RealmBench,
  reach,
  realmIn,
  request,
  running,
  spare,
  stateOf,
  stateSet,
  states,
  type Value,
} from './realm-host.ts'

const PRIVATE = { private: true } as const
const STUCK = 'exit KVM_EXIT_INTERNAL_ERROR'
const zeros = (length: number): Buffer => Buffer.alloc(length)
const exitErrno = (value: Value): unknown => (value.exit as Value).errno

for (const privacy of PRIVACIES) {
  describe(`KVM takes private pages back, ${privacy} (arm-cca.md 4.1, 7)`, () => {
    it('arm-cca.md 4.1: punch: A/R → U/D, A/E → U/E, and no granule is left behind', () => {
      const bench = running({ privacy, conversion: 'manual' })
      const { t, memfile } = bench
      const before = [t.free(), delegated(t)]
      filledPages(bench, 4)
      // A guest's EMPTY that only the RMM hears of: the host has not come to it.
      const [rec = -1] = realmIn(bench).recs
      const args = { rec: hex(rec * PAGE), base: hex(GPA + PAGE), top: hex(GPA + 2 * PAGE), ripas: 'EMPTY', flags: 1 }
      t.ok({ type: 'call', vm: bench.vm, vcpu: 0, call: 'RSI_IPA_STATE_SET', by: 'guest', args })
      must(bench, 'RTT_SET_RIPAS', { base: args.base, top: args.top })
      assert.deepEqual(states(bench, GPA, 2), ['A/R', 'A/E'])
      t.punch(memfile, 0, 4 * PAGE)
      assert.deepEqual(states(bench, GPA, 4), ['U/D', 'U/E', 'U/D', 'U/D'])
      assert.deepEqual([t.free(), delegated(t)], before)
    })

    it('arm-cca.md 7.1: contents are lost both ways, and what was private is nowhere in memory', () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      filledPages(bench, 1)
      const hpa = hpaOf(bench, GPA)
      t.punch(memfile, 0, PAGE)
      const seen = t.hostAccess(vm, 'read', hpa, PAGE, { by: 'hpa' })
      assert.deepEqual(Buffer.from(String(seen.data), 'base64'), zeros(PAGE))
      request(bench, GPA, 1, 'shared')
      assert.deepEqual(t.read(vm, GPA + PAR, PAGE), zeros(PAGE))
      t.write(vm, GPA + PAR, 0x33, PAGE)
      request(bench, GPA, 1, 'private')
      assert.deepEqual(t.read(vm, GPA, PAGE, PRIVATE), zeros(PAGE))
    })

    it('arm-cca.md 2: a hole over pages of which some were never mapped gives all of them back', () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      const free = t.free()
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      t.fallocate(memfile, 0, 16 * PAGE)
      t.slot(vm, 0, GPA, 8 * PAGE, { memfile })
      if (privacy === 'attributes') t.attributes(vm, GPA, 8 * PAGE, true)
      t.write(vm, GPA + 2 * PAGE, 1, 3 * PAGE, PRIVATE)
      assert.ok(states(bench, GPA, 8).includes('A/R'))
      t.punch(memfile, 0, 16 * PAGE)
      assert.equal(t.free(), free)
      assert.equal(states(bench, GPA, 8).includes('A/R'), false)
    })

    it('arm-cca.md 7: a slot that goes takes its mappings along; pages wait in the memfile, Non-secure and zero', () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      filledPages(bench, 3)
      const hpa = hpaOf(bench, GPA)
      const held = delegated(t)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      assert.deepEqual(states(bench, GPA, 4), ['U/D', 'U/D', 'U/D', 'U/R'])
      assert.deepEqual([t.host.state.memfiles.get(memfile)?.allocated, delegated(t)], [3, held - 3])
      const seen = t.hostAccess(vm, 'read', hpa, PAGE, { by: 'hpa' })
      assert.deepEqual(Buffer.from(String(seen.data), 'base64'), zeros(PAGE))
      t.slot(vm, 0, GPA, 64 * PAGE, { memfile })
      assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), STUCK, 'the guest has not been asked')
      stateSet(bench, GPA, 3, 'RAM', 1)
      assert.deepEqual(t.read(vm, GPA, 3 * PAGE, PRIVATE), zeros(3 * PAGE))
    })

    it('arm-cca.md 7.1: the same pages at another address are that address’s: RIPAS goes by IPA', () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      filledPages(bench, 2)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      const other = GPA + 32 * PAGE
      t.slot(vm, 0, other, 8 * PAGE, { memfile })
      if (privacy === 'attributes') t.attributes(vm, other, 8 * PAGE, true)
      assert.deepEqual(t.read(vm, other, 2 * PAGE, PRIVATE), zeros(2 * PAGE))
      assert.deepEqual([stateOf(bench, GPA), stateOf(bench, other)], ['U/D', 'A/R'])
    })

    it('arm-cca.md 7: a closed memfile gives every page back', () => {
      const bench = running({ privacy })
      const { t, memfile } = bench
      filledPages(bench, 6)
      const before = [t.free(), delegated(t)]
      t.ok({ type: 'memfile.delete', memfile })
      assert.deepEqual([t.free() - 6, delegated(t) + 6], before)
      assert.deepEqual(new Set(states(bench, GPA, 6)), new Set(['U/D']))
    })

    it('arm-cca.md 4.2: pages that raw calls have folded go one by one, and all at once', () => {
      const t = newHost(16384)
      const vm = t.vm({ privacy })
      const bench: RealmBench = { t, vm, memfile: t.memory(vm, GPA, 512, { span: 512 }) }
      t.ok({ type: 'launch.finish', vm, options: { ripas: [{ gpa: hex(GPA), length: MIB2 }] } })
      const fold = () => {
        stateSet(bench, GPA, 512, 'RAM')
        comply(bench, GPA, 512, true)
        t.write(vm, GPA, 0x5e, MIB2, PRIVATE)
        must(bench, 'RTT_FOLD', { ipa: hex(GPA), level: 3 })
      }
      fold()
      assert.equal(stateOf(bench, GPA), 'A/R at 2')
      assert.equal(t.read(vm, GPA + 7 * PAGE, 1, PRIVATE)[0], 0x5e)
      if (privacy === 'attributes') {
        t.attributes(vm, GPA + 7 * PAGE, PAGE, false)
        assert.deepEqual(states(bench, GPA + 6 * PAGE, 3), ['A/R', 'U/D', 'A/R'])
        t.attributes(vm, GPA + 7 * PAGE, PAGE, true)
        fold()
      }
      const free = t.free()
      t.punch(bench.memfile, 0, MIB2)
      assert.equal(stateOf(bench, GPA + 511 * PAGE), 'U/D')
      assert.ok(t.free() >= free + 511, 'all came back, but for a table')
    })
  })
}

describe('the attribute alone (arm-cca.md 7)', () => {
  it('arm-cca.md 7: shared: the page is DESTROYED and stays in the memfile; private again: still DESTROYED', () => {
    const bench = running({ privacy: 'attributes' })
    const { t, vm, memfile } = bench
    filledPages(bench, 4)
    t.attributes(vm, GPA + PAGE, PAGE, false)
    assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 4)
    assert.deepEqual(states(bench, GPA, 3), ['A/R', 'U/D', 'A/R'])
    assert.equal(granuleAt(t, frameOf(bench, GPA + PAGE)), 0)
    t.attributes(vm, GPA + PAGE, PAGE, true)
    assert.equal(outcome(reach(bench, 'read', GPA + PAGE, PRIVATE)), STUCK)
    stateSet(bench, GPA + PAGE, 1, 'RAM', 1)
    assert.deepEqual(t.read(vm, GPA + PAGE, PAGE, PRIVATE), zeros(PAGE))
    assert.equal(t.read(vm, GPA + 2 * PAGE, 1, PRIVATE)[0], 0x5e)
  })
})

describe('fallocate into a running Realm', () => {
  it('arm-cca.md 4.1, 7: DATA_CREATE_UNKNOWN leaves RIPAS alone, wherever a slot shows the page', () => {
    const bench = running()
    const { t, vm, memfile } = bench
    stateSet(bench, GPA + PAGE, 1, 'EMPTY')
    filledPages(bench, 1)
    t.punch(memfile, 0, PAGE)
    t.fallocate(memfile, 0, 64 * PAGE)
    assert.deepEqual(states(bench, GPA, 3), ['A/D', 'A/E', 'A/R'])
    assert.deepEqual(
      t.runs(vm, GFN, GFN + 64).map(({ count, owner, hardware }) => [count, owner, hardware.ripas]),
      [
        [1, 'rmm', 'DESTROYED'],
        [1, 'rmm', 'EMPTY'],
        [62, 'guest', 'RAM'],
      ],
    )
  })

  it('arm-cca.md 10: what it costs: two tables, or three over a border of 2M; 17 pages a REC', () => {
    for (const [pages, tables] of [
      [64, 2],
      [1024, 3],
    ] as const) {
      const t = newHost()
      const free = t.free()
      const vm = t.vm()
      const memfile = t.memory(vm, GPA, pages)
      t.ok({ type: 'launch.finish', vm, options: {} })
      t.fallocate(memfile, 0, pages * PAGE)
      assert.equal(free - t.free(), 5 + REC_PAGES + tables + pages)
    }
  })

  it('arm-cca.md 9: no memory for a table: ENOMEM, for fallocate and for the fault; it goes on when there is', () => {
    const t = newHost()
    const vm = t.vm()
    const memfile = t.memory(vm, GPA, 512)
    t.ok({ type: 'launch.finish', vm, options: { ripas: [{ gpa: hex(GPA), length: MIB2 }] } })
    const bench = { t, vm }
    assert.equal(stateOf(bench, GPA), 'U/R at 2')
    const hoard = t.memfile(8192, t.vm())
    t.fallocate(hoard, 0, (t.free() - 1) * PAGE)
    const { partial, value } = t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: PAGE })
    assert.deepEqual([partial.errno, value.populatedBytes, t.free()], ['ENOMEM', PAGE, 0])
    assert.equal(exitErrno(reach(bench, 'read', GPA, PRIVATE)), 'ENOMEM')
    t.punch(hoard, 0, PAGE)
    assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), 'ok')
  })

  it('arm-cca.md 4: a slot in the unprotected half has no private memory: EFAULT', () => {
    const bench = running()
    const { t, vm } = bench
    const memfile = t.memory(vm, PAR, 8, { slot: 1 })
    assert.equal(t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: PAGE }).partial.errno, 'EFAULT')
  })

  it('arm-cca.md 3: a Realm that raw calls have destroyed takes no page: ENXIO, and deleting it gives all back', () => {
    const t = newHost()
    const free = t.free()
    const bench = running({}, 64, t)
    const { vm, memfile } = bench
    for (const rec of realmIn(bench).recs) must(bench, 'REC_DESTROY', { rec: hex(rec * PAGE) })
    for (const level of [3, 2]) {
      const span = 512 ** (4 - level)
      must(bench, 'RTT_DESTROY', { ipa: hex((GFN - (GFN % span)) * PAGE), level })
    }
    must(bench, 'REALM_DESTROY')
    assert.equal(t.host.hardware.vmState(vm), 'dead')
    assert.equal(t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: PAGE }).partial.errno, 'ENXIO')
    t.deleteVm(vm)
    t.ok({ type: 'memfile.delete', memfile })
    assertClean(t, free)
  })
})

describe('what raw calls have put elsewhere', () => {
  it('arm-cca.md 4.1: a page that a raw call has destroyed: KVM gives it again at the next fault, DESTROYED', () => {
    const bench = running()
    const { t, vm } = bench
    filledPages(bench, 2)
    const frame = frameOf(bench, GPA)
    must(bench, 'DATA_DESTROY', { ipa: hex(GPA) })
    const value = reach(bench, 'read', GPA, PRIVATE)
    assert.equal(exitErrno(value), 'ENXIO', 'DELEGATED already: it is not the kernel’s to give')
    must(bench, 'GRANULE_UNDELEGATE', { addr: hex(frame * PAGE) })
    assert.equal(outcome(reach(bench, 'read', GPA, PRIVATE)), STUCK)
    stateSet(bench, GPA, 1, 'RAM', 1)
    assert.equal(t.read(vm, GPA, 1, PRIVATE)[0], 0)
  })

  it('arm-cca.md 2: a page that another Realm has now is given out to nobody while that one has it', () => {
    const t = newHost()
    const free = t.free()
    const owner = running({}, 64, t)
    const bench = running({}, 64, t)
    filledPages(bench, 2)
    filledPages(owner, 1)
    const frame = frameOf(bench, GPA)
    const data = hex(frame * PAGE)
    must(bench, 'DATA_DESTROY', { ipa: hex(GPA) })
    must(owner, 'DATA_CREATE_UNKNOWN', { data, ipa: hex(GPA + 60 * PAGE) })
    const before = t.free()
    t.punch(bench.memfile, 0, PAGE)
    assert.equal(t.free(), before, 'it did not come back')
    assert.equal(stateOf(owner, GPA + 60 * PAGE), 'A/R')
    t.deleteVm(owner.vm)
    t.deleteVm(bench.vm)
    for (const { memfile } of [owner, bench]) t.ok({ type: 'memfile.delete', memfile })
    assertClean(t, free)
  })

  it('arm-cca.md 9: where the VM goes first, the page that cannot be undelegated is leaked, and never handed out', () => {
    const t = newHost()
    const free = t.free()
    const owner = running({}, 64, t)
    const bench = running({}, 64, t)
    filledPages(bench, 2)
    const data = hpaOf(bench, GPA)
    must(bench, 'DATA_DESTROY', { ipa: hex(GPA) })
    must(owner, 'DATA_CREATE_UNKNOWN', { data, ipa: hex(GPA + 60 * PAGE) })
    t.deleteVm(bench.vm)
    assert.equal(stateOf(owner, GPA + 60 * PAGE), 'A/R')
    t.deleteVm(owner.vm)
    for (const { memfile } of [owner, bench]) t.ok({ type: 'memfile.delete', memfile })
    assertClean(t, free - 1)
  })

  it('arm-cca.md 2: a granule that a raw call maps in place of the memfile’s page: fallocate says ENXIO', () => {
    const bench = running()
    const { t, memfile } = bench
    const [frame = -1] = spare(t, 1)
    const data = hex(frame * PAGE)
    must(bench, 'GRANULE_DELEGATE', { addr: data })
    must(bench, 'DATA_CREATE_UNKNOWN', { data, ipa: hex(GPA) })
    const { partial, value } = t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: 2 * PAGE })
    assert.deepEqual([partial.errno, value.populatedBytes], ['ENXIO', 2 * PAGE])
    assert.deepEqual(states(bench, GPA, 2), ['A/R', 'U/R'])
  })
})
