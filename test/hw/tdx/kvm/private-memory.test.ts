import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { accessCommand, filled, hex, MIB2, PAGE } from '../../../support/domain.ts'
import {
  acceptPages,
  assertClean,
  assigned,
  frameOf,
  GFN,
  GPA,
  guest,
  hostAt,
  hostOf,
  hpaOf,
  makePrivate,
  must,
  newHost,
  reach,
  running,
  seamcall,
  stateOf,
  tdIn,
  type Value,
  WITH_VE,
} from './td-host.ts'

const bytes = (value: Value): Buffer => Buffer.from(String(value.data), 'base64')
const zeros = (length: number): Buffer => Buffer.alloc(length)

describe('KVM removes a private page (intel-tdx.md d.5)', () => {
  for (const privacy of ['populated', 'attributes'] as const) {
    it(`blocks, tracks and kicks once for a range, then removes; the epoch moves by one, ${privacy}`, () => {
      const bench = running({ privacy, vcpus: 2 })
      const { t, vm, memfile } = bench
      makePrivate(bench, GPA, 8)
      const td = tdIn(t, vm)
      must(bench, 'host', 'TDH.VP.ENTER')
      assert.deepEqual([td.epoch, [...td.refcount]], [1, [0, 1]])
      t.punch(memfile, 0, 4 * PAGE)
      assert.deepEqual([td.epoch, [...td.refcount]], [2, [0, 0]], 'a vCPU inside was kicked')
      assert.deepEqual([stateOf(bench, GPA + 3 * PAGE), stateOf(bench, GPA + 4 * PAGE)], ['FREE', 'MAPPED'])
      t.punch(memfile, 0, 4 * PAGE)
      assert.equal(td.epoch, 2, 'nothing there, nothing done')
    })

    it(`a spurious punch: the guest's next access meets a page that is not accepted, ${privacy}`, () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      makePrivate(bench, GPA, 2)
      t.write(vm, GPA, 1, PAGE, { private: true })
      t.punch(memfile, 0, PAGE)
      const value = reach(bench, 'read', GPA, { private: true })
      assert.equal((value.exit as Value).errno, 'EIO', 'Linux dies of it')
      assert.equal(t.refused(accessCommand(vm, 'read', GPA + PAGE, 1)).currentState, 'dead')
    })

    it(`a guest with #VE can accept it again, and finds zeros, ${privacy}`, () => {
      const bench = running({ privacy, config: WITH_VE })
      const { t, vm, memfile } = bench
      makePrivate(bench, GPA)
      t.write(vm, GPA, 1, PAGE, { private: true })
      t.punch(memfile, 0, PAGE)
      assert.equal((reach(bench, 'read', GPA, { private: true }).fault as Value).name, '#VE')
      acceptPages(bench, GPA)
      assert.deepEqual(t.read(vm, GPA, PAGE, { private: true }), zeros(PAGE))
    })

    it(`what was private is nowhere in memory afterwards, ${privacy}`, () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      makePrivate(bench, GPA)
      const hpa = hpaOf(bench, GPA)
      t.write(vm, GPA, 0x5e, PAGE, { private: true })
      t.punch(memfile, 0, PAGE)
      assert.deepEqual(bytes(hostAt(bench, 'read', hpa, PAGE)), zeros(PAGE))
    })

    it(`a slot that goes takes its mappings along, tables stay; the pages wait in the memfile, zero, ${privacy}`, () => {
      const bench = running({ privacy, config: WITH_VE })
      const { t, vm, memfile } = bench
      makePrivate(bench, GPA, 3)
      t.write(vm, GPA, 0x5e, PAGE, { private: true })
      const hpa = hpaOf(bench, GPA)
      const children = tdIn(t, vm).childCount
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      assert.equal(tdIn(t, vm).childCount, children - 3)
      assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 3)
      const seen = hostAt(bench, 'read', hpa, PAGE)
      assert.deepEqual([bytes(seen), seen.ciphertext], [zeros(PAGE), undefined])
      t.slot(vm, 0, GPA, 64 * PAGE, { memfile })
      assert.equal((reach(bench, 'read', GPA, { private: true }).fault as Value).name, '#VE')
      acceptPages(bench, GPA)
      assert.deepEqual(t.read(vm, GPA, PAGE, { private: true }), zeros(PAGE))
    })

    it(`a closed memfile gives every page back, ${privacy}`, () => {
      const bench = running({ privacy })
      const { t, vm, memfile } = bench
      makePrivate(bench, GPA, 6)
      const children = tdIn(t, vm).childCount
      const free = t.free()
      t.ok({ type: 'memfile.delete', memfile })
      assert.deepEqual([t.free(), tdIn(t, vm).childCount], [free + 6, children - 6])
    })

    it(`a page that raw calls made part of 2M goes with all of them, ${privacy}`, () => {
      const t = newHost()
      const vm = t.vm({ privacy, config: WITH_VE })
      const bench = { t, vm, memfile: t.memory(vm, GPA, 512, { span: 512 }) }
      t.ok({ type: 'launch.finish', vm, options: {} })
      makePrivate(bench, GPA, 512)
      t.write(vm, GPA + 7 * PAGE, 0x5e, PAGE, { private: true })
      must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa: hex(GPA), level: 1 })
      must(bench, 'host', 'TDH.MEM.TRACK')
      must(bench, 'host', 'TDH.MEM.PAGE.PROMOTE', { gpa: hex(GPA), level: 1 })
      assert.equal(t.read(vm, GPA + 7 * PAGE, 1, { private: true })[0], 0x5e)
      t.ok({ type: 'memslot.delete', vm, slot: 0 })
      assert.equal(stateOf(bench, GPA), 'FREE at 1')
      t.slot(vm, 0, GPA, MIB2, { memfile: bench.memfile })
      acceptPages(bench, GPA + 7 * PAGE)
      assert.deepEqual(t.read(vm, GPA + 7 * PAGE, PAGE, { private: true }), zeros(PAGE))
    })
  }

  it('the attribute alone: the page leaves the Secure EPT and stays in the memfile, without its contents', () => {
    const bench = running({ privacy: 'attributes', config: WITH_VE })
    const { t, vm, memfile } = bench
    makePrivate(bench, GPA, 4)
    t.write(vm, GPA, 0x5e, 4 * PAGE, { private: true })
    const hpa = hpaOf(bench, GPA + PAGE)
    t.attributes(vm, GPA + PAGE, PAGE, false)
    assert.equal(t.host.state.memfiles.get(memfile)?.allocated, 4)
    assert.deepEqual(
      [0, 1, 2].map((page) => stateOf(bench, GPA + page * PAGE)),
      ['MAPPED', 'FREE', 'MAPPED'],
    )
    assert.deepEqual(bytes(hostAt(bench, 'read', hpa, PAGE)), zeros(PAGE))
    t.attributes(vm, GPA + PAGE, PAGE, true)
    assert.equal((reach(bench, 'read', GPA + PAGE, { private: true }).fault as Value).name, '#VE')
    acceptPages(bench, GPA + PAGE)
    assert.deepEqual(t.read(vm, GPA + PAGE, PAGE, { private: true }), zeros(PAGE))
    assert.equal(t.read(vm, GPA + 2 * PAGE, 1, { private: true })[0], 0x5e)
  })
})

