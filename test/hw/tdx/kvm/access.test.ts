import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { accessCommand, hex, MIB2, PAGE, pageStatesCommand } from '../../../support/domain.ts'
import {
  acceptPages,
  call,
  codes,
  exitsOf,
  frameOf,
  GFN,
  GPA,
  guest,
  hostOf,
  launching,
  makePrivate,
  must,
  newHost,
  reach,
  resume,
  running,
  SHARED_BIT,
  seamcall,
  stateOf,
  type TdBench,
  tdIn,
  type Value,
  WITH_VE,
} from './td-host.ts'

const faultOf = (value: Value): unknown => (value.fault as { name: string } | undefined)?.name
const exitOf = (value: Value): Value => value.exit as Value

/** A running TD with 4 private, pending pages at GPA. */
function pending(config: Value = {}, privacy: 'populated' | 'attributes' = 'populated', vcpus = 1): TdBench {
  const bench = running({ config, privacy, vcpus })
  if (privacy === 'populated') bench.t.fallocate(bench.memfile, 0, 4 * PAGE)
  else bench.t.attributes(bench.vm, GPA, 4 * PAGE, true)
  return bench
}

describe('a private access', () => {
  for (const privacy of ['populated', 'attributes'] as const) {
    it(`intel-tdx.md d.2: MAPPED: ok, zero after acceptance, ${privacy}`, () => {
      const bench = pending({}, privacy)
      const { t, vm } = bench
      acceptPages(bench, GPA, 2)
      assert.equal(t.read(vm, GPA + PAGE, 1, { private: true })[0], 0)
      t.write(vm, GPA, 5, 2 * PAGE, { private: true })
      assert.equal(t.read(vm, GPA + 2 * PAGE - 1, 1, { private: true })[0], 5)
      assert.equal(reach(bench, 'execute', GPA, { private: true }).outcome, 'ok')
    })

    it(`intel-tdx.md d.2: PENDING, SEPT_VE_DISABLE: exit EIO, then 409 for ever, ${privacy}`, () => {
      const bench = pending({}, privacy, 2)
      const { t, vm } = bench
      acceptPages(bench, GPA)
      const value = reach(bench, 'read', GPA + PAGE, { private: true })
      assert.equal(value.outcome, 'exit')
      assert.deepEqual(value.fault, {
        name: 'EPT_VIOLATION',
        code: '0x30',
        errorCode: '0x6',
        detail: `The guest touched ${hex(GPA + PAGE)} before it accepted it: KVM gives the VM up.`,
      })
      const { reason, errno, gpa, id } = exitOf(value)
      assert.deepEqual([reason, errno, gpa, id], ['KVM_EXIT_INTERNAL_ERROR', 'EIO', hex(GPA + PAGE), null])
      for (const command of [
        accessCommand(vm, 'read', GPA, 1, { private: true }),
        accessCommand(vm, 'read', GPA, 1, { private: false, vcpu: 1 }),
        pageStatesCommand(vm, [{ gpa: GPA, operation: 'shared' }], 1),
        {
          type: 'call',
          vm,
          vcpu: 1,
          call: 'TDG.MEM.PAGE.ACCEPT',
          by: 'guest',
          args: { gpa: hex(GPA + PAGE) },
        } as const,
      ]) {
        const refusal = t.refused(command)
        assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'vm-not-running', 'dead'])
      }
      assert.equal(seamcall(bench, 'TDH.MEM.SEPT.RD', { gpa: hex(GPA) }).status.code, '0x0', 'the module knows nothing')
    })

    it(`intel-tdx.md d.2: PENDING, #VE: #VE, then #DF until VEINFO.GET, each vCPU for itself, ${privacy}`, () => {
      const bench = pending(WITH_VE, privacy, 2)
      const { t, vm } = bench
      const on = (vcpu: number, gpa = GPA) => {
        const value = reach(bench, 'write', gpa, { private: true, vcpu })
        return [value.outcome, faultOf(value), (value.fault as Value)?.code]
      }
      assert.deepEqual(on(0), ['guest-fault', '#VE', '0x14'])
      assert.deepEqual(on(0, GPA + PAGE), ['guest-fault', '#DF', '0x8'])
      assert.deepEqual(on(1), ['guest-fault', '#VE', '0x14'])
      const info = must(bench, 'guest', 'TDG.VP.VEINFO.GET')
      assert.deepEqual([info.rcx, info.r9], [hex(48), hex(GPA)])
      assert.equal(guest(bench, 'TDG.VP.VEINFO.GET').status.code, '0xc000070400000000')
      assert.deepEqual(on(0, GPA + PAGE), ['guest-fault', '#VE', '0x14'])
      assert.deepEqual(on(1), ['guest-fault', '#DF', '0x8'])
      acceptPages(bench, GPA)
      t.write(vm, GPA, 1, 1, { private: true })
      assert.equal(t.host.hardware.vmState(vm), 'running')
    })

    it(`intel-tdx.md d.3: FREE: KVM adds tables and AUGs one 4K page; the guest meets it pending, ${privacy}`, () => {
      const bench = running({ config: WITH_VE, privacy })
      const { t, vm } = bench
      if (privacy === 'attributes') t.attributes(vm, GPA, 64 * PAGE, true)
      const before = tdIn(t, vm).childCount
      const value = reach(bench, 'read', GPA + 8 * PAGE, { private: true })
      assert.equal(faultOf(value), '#VE')
      assert.equal((value.exits as unknown[]).length, privacy === 'attributes' ? 0 : 1, 'auto converts where it must')
      assert.equal(tdIn(t, vm).childCount, before + 3 + 1)
      assert.deepEqual([stateOf(bench, GPA + 8 * PAGE), stateOf(bench, GPA + 7 * PAGE)], ['PENDING', 'FREE'])
    })

    it(`intel-tdx.md d.2, d.3: BLOCKED by hand: KVM's mirror says it is there, and it faults for ever, ${privacy}`, () => {
      const bench = pending({}, privacy)
      const { t, vm } = bench
      acceptPages(bench, GPA, 2)
      must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa: hex(GPA) })
      const value = reach(bench, 'read', GPA, { private: true })
      const { reason, errno, private: isPrivate } = exitOf(value)
      assert.deepEqual([value.outcome, reason, errno, isPrivate], ['exit', 'KVM_EXIT_MEMORY_FAULT', 'EIO', true])
      must(bench, 'host', 'TDH.MEM.TRACK')
      must(bench, 'host', 'TDH.MEM.RANGE.UNBLOCK', { gpa: hex(GPA) })
      t.write(vm, GPA, 1, 1, { private: true })
      must(bench, 'host', 'TDH.MEM.RANGE.BLOCK', { gpa: hex(GPA), level: 1 })
      for (const page of [0, 1, 3]) {
        const hidden = reach(bench, 'read', GPA + page * PAGE, { private: true })
        assert.deepEqual([exitOf(hidden).reason, exitOf(hidden).errno], ['KVM_EXIT_MEMORY_FAULT', 'EIO'])
      }
      must(bench, 'host', 'TDH.MEM.TRACK')
      must(bench, 'host', 'TDH.MEM.RANGE.UNBLOCK', { gpa: hex(GPA), level: 1 })
      assert.equal(t.read(vm, GPA, 1, { private: true })[0], 1)
    })
  }

  it('intel-tdx.md d.2: removed by hand, KVM gives the page again at the next fault, pending', () => {
    const bench = pending(WITH_VE)
    const { t, vm } = bench
    acceptPages(bench, GPA)
    t.write(vm, GPA, 9, 8, { private: true })
    for (const name of ['TDH.MEM.RANGE.BLOCK', 'TDH.MEM.TRACK', 'TDH.MEM.PAGE.REMOVE'])
      must(bench, 'host', name, name === 'TDH.MEM.TRACK' ? {} : { gpa: hex(GPA) })
    assert.equal(faultOf(reach(bench, 'read', GPA, { private: true })), '#VE')
    acceptPages(bench, GPA)
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0)
  })

  it('intel-tdx.md d.3: a folio of 2M is AUGed in 4K pages, and only what the guest faults on', () => {
    const t = newHost()
    const vm = t.vm({ privacy: 'attributes', config: WITH_VE })
    const bench = { t, vm, memfile: t.memory(vm, GPA, 512, { span: 512 }) }
    t.ok({ type: 'launch.finish', vm, options: {} })
    t.attributes(vm, GPA, MIB2, true)
    t.attributes(vm, GPA + 5 * PAGE, PAGE, false)
    assert.equal(faultOf(reach(bench, 'read', GPA + 4 * PAGE, { private: true })), '#VE')
    assert.deepEqual(
      [3, 4, 5].map((page) => stateOf(bench, GPA + page * PAGE)),
      ['FREE', 'PENDING', 'FREE'],
    )
    acceptPages(bench, GPA + 4 * PAGE)
    assert.equal(guest(bench, 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(GPA), level: 1 }).status.code, '0xc0000b0b00000001')
  })

  it('intel-tdx.md d.2: the guest of FLEXIBLE_PENDING_VE chooses for itself', () => {
    const bench = pending({ ...WITH_VE, flexiblePendingVe: true })
    must(bench, 'guest', 'TDG.VM.WR', { field: 'TD_CTLS', value: '0x1', mask: '0x1' })
    assert.equal(exitOf(reach(bench, 'read', GPA, { private: true })).errno, 'EIO')
    const other = pending({ flexiblePendingVe: true })
    must(other, 'guest', 'TDG.VM.WR', { field: 'TD_CTLS', value: '0x0', mask: '0x1' })
    assert.equal(faultOf(reach(other, 'read', GPA, { private: true })), '#VE')
  })

  it('intel-tdx.md d.3: memory is gone: exit ENOMEM for the page, and for a table', () => {
    for (const left of [0, 3]) {
      const bench = running({ privacy: 'attributes' })
      const { t, vm } = bench
      t.attributes(vm, GPA, 4 * PAGE, true)
      const hoard = t.memfile(8192, t.vm())
      t.fallocate(hoard, 0, (t.free() - left) * PAGE)
      assert.equal(exitOf(reach(bench, 'read', GPA, { private: true })).errno, 'ENOMEM')
      t.punch(hoard, 0, 4 * PAGE)
      acceptPages(bench, GPA)
    }
  })
})

