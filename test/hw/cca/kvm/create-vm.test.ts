import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CommandOf } from '../../../../src/domain/commands.ts'
import { GRANULE, ownerFrame } from '../../../../src/hw/cca/rmm/granules.ts'
import { hex, PAGE } from '../../../support/domain.ts'
import { assertClean, delegated, granuleAt, hostOf, must, newHost, realmIn, running, type Value } from './realm-host.ts'

const create = (config: Value = {}, vcpus = 1): CommandOf<'vm.create'> => ({
  type: 'vm.create',
  name: null,
  vcpus,
  conversion: 'auto',
  privacy: 'populated',
  config,
})

const refusals: [string, Value][] = [
  ['an IPA below 32 bits', { s2sz: 31 }],
  ['an IPA beyond 48 bits without LPA2', { s2sz: 49 }],
  ['an IPA beyond 52 bits', { s2sz: 53, lpa2: true }],
  ['no breakpoint', { numBps: 0 }],
  ['more breakpoints than there are', { numBps: 16 }],
  ['no watchpoint', { numWps: 0 }],
  ['more watchpoints than there are', { numWps: 16 }],
  ['a longer vector than there is', { sveVl: 16 }],
  ['a PMU without counters', { pmuNumCtrs: 0 }],
  ['more PMU counters than there are', { pmuNumCtrs: 32 }],
  ['level -1 without LPA2', { s2sz: 48, rttLevelStart: -1 }],
  ['a start level too deep for 16 tables', { s2sz: 41, rttLevelStart: 2 }],
  ['a start level whose one entry is all of the space', { s2sz: 32, rttLevelStart: 0 }],
  ['root tables of level 3', { s2sz: 32, rttLevelStart: 3 }],
]
for (const [name, config] of refusals) {
  test(`arm-cca.md 3: REALM_CREATE refuses ${name}: EINVAL, and no trace`, () => {
    const t = newHost()
    const { errno, code, pointer } = t.refused(create(config))
    assert.deepEqual([errno, code, pointer], ['EINVAL', 'realm-params', '/config'])
  })
}

test('arm-cca.md 3: (s2sz, start level, tables): root tables lie together, aligned to their size', () => {
  const rows: [number, number, number, Value?][] = [
    [32, 2, 4],
    [34, 2, 16],
    [33, 2, 8],
    [40, 1, 2],
    [41, 1, 4],
    [42, 1, 8],
    [40, 0, 1],
    [48, 0, 1],
    [52, 0, 16, { lpa2: true }],
    [52, -1, 1, { lpa2: true }],
  ]
  const t = newHost()
  t.host.memory.allocateFrame()
  for (const [s2sz, rttLevelStart, tables, more] of rows) {
    const vm = t.vm({ config: { s2sz, rttLevelStart, ...more } })
    const { rtt, rd } = realmIn({ t, vm })
    assert.deepEqual([rtt.startLevel, rtt.rootTables], [rttLevelStart, tables])
    assert.equal(rtt.rootFrame % tables, 0)
    assert.equal(granuleAt(t, rd), GRANULE.RD)
    for (let table = 0; table < tables; table++) {
      assert.equal(granuleAt(t, rtt.rootFrame + table), GRANULE.RTT)
      assert.equal(ownerFrame(hostOf(t).data.granules, rtt.rootFrame + table), rd)
    }
  }
})

test('arm-cca.md 9: by default the root is as deep as 16 tables allow', () => {
  const t = newHost()
  const of = (config: Value) => {
    const { rtt } = realmIn({ t, vm: t.vm({ config }) })
    return [rtt.startLevel, rtt.rootTables]
  }
  assert.deepEqual(of({}), [1, 4])
  assert.deepEqual(of({ s2sz: 33 }), [2, 8])
  assert.deepEqual(of({ s2sz: 34 }), [2, 16])
  assert.deepEqual(of({ s2sz: 35 }), [1, 1])
  assert.deepEqual(of({ s2sz: 44 }), [0, 1])
})

test('arm-cca.md 3: a Realm is NEW, with an RD and its root tables and nothing else', () => {
  const t = newHost()
  const free = t.free()
  const vm = t.vm({ vcpus: 3 })
  const { state, recs, hashAlgo } = realmIn({ t, vm })
  assert.deepEqual([state, recs, hashAlgo], ['NEW', [], 0])
  assert.deepEqual([free - t.free(), delegated(t)], [5, 5])
  t.deleteVm(vm)
  assertClean(t, free)
})