describe('what the hardware does not give up', () => {
  it('intel-tdx.md d.5: the memory of a dead TD stays pinned until the VM is deleted', () => {
    const t = newHost()
    const free = t.free()
    const bench = running({}, 64, t)
    const { vm, memfile } = bench
    makePrivate(bench, GPA, 8)
    hostAt(bench, 'write', hpaOf(bench, GPA), filled(1, 8))
    reach(bench, 'read', GPA, { private: true })
    const held = t.free()
    t.punch(memfile, 0, 4 * PAGE)
    t.ok({ type: 'memfile.delete', memfile })
    assert.equal(t.free(), held, 'not one page came back')
    t.deleteVm(vm)
    assertClean(t, free)
  })

  it('intel-tdx.md 0.3: a blocked table hides its pages in the page map, and no other', () => {
    const bench = running({}, 1024)
    makePrivate(bench, GPA, 1024)
    const seen = () => bench.t.runs(bench.vm, GFN, GFN + 1024).map(({ count, hardware }) => [count, hardware.sept])
    assert.deepEqual(seen(), [[1024, 'MAPPED']])
    must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa: hex(GPA + MIB2), level: 1 })
    assert.deepEqual(seen(), [
      [512, 'MAPPED'],
      [512, 'FREE'],
    ])
  })

  it('a page that raw calls gave to another TD is not given out again while that one has it', () => {
    const t = newHost()
    const free = t.free()
    const owner = running({}, 64, t)
    const bench = running({ vcpus: 1 }, 64, t)
    makePrivate(bench, GPA, 2)
    const hpa = hpaOf(bench, GPA)
    for (const name of ['TDH.MEM.RANGE.BLOCK', 'TDH.MEM.TRACK', 'TDH.MEM.PAGE.REMOVE'])
      must(bench, 'host', name, name === 'TDH.MEM.TRACK' ? {} : { gpa: hex(GPA) })
    makePrivate(owner, GPA)
    must(owner, 'host', 'TDH.MEM.PAGE.AUG', { gpa: hex(GPA + PAGE), page: hpa })
    const before = t.free()
    t.punch(bench.memfile, 0, PAGE)
    assert.equal(t.free(), before)
    assert.equal(stateOf(owner, GPA + PAGE), 'PENDING')
    t.deleteVm(owner.vm)
    t.deleteVm(bench.vm)
    for (const { memfile } of [owner, bench]) t.ok({ type: 'memfile.delete', memfile })
    assertClean(t, free)
  })

  it('intel-tdx.md b: fallocate of a page that the module has already: EIO, and it is nobody else’s', () => {
    const bench = running()
    const { t, vm, memfile } = bench
    makePrivate(bench, GPA)
    const next = t.host.memory.allocateFrame()
    t.host.memory.freeFrame(next)
    must(bench, 'host', 'TDH.MEM.PAGE.AUG', { gpa: hex(GPA + 32 * PAGE), page: hex(next * PAGE) })
    const { partial, value } = t.partial({ type: 'memfile.fallocate', memfile, offset: PAGE, length: PAGE })
    assert.deepEqual([partial.errno, value.populatedBytes], ['EIO', PAGE])
    assert.equal(stateOf(bench, GPA + PAGE), 'FREE')
    assert.equal(frameOf(bench, GPA + PAGE), next)
    t.deleteVm(vm)
    assert.equal(assigned(t), 0)
  })
})