describe('a shared access', () => {
  it('intel-tdx.md d.2: mapped: ok; code is never fetched from it; the VMM sees the same bytes', () => {
    const bench = running()
    const { t, vm } = bench
    t.write(vm, GPA, 3, 1, { private: false })
    assert.equal(t.hostRead(vm, GPA)[0], 3)
    const value = reach(bench, 'execute', GPA, { private: false })
    assert.deepEqual([value.outcome, faultOf(value)], ['guest-fault', '#PF'])
    assert.equal(t.host.hardware.vmState(vm), 'running')
  })

  it('intel-tdx.md d.2: no slot: MMIO', () => {
    const bench = running()
    const value = reach(bench, 'write', 2 ** 40 + 8, { private: false })
    assert.deepEqual([exitOf(value).reason, exitOf(value).gpa], ['KVM_EXIT_MMIO', hex(2 ** 40 + 8)])
  })

  it('intel-tdx.md d.1: the bit in the address is the kind of the access, at both widths', () => {
    for (const [gpaw, bit] of [
      [48, 2 ** 47],
      [52, 2 ** 51],
    ] as const) {
      const bench = running({ config: { gpaw } })
      const { t, vm } = bench
      makePrivate(bench, GPA + PAGE)
      t.write(vm, hex(BigInt(GPA) + BigInt(bit)), 0x21, 4)
      assert.equal(t.hostRead(vm, GPA)[0], 0x21)
      t.write(vm, GPA + PAGE, 0x22, 4, { private: true })
      assert.deepEqual([...t.read(vm, GPA + PAGE, 2, { private: true })], [0x22, 0x22])
      const refusal = t.refused(accessCommand(vm, 'read', hex(BigInt(GPA) + BigInt(bit)), 1, { private: true }))
      assert.deepEqual([refusal.code, refusal.pointer], ['private-shared-address', '/private'])
    }
  })
})

