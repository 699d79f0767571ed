import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { CommandOf } from '../../../../src/domain/commands.ts'
import { vcpuAt } from '../../../../src/hw/tdx/module/td.ts'
import { assertClean, assigned, hostOf, newHost, running, seamcall, tdIn } from './td-host.ts'

const create = (config: Record<string, unknown> = {}, vcpus = 1): CommandOf<'vm.create'> => ({
  type: 'vm.create',
  name: null,
  vcpus,
  conversion: 'auto',
  privacy: 'populated',
  config,
})

/** errno, code and hw_error of a refusal. */
const rows: [string, Record<string, unknown>, number, readonly unknown[]][] = [
  [
    'ATTRIBUTES.DEBUG is nothing KVM supports',
    { attributes: '0x1' },
    1,
    ['EINVAL', 'attributes-unsupported', undefined],
  ],
  ['nor MIGRATABLE', { attributes: '0x20000000' }, 1, ['EINVAL', 'attributes-unsupported', undefined]],
  ['nor PKS', { attributes: '0x50000000' }, 1, ['EINVAL', 'attributes-unsupported', undefined]],
  ['nor a reserved bit', { attributes: '0x4000000000000000' }, 1, ['EINVAL', 'attributes-unsupported', undefined]],
  ['XFAM without x87 and SSE', { xfam: '0x0' }, 1, ['EINVAL', 'seamcall-refused', '0xc000010000000041']],
  ['XFAM with a part of AVX-512', { xfam: '0x27' }, 1, ['EINVAL', 'seamcall-refused', '0xc000010000000041']],
  ['a TSC below 100 MHz', { tscFrequency: 3 }, 1, ['EINVAL', 'seamcall-refused', '0xc000010000000046']],
  ['a TSC above 10 GHz', { tscFrequency: 401 }, 1, ['EINVAL', 'seamcall-refused', '0xc000010000000046']],
  ['more vCPUs than maxVcpus', { maxVcpus: 1 }, 2, ['EINVAL', 'too-many-vcpus', undefined]],
]
for (const [name, config, vcpus, expected] of rows) {
  test(`intel-tdx.md g, a.4: INIT_VM refuses ${name}, and leaves no trace`, () => {
    const t = newHost()
    const { errno, code, hardware } = t.refused(create(config, vcpus))
    assert.deepEqual([errno, code, hardware?.code], expected)
  })
}

test('intel-tdx.md g: what is supported is taken: SEPT_VE_DISABLE, PERFMON, both widths, AVX-512', () => {
  const t = newHost()
  for (const config of [
    { attributes: '0x8000000010000000' },
    { attributes: '0x0', flexiblePendingVe: true },
    { gpaw: 52 },
    { xfam: '0xe7' },
    { tscFrequency: 4, maxVcpus: 4096 },
    { tscFrequency: 400 },
  ])
    t.ok(create(config))
})

test('intel-tdx.md g: no free HKID is ENOSPC, and a deleted TD gives one back', () => {
  const t = newHost()
  const { total } = t.host.hardware.keys()
  const vms = Array.from({ length: total }, () => t.vm())
  assert.equal(t.errno(create()), 'ENOSPC')
  assert.equal(t.errno(create({ xfam: '0x0' })), 'EINVAL', 'what is wrong in itself comes first')
  t.deleteVm(vms[7] ?? '')
  t.ok(create())
  assert.equal(t.errno(create()), 'ENOSPC')
})

test('intel-tdx.md a.4: a TD takes 1 TDR, 6 TDCX and 6 pages a vCPU; without them ENOMEM, and no trace', () => {
  const t = newHost(512)
  const free = t.free()
  const vm = t.vm({ vcpus: 3 })
  assert.equal(free - t.free(), 1 + 6 + 3 * 6)
  assert.equal(assigned(t), 1 + 6 + 3 * 6)
  t.deleteVm(vm)
  assertClean(t, free)
  const many = Math.floor((free - 7) / 6)
  assert.equal(t.errno(create({}, many + 1)), 'ENOMEM')
  t.ok(create({}, many))
  assert.ok(t.free() < 6)
})

test('intel-tdx.md b: a page that the kernel holds for free and the module does not: EIO, and no trace', () => {
  const bench = running()
  const { t } = bench
  // Whatever page comes next from the pool is given to the TD by hand.
  const next = t.host.memory.allocateFrame()
  t.host.memory.freeFrame(next)
  seamcall(bench, 'TDH.MEM.SEPT.ADD', { gpa: '0x0', level: 3, page: `0x${(next * 4096).toString(16)}` })
  const { errno, code } = t.refused(create())
  assert.deepEqual([errno, code], ['EIO', 'page-not-free'])
  t.deleteVm(bench.vm)
  t.ok(create())
})

test('intel-tdx.md a.4: vCPUs are READY, on a logical processor each, with RCX, R8 and RSI as they start with', () => {
  const t = newHost()
  const vm = t.vm({ vcpus: 3, config: { tdHob: '0x809000' } })
  const td = tdIn(t, vm)
  assert.deepEqual([td.lifecycle, td.opState, td.epoch, td.tdcx.length], [1, 1, 1, 6])
  for (let index = 0; index < 3; index++) {
    const vcpu = vcpuAt(td, index)
    assert.deepEqual(
      [vcpu?.state, vcpu?.index, vcpu?.lp, vcpu?.initialRcx, vcpu?.tdcx.length],
      [2, index, index, 0x809000n, 5],
    )
  }
  const second = t.vm({ config: {} })
  assert.equal(vcpuAt(tdIn(t, second), 0)?.initialRcx, 0n)
})

test('intel-tdx.md a.4, e.3: identity fields are kept as given, and never measured', () => {
  const t = newHost()
  const fields = { mrconfigid: '01'.repeat(48), mrowner: '02'.repeat(48), mrownerconfig: '03'.repeat(48) }
  const named = t.vm({ config: fields })
  const plain = t.vm()
  const { params } = tdIn(t, named)
  assert.deepEqual(
    [params.mrconfigid, params.mrowner, params.mrownerconfig].map((bytes) => Buffer.from(bytes).toString('hex')),
    Object.values(fields),
  )
  const digest = (vm: string) => t.ok({ type: 'launch.finish', vm, options: {} }).digest
  assert.equal(digest(named), digest(plain))
})

test('intel-tdx.md a.5: every VM deleted gives its key and its pages back, launching or running', () => {
  const t = newHost()
  const free = t.free()
  const vms = [t.vm(), t.vm({ vcpus: 4 })]
  t.ok({ type: 'launch.finish', vm: vms[1] ?? '', options: {} })
  assert.equal(hostOf(t).data.tds.size, 2)
  for (const vm of vms) t.deleteVm(vm)
  assertClean(t, free)
})