describe('fallocate into a running TD', () => {
  it('intel-tdx.md 0.4: the guest meets what the host added by itself unaccepted, wherever a slot shows it', () => {
    const bench = running({ config: WITH_VE })
    const { t, vm, memfile } = bench
    t.fallocate(memfile, 0, 64 * PAGE)
    assert.deepEqual(
      t.runs(vm, GFN, GFN + 64).map(({ count, owner, hardware }) => [count, owner, hardware]),
      [[64, 'guest', { sept: 'PENDING', pageSize: '4K', accepted: false, pamt: 'PT_REG' }]],
    )
    assert.equal(tdIn(t, vm).childCount, 12 + 3 + 64)
  })

  it('over a border of 2M: a table more', () => {
    const bench = running({}, 1024)
    bench.t.fallocate(bench.memfile, 0, 1024 * PAGE)
    assert.equal(tdIn(bench.t, bench.vm).childCount, 12 + 4 + 1024)
  })

  it('no memory for a table: ENOMEM; the rest of the hole comes back', () => {
    const bench = running()
    const { t, vm, memfile } = bench
    const hoard = t.memfile(8192, t.vm())
    t.fallocate(hoard, 0, t.free() * PAGE)
    // Single frames that do not lie together: a run each.
    for (let page = 0; page < 20; page += 2) t.punch(hoard, page * PAGE, PAGE)
    assert.equal(t.free(), 10)
    const { partial, value } = t.partial({ type: 'memfile.fallocate', memfile, offset: 0, length: 10 * PAGE })
    assert.deepEqual([partial.errno, value.populatedBytes], ['ENOMEM', PAGE])
    assert.equal(t.free(), 9, 'nine frames of the hole were not used')
    t.fallocate(memfile, 0, 5 * PAGE)
    acceptPages({ t, vm }, GPA, 5)
    t.deleteVm(vm)
    assert.equal(hostOf(t).data.vms.size, 1)
  })

  it('a TD that a machine check killed takes no page: EIO', () => {
    const bench = running()
    const { t, memfile } = bench
    makePrivate(bench, GPA)
    hostAt(bench, 'write', hpaOf(bench, GPA), filled(1))
    reach(bench, 'read', GPA, { private: true })
    assert.equal(t.partial({ type: 'memfile.fallocate', memfile, offset: 4 * PAGE, length: PAGE }).partial.errno, 'EIO')
    assert.equal(guestIsDead(bench), true)
  })
})