describe('an address with a bit above the shared one', () => {
  it('intel-tdx.md d.1: #PF with the reserved-bit flag, in the guest, and no exit', () => {
    const bench = running()
    for (const gpa of [2 * SHARED_BIT, 2 * SHARED_BIT + GPA, 2 ** 51]) {
      for (const [kind, errorCode] of [
        ['read', '0x9'],
        ['write', '0xb'],
      ] as const) {
        const value = reach(bench, kind, gpa)
        const { name, code, errorCode: seen } = value.fault as Value
        assert.deepEqual([value.outcome, name, code, seen, value.exits], ['guest-fault', '#PF', '0xe', errorCode, []])
      }
    }
    assert.equal(exitOf(reach(bench, 'read', 2 * SHARED_BIT - PAGE)).reason, 'KVM_EXIT_MMIO', 'the last that is none')
    const wide = running({ config: { gpaw: 52 } })
    assert.equal(exitOf(reach(wide, 'read', 2 * SHARED_BIT)).reason, 'KVM_EXIT_MMIO')
  })
})

describe('implicit conversion', () => {
  for (const privacy of ['populated', 'attributes'] as const) {
    for (const by of ['address', 'private'] as const) {
      it(`intel-tdx.md 0.4, d.3: each kind exits with its own flag, and conversions lose contents: ${privacy}, by ${by}`, () => {
        const bench = running({ conversion: 'manual', privacy, config: WITH_VE })
        const { t, vm, memfile } = bench
        const toPrivate = () =>
          privacy === 'populated' ? t.fallocate(memfile, 0, PAGE) : t.attributes(vm, GPA, PAGE, true)
        const toShared = () => {
          if (privacy === 'attributes') t.attributes(vm, GPA, PAGE, false)
          t.punch(memfile, 0, PAGE)
        }
        const [alias, kind] = by === 'address' ? [GPA + SHARED_BIT, {}] : [GPA, { private: false }]
        t.hostWrite(vm, GPA, 0x77, 8)

        const asked = reach(bench, 'read', GPA, { private: true })
        assert.deepEqual(
          [exitOf(asked).reason, exitOf(asked).gpa, exitOf(asked).flags, exitOf(asked).private],
          ['KVM_EXIT_MEMORY_FAULT', hex(GPA), 8, true],
        )
        toPrivate()
        assert.equal(faultOf(resume(t, vm)), '#VE', 'the guest was not ready for it')
        must(bench, 'guest', 'TDG.VP.VEINFO.GET')
        acceptPages(bench, GPA)
        assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0)
        t.write(vm, GPA, 0x55, 8, { private: true })
        assert.equal(t.hostRead(vm, GPA)[0], 0x77, 'both at once: the shared page is still there')

        const back = reach(bench, 'read', alias, kind)
        assert.deepEqual(
          [exitOf(back).reason, exitOf(back).gpa, exitOf(back).flags, exitOf(back).private],
          ['KVM_EXIT_MEMORY_FAULT', hex(GPA), 0, false],
        )
        toShared()
        assert.equal(Buffer.from(String(resume(t, vm).data), 'base64')[0], 0x77)
        assert.equal(stateOf(bench, GPA), 'FREE')

        const again = reach(bench, 'write', GPA, { private: true })
        toPrivate()
        assert.equal(faultOf(resume(t, vm, 0, String(exitOf(again).id))), '#VE')
        acceptPages(bench, GPA)
        assert.equal(t.read(vm, GPA, 1, { private: true })[0], 0, 'the old contents are lost')
      })
    }

    it(`intel-tdx.md d.3: what the VMM refuses, or answers without converting, ${privacy}`, () => {
      const bench = running({ conversion: 'manual', privacy })
      const { t, vm } = bench
      reach(bench, 'read', GPA, { private: true })
      assert.equal(exitOf(resume(t, vm)).reason, 'KVM_EXIT_MEMORY_FAULT')
      assert.deepEqual(resume(t, vm, -14), { outcome: 'refused', ret: -14 })
      assert.deepEqual(exitsOf(t, vm), [])
      assert.equal(t.kinds(vm, GFN, 1), 's')
    })
  }
})