test('arm-cca.md 3: VMIDs are those that no Realm has, and REALM_DESTROY frees them', () => {
  const t = newHost()
  const vms = [t.vm(), t.vm(), t.vm()]
  const vmids = () => [...hostOf(t).data.vmids].sort()
  assert.deepEqual(vmids(), [1, 2, 3])
  t.deleteVm(vms[1] ?? '')
  assert.deepEqual(vmids(), [1, 3])
  assert.equal(realmIn({ t, vm: t.vm() }).vmid, 2)
  assert.deepEqual(t.host.hardware.keys(), { total: 65535, inUse: 3 })
})

test('arm-cca.md 3: a VMID that a raw REALM_CREATE has taken is passed over; none free is ENOSPC', () => {
  const t = newHost()
  const { vmids } = hostOf(t).data
  for (let vmid = 1; vmid <= 65535; vmid++) if (vmid !== 700) vmids.add(vmid)
  const vm = t.vm()
  assert.equal(realmIn({ t, vm }).vmid, 700)
  const { errno, code } = t.refused(create())
  assert.deepEqual([errno, code], ['ENOSPC', 'no-vmid'])
})

test('arm-cca.md 3: no memory for root tables in a row, or for the RD: ENOMEM, and no trace', () => {
  const t = newHost(512)
  const hoard = t.memfile(512, t.vm())
  t.fallocate(hoard, 0, t.free() * PAGE)
  // Every second page: many, and never two in a row.
  for (let page = 0; page < 200; page += 2) t.punch(hoard, page * PAGE, PAGE)
  assert.deepEqual([t.free(), t.errno(create())], [100, 'ENOMEM'])
  const vm = t.vm({ config: { s2sz: 40, rttLevelStart: 0 } })
  assert.equal(t.free(), 98, 'one root table and the RD need no such place')
  t.fallocate(hoard, 0, 97 * PAGE)
  while (t.free() > 1) t.host.memory.allocateFrame()
  assert.equal(t.errno(create({ s2sz: 40, rttLevelStart: 0 })), 'ENOMEM', 'a root table, and no RD')
  const before = t.free()
  t.deleteVm(vm)
  assert.equal(t.free(), before + 2)
})

test('arm-cca.md 2: a page that the kernel holds for free and a raw call has delegated: ENOMEM, and no trace', () => {
  for (const which of ['RD', 'root'] as const) {
    const bench = running()
    const { t } = bench
    const next = which === 'RD' ? t.host.memory.allocateFrame() : t.host.memory.allocateBlock(4)
    t.host.memory.freeFrame(next)
    for (let frame = next + 1; which === 'root' && frame < next + 4; frame++) t.host.memory.freeFrame(frame)
    must(bench, 'GRANULE_DELEGATE', { addr: hex(next * PAGE) })
    const { errno, code } = t.refused(create())
    assert.deepEqual([errno, code], ['ENOMEM', 'no-realm-page'])
    must(bench, 'GRANULE_UNDELEGATE', { addr: hex(next * PAGE) })
    t.ok(create())
  }
})

test('arm-cca.md 8: what is measured of the parameters, and what is not', () => {
  const t = newHost()
  const digest = (config: Value) => {
    const vm = t.vm({ config })
    return t.host.hardware.launchLog(vm).digest
  }
  const plain = digest({})
  for (const config of [{ rpv: '01'.repeat(64) }, { rpv: '' }, { s2sz: 41, rttLevelStart: 0 }, {}])
    assert.equal(digest(config), plain)
  const others = [{ s2sz: 42 }, { numBps: 4 }, { numWps: 4 }, { sveVl: 0 }, { pmuNumCtrs: 1 }, { lpa2: true }]
  const all = [plain, ...others.map(digest), digest({ hash: 'sha-512' })]
  assert.equal(new Set(all).size, all.length)
  assert.equal(digest({ hash: 'sha-512' })?.length, 128)
})

test('arm-cca.md 3: every VM deleted gives its VMID and its pages back, NEW or ACTIVE', () => {
  const t = newHost()
  const free = t.free()
  const vms = [t.vm(), t.vm({ vcpus: 4 })]
  t.ok({ type: 'launch.finish', vm: vms[1] ?? '', options: {} })
  assert.equal(hostOf(t).data.recs.size, 4)
  for (const vm of vms) t.deleteVm(vm)
  assertClean(t, free)
})