const guestIsDead = ({ t, vm }: { t: ReturnType<typeof newHost>; vm: string }): boolean =>
  t.host.hardware.vmState(vm) === 'dead'

describe('host accesses (intel-tdx.md d.6)', () => {
  it('a read with a shared key sees zeros, whoever reads, and harms nobody', () => {
    const bench = running()
    const { t, vm } = bench
    makePrivate(bench, GPA)
    t.write(vm, GPA, 0x5e, PAGE, { private: true })
    const hpa = hpaOf(bench, GPA)
    for (const as of ['user', 'kernel', 'device'] as const) {
      const value = t.hostAccess(vm, 'read', hpa, PAGE, { by: 'hpa', as })
      assert.deepEqual([value.outcome, value.ciphertext, bytes(value)], ['ok', true, zeros(PAGE)])
    }
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0x5e)
  })

  for (const as of ['user', 'kernel', 'device'] as const) {
    it(`a write by the ${as}: nothing happens; the guest's next read is the end of the TD, not of the host`, () => {
      const t = newHost()
      const bench = running({ vcpus: 2 }, 64, t)
      const other = running({}, 64, t)
      for (const one of [bench, other]) makePrivate(one, GPA, 4)
      t.write(other.vm, GPA, 0x33, PAGE, { private: true })
      const { vm } = bench
      const hpa = hpaOf(bench, GPA + PAGE)
      assert.equal(t.hostAccess(vm, 'write', hpa, filled(1, 8), { by: 'hpa', as }).outcome, 'ok')
      assert.equal(t.host.hardware.vmState(vm), 'running')
      t.write(vm, GPA, 1, 1, { private: true })
      const value = reach(bench, 'read', GPA + PAGE, { private: true, vcpu: 1 })
      const { name, code, errorCode } = value.fault as Value
      assert.deepEqual(
        [value.outcome, name, code, errorCode],
        ['exit', 'TDX_NON_RECOVERABLE_TD_NON_ACCESSIBLE', '0x6000000500000000', '0x80000312'],
      )
      assert.deepEqual([(value.exit as Value).reason, (value.exit as Value).errno], ['KVM_EXIT_INTERNAL_ERROR', 'EIO'])
      assert.equal(t.refused(accessCommand(vm, 'read', GPA, 1)).currentState, 'dead')
      for (const name of ['TDH.VP.ENTER', 'TDH.MEM.TRACK'])
        assert.equal(seamcall(bench, name).status.code, '0xe000060400000000', name)
      assert.equal(t.host.state.crashed, null)
      assert.equal(t.read(other.vm, GPA, 1, { private: true })[0], 0x33, 'other TDs live on')
      makePrivate(other, GPA + 8 * PAGE)
    })
  }

  it('a page that is initialised again is whole again: accepted, or taken away and given anew', () => {
    const bench = running({ config: WITH_VE })
    const { t, vm, memfile } = bench
    t.fallocate(memfile, 0, 2 * PAGE)
    const hpa = hpaOf(bench, GPA)
    hostAt(bench, 'write', hpa, filled(1, 8))
    acceptPages(bench, GPA)
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0)
    hostAt(bench, 'write', hpa, filled(1, 8))
    t.punch(memfile, 0, PAGE)
    assert.equal(hostOf(t).data.poisoned.size, 0)
    t.fallocate(memfile, 0, PAGE)
    acceptPages(bench, GPA)
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0)
  })

  it('a write to a control page or a table does nothing that anybody sees', () => {
    const bench = running()
    const { t, vm } = bench
    makePrivate(bench, GPA)
    const td = tdIn(t, vm)
    for (const frame of [td.tdr, td.tdcx[0] ?? 0, td.indexed[0] ?? 0])
      assert.equal(hostAt(bench, 'write', hex(frame * PAGE), filled(0xff)).outcome, 'ok')
    t.read(vm, GPA, 1, { private: true })
    assert.equal(guest(bench, 'TDG.VP.INFO').status.code, '0x0')
  })

  it('ordinary memory of the host is read and written as ever; through the VMM only the shared side is there', () => {
    const bench = running()
    const { t, vm } = bench
    makePrivate(bench, GPA)
    t.write(vm, GPA, 0x5e, 8, { private: true })
    t.hostWrite(vm, GPA, 0x44, 8)
    assert.equal(t.hostRead(vm, GPA)[0], 0x44)
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0x5e)
  })
})