describe('acceptance', () => {
  it('intel-tdx.md c.5: an accepted page: PAGE_ALREADY_ACCEPTED with its level, and its contents stay', () => {
    const bench = pending()
    const { t, vm } = bench
    acceptPages(bench, GPA)
    t.write(vm, GPA, 6, 1, { private: true })
    const again = guest(bench, 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(GPA) })
    assert.deepEqual(again.status, { name: 'TDX_PAGE_ALREADY_ACCEPTED', code: '0xb0a00000000' })
    const asked = t.ok(pageStatesCommand(vm, [{ gpa: GPA, pages: 2, operation: 'private' }], 0, true))
    assert.deepEqual([codes(asked), asked.completed], [['0xb0a00000000'], 1])
    assert.equal(t.read(vm, GPA, 1, { private: true })[0], 6)
    assert.equal(stateOf(bench, GPA + PAGE), 'PENDING', 'the guest stops at the first status that is none of success')
  })

  it('intel-tdx.md c.5: a page of 2M: 4K asked of it mapped is the level 1; pending it exits', () => {
    const bench = running()
    const { t, vm } = bench
    const area = 2 ** 40
    const page = 4096 * PAGE
    for (const level of [3, 2])
      must(bench, 'host', 'TDH.MEM.SEPT.ADD', { gpa: hex(area), level, page: hex(page + level * PAGE) })
    must(bench, 'host', 'TDH.MEM.PAGE.AUG', { gpa: hex(area), level: 1, page: hex(page + MIB2) })
    const small = guest(bench, 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(area + PAGE) })
    assert.deepEqual([small.status.name, (small.exit as Value).reason], ['EPT_VIOLATION', 'KVM_EXIT_MEMORY_FAULT'])
    must(bench, 'guest', 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(area), level: 1 })
    for (const level of [0, 1])
      assert.equal(guest(bench, 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(area), level }).status.code, '0xb0a00000001')
    assert.equal(t.host.hardware.vmState(vm), 'running')
  })

  it('intel-tdx.md c.5: of a page not there: KVM AUGs it and the guest runs the call again', () => {
    for (const privacy of ['populated', 'attributes'] as const) {
      const bench = running({ privacy })
      const { t, vm } = bench
      if (privacy === 'attributes') t.attributes(vm, GPA, 4 * PAGE, true)
      acceptPages(bench, GPA, 3)
      assert.equal(t.kinds(vm, GFN, 4), privacy === 'attributes' ? 'PPPP' : 'PPPs')
      assert.equal(stateOf(bench, GPA + 3 * PAGE), 'FREE')
    }
  })

  it('intel-tdx.md c.5, d.3: of a shared page, manual: the exit waits, and the call runs again', () => {
    const bench = running({ conversion: 'manual', privacy: 'attributes' })
    const { t, vm } = bench
    const asked = call(bench, 'guest', 'TDG.MEM.PAGE.ACCEPT', { gpa: hex(GPA) })
    assert.deepEqual([asked.status.name, exitsOf(t, vm).length], ['EPT_VIOLATION', 1])
    t.attributes(vm, GPA, PAGE, true)
    assert.equal((resume(t, vm).status as Value).code, '0x0')
    assert.equal(stateOf(bench, GPA), 'MAPPED')
  })

  it('intel-tdx.md c.5: of a range that the VMM converts piece by piece: the guest goes on where it stopped', () => {
    const bench = running({ conversion: 'manual', privacy: 'attributes' })
    const { t, vm } = bench
    const entries = [
      { gpa: GPA, pages: 2, operation: 'private' as const },
      { gpa: GPA + 4 * PAGE, pages: 4, operation: 'private' as const },
    ]
    t.ok(pageStatesCommand(vm, entries, 0, true))
    t.attributes(vm, GPA, 2 * PAGE, true)
    resume(t, vm)
    t.attributes(vm, GPA + 4 * PAGE, 2 * PAGE, true)
    const stopped = resume(t, vm)
    assert.deepEqual([(stopped.waiting as Value).gpa, (stopped.waiting as Value).private], [hex(GPA + 6 * PAGE), true])
    t.attributes(vm, GPA + 6 * PAGE, PAGE, true)
    const further = resume(t, vm)
    assert.equal((further.waiting as Value).gpa, hex(GPA + 7 * PAGE))
    t.attributes(vm, GPA + 7 * PAGE, PAGE, true)
    const done = resume(t, vm)
    assert.deepEqual([done.waiting, done.completed, codes(done)], [undefined, 2, ['0x0', '0x0']])
    assert.equal(t.read(vm, GPA + 7 * PAGE, 1, { private: true })[0], 0)
  })
})

describe('a guest that cannot run', () => {
  it('intel-tdx.md a.4: a vCPU after a triple fault: KVM_RUN fails for it, and the others go on', () => {
    const bench = pending({}, 'populated', 2)
    const { t, vm } = bench
    acceptPages(bench, GPA)
    assert.equal(guest(bench, 'TRIPLE_FAULT').status.code, '0x4000000100000002')
    for (const isPrivate of [true, false]) {
      const value = reach(bench, 'read', isPrivate ? GPA : GPA + 8 * PAGE, { private: isPrivate })
      assert.deepEqual([value.outcome, (value.fault as Value).code], ['exit', '0xc000070000000000'])
      assert.deepEqual([exitOf(value).reason, exitOf(value).errno], ['KVM_EXIT_INTERNAL_ERROR', 'EIO'])
    }
    const request = t.ok(pageStatesCommand(vm, [{ gpa: GPA, operation: 'shared' }]))
    assert.deepEqual([codes(request), request.completed, request.exits], [['0xc000070000000000'], 0, []])
    assert.equal(t.kinds(vm, GFN, 1), 'P')
    t.read(vm, GPA, 1, { private: true, vcpu: 1 })
  })

  it('intel-tdx.md a.1: somebody has begun to tear the TD down: dead', () => {
    const bench = pending()
    const { t, vm } = bench
    acceptPages(bench, GPA)
    must(bench, 'host', 'TDH.VP.FLUSH')
    assert.equal(t.host.hardware.vmState(vm), 'running')
    must(bench, 'host', 'TDH.MNG.VPFLUSHDONE')
    assert.equal(t.refused(accessCommand(vm, 'read', GPA, 1, { private: true })).currentState, 'dead')
  })

  it('intel-tdx.md d.2: what waited when the guest died never goes on: 409, and the exit stays', () => {
    const bench = running({ conversion: 'manual', vcpus: 2, privacy: 'attributes' })
    const { t, vm } = bench
    t.attributes(vm, GPA, PAGE, true)
    reach(bench, 'read', GPA + PAGE, { private: true, vcpu: 1 })
    const [exit = ''] = exitsOf(t, vm)
    assert.equal(exitOf(reach(bench, 'read', GPA, { private: true })).errno, 'EIO')
    const refusal = t.refused({ type: 'exit.resume', vm, exit, ret: 0 })
    assert.deepEqual([refusal.kind, refusal.code, refusal.currentState], ['conflict', 'vm-not-running', 'dead'])
    assert.deepEqual(exitsOf(t, vm), [exit])
  })

  it('intel-tdx.md d.4: a guest that reports a fatal error is dead', () => {
    const bench = running()
    const answer = guest(bench, 'TDG.VP.VMCALL', { r11: '0x10003', r12: '0x2a' })
    assert.deepEqual([answer.status.code, answer.fatalError], ['0x0', '0x2a'])
    assert.equal(bench.t.refused(accessCommand(bench.vm, 'read', GPA, 1)).currentState, 'dead')
  })

  it('intel-tdx.md a.3: a launching guest is not dead', () => {
    const { t, vm } = launching()
    assert.equal(t.host.hardware.vmState(vm), 'launching')
    assert.equal(hostOf(t).data.tds.size, 1)
  })
})

/** Frames stay where they are: what the module maps is what the kernel holds. */
it('intel-tdx.md c.1: the Secure EPT maps the memfile’s own pages', () => {
  const bench = pending()
  const { t, vm } = bench
  for (let page = 0; page < 4; page++) {
    const mapping = t.host.hardware.translatePrivate?.(vm, GFN + page)
    assert.deepEqual(mapping, { frame: frameOf(bench, GPA + page * PAGE), span: 1, private: true })
  }
  assert.equal(t.host.hardware.translatePrivate?.(vm, GFN + 4), undefined)
})
