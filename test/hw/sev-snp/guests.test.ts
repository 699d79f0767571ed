import assert from 'node:assert/strict'
import { test } from 'node:test'
import { createAsids } from '../../../src/hw/sev-snp/asids.ts'
import type { SnpData } from '../../../src/hw/sev-snp/data.ts'
import { backend } from '../../../src/hw/sev-snp/index.ts'
import { createRmp, metadataBytes, stateAt } from '../../../src/hw/sev-snp/rmp.ts'
import {
  type Bench,
  codeOf,
  createBench,
  createEmptyBench,
  FakeMachine,
  FRAME,
  FRAMES,
  fingerprint,
  GFN,
  hpa,
  VM,
  vmOptions,
} from './fake-machine.ts'
import { bringTo, stateOfFrame } from './page-states.ts'

test('b.1: the RMP lies at the top of memory, in whole 2M; its pages are Firmware, the rest of them HV-Fixed', () => {
  for (const frames of [0x4000, 0x80000, 0x800000]) {
    const rmp = createRmp(frames)
    const size = 0x4000 + 16 * frames
    assert.equal(metadataBytes(rmp), Math.ceil(size / 0x200000) * 0x200000)
    assert.equal(rmp.ownStart % 512, 0)
    assert.equal(stateAt(rmp, rmp.ownStart - 1), 'Hypervisor')
    assert.equal(stateAt(rmp, rmp.ownStart), 'Firmware')
    const used = Math.ceil(size / 4096)
    assert.equal(stateAt(rmp, rmp.ownStart + used - 1), 'Firmware')
    if (rmp.ownStart + used < frames) assert.equal(stateAt(rmp, rmp.ownStart + used), 'HV-Fixed')
    assert.equal(stateAt(rmp, frames), 'Default')
  }
  assert.equal(metadataBytes(createRmp(0x4001)), 0x200000 + 4096, 'memory that is not whole 2M keeps its tail out')
})

test('d.1: KVM refuses policies with EINVAL, firmware with EIO and POLICY_FAILURE; neither leaves a trace', () => {
  const bench = createEmptyBench()
  const before = fingerprint(bench)
  const refusal = (policy: string) => {
    const verdict = bench.hardware.createVm(vmOptions(VM, { config: { policy } }))
    return verdict.ok ? undefined : [verdict.refusal.errno, verdict.refusal.hardware?.code]
  }
  assert.deepEqual(refusal('0x10000'), ['EINVAL', undefined], 'bit 17')
  assert.deepEqual(refusal('0x4030000'), ['EINVAL', undefined], 'unknown bit')
  assert.deepEqual(refusal('0x20000'), ['EIO', 7], 'no SMT on a host with SMT')
  assert.deepEqual(refusal('0x30138'), ['EIO', 7], 'ABI newer than the firmware')
  assert.deepEqual(refusal('0x230000'), ['EIO', 7], 'reserved to the firmware')
  assert.equal(fingerprint(bench), before)
  bench.machine.next = FRAMES
  const full = bench.hardware.createVm(vmOptions(VM))
  assert.equal(full.ok || full.refusal.errno, 'ENOTTY')
  assert.equal(refusal('0xb0000')?.[0], 'ENOTTY')
})

test('a new VM has its ASID and a context page; its end gives both back', () => {
  const bench = createBench()
  const { context, asid } = bench.data.vms.get(VM) ?? { context: 0, asid: 0 }
  assert.equal(asid, 1)
  assert.equal(stateOfFrame(bench, context), 'Context')
  assert.equal(bench.hardware.vmState(VM), 'launching')
  assert.deepEqual(bench.hardware.keys(), { total: 232, inUse: 1 })
  bench.hardware.destroyVm(VM)
  assert.equal(stateOfFrame(bench, context), 'Hypervisor')
  assert.deepEqual(bench.machine.freed, [context])
  assert.deepEqual(bench.hardware.keys(), { total: 232, inUse: 0 })
})

/** A host with a pool of `limit` ASIDs. */
function smallPool(limit: number): Bench {
  const { machine } = createEmptyBench()
  const data = { ...(backend.createData({ frames: FRAMES, seed: 'pool' }) as SnpData), asids: createAsids(limit) }
  const bench = createEmptyBench()
  return { ...bench, machine, data, hardware: backend.open(data, machine) as Bench['hardware'] }
}
const create = (bench: Bench, vm: string): string => {
  const verdict = bench.hardware.createVm(vmOptions(vm))
  return verdict.ok ? 'ok' : verdict.refusal.errno
}

test('f: an empty pool is EBUSY; ASIDs come back by WBINVD and DF_FLUSH when they run out', () => {
  const bench = smallPool(2)
  assert.deepEqual([create(bench, 'a'), create(bench, 'b'), create(bench, 'c')], ['ok', 'ok', 'EBUSY'])
  assert.ok(bench.hardware.launchFinish('a', {}).ok)
  bench.hardware.destroyVm('a')
  assert.equal(bench.data.asids.dirty[1], 1, 'it ran, so it is dirty')
  assert.equal(bench.data.asids.used[1], 1, 'KVM waits with the flush')
  assert.equal(create(bench, 'c'), 'ok')
  assert.equal(bench.data.vms.get('c')?.asid, 1)
  assert.equal(bench.data.asids.dirty[1], 0)
  assert.equal(create(bench, 'd'), 'EBUSY')
})

test('h 7: an ASID with pages left in the RMP is not given out, and says so when it is the last', () => {
  const bench = smallPool(1)
  assert.equal(create(bench, VM), 'ok')
  bench.hardware.assign(VM, GFN, FRAME, 1, 1)
  bench.hardware.destroyVm(VM)
  const refused = bench.hardware.createVm(vmOptions('b'))
  assert.deepEqual(refused.ok || refused.refusal.hardware, { status: 'INVALID_CONFIG', code: 3 })
  bench.hardware.release(VM, GFN, FRAME, 1)
  assert.equal(create(bench, 'b'), 'ok')
})

test('a.2, b.6: DF_FLUSH wants WBINVD first; a dirty ASID cannot be activated', () => {
  const bench = createBench()
  assert.ok(bench.hardware.launchFinish(VM, {}).ok)
  assert.equal(codeOf(bench.host('SNP_DECOMMISSION', {})), 0)
  for (const frame of bench.data.vms.get(VM)?.vmsas ?? []) bench.host('RMPUPDATE', { hpa: hpa(frame), assigned: false })
  const gctx = hpa(FRAME)
  bringTo(bench, 'Context', FRAME, 0)
  bench.host('SNP_LAUNCH_START', { gctx, policy: '0x30000' })
  assert.equal(codeOf(bench.host('SNP_ACTIVATE', { gctx, asid: 1 })), 0xf)
  assert.equal(codeOf(bench.host('SNP_DF_FLUSH', {})), 0xe)
  assert.equal(codeOf(bench.host('WBINVD', {})), 0)
  assert.equal(codeOf(bench.host('SNP_ACTIVATE', { gctx, asid: 1 })), 0xf)
  assert.equal(codeOf(bench.host('SNP_DF_FLUSH', {})), 0)
  assert.equal(codeOf(bench.host('SNP_ACTIVATE', { gctx, asid: 1 })), 0)
})

test('b.6: DECOMMISSION leaves the pages of the guest with a dead ASID', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Valid', FRAME, GFN)
  assert.equal(codeOf(bench.host('SNP_DECOMMISSION', {})), 0)
  assert.equal(stateOfFrame(bench, FRAME), 'Guest-Valid')
  assert.deepEqual(bench.hardware.launchLog(VM), { state: 'DECOMMISSIONED', digest: null, steps: [] })
  bench.hardware.destroyVm(VM)
  assert.equal(bench.data.vms.size, 0)
})

test('b.7: assign is idempotent, refuses HV-Fixed as a whole, uses 2M where all agrees; release smashes what it cuts', () => {
  const bench = createBench()
  const { hardware, machine } = bench
  assert.ok(hardware.assign(VM, GFN, FRAME, 1024, 512).ok)
  assert.equal(hardware.mappingSpan(FRAME + 700), 512)
  const before = fingerprint(bench)
  assert.ok(hardware.assign(VM, GFN, FRAME, 1024, 512).ok)
  assert.equal(fingerprint(bench), before)
  hardware.release(VM, GFN + 100, FRAME + 100, 512)
  assert.deepEqual(
    machine.events.map(({ name, frame }) => [name, frame]),
    [
      ['PSMASH', FRAME],
      ['PSMASH', FRAME + 512],
    ],
  )
  assert.equal(hardware.firstGuarded(FRAME + 100, 512), -1)
  bringTo(bench, 'HV-Fixed', FRAME + 2000, 0)
  const guarded = fingerprint(bench)
  const refused = hardware.assign(VM, GFN + 1500, FRAME + 1500, 600, 512)
  assert.equal(refused.ok || refused.refusal.errno, 'EFAULT')
  const one = hardware.assign(VM, GFN, FRAME + 2000, 1, 1)
  assert.equal(one.ok || one.refusal.errno, 'EFAULT')
  const own = hardware.assign(VM, GFN, bench.data.rmp.ownStart, 1, 1)
  assert.equal(own.ok || own.refusal.errno, 'EFAULT')
  assert.equal(fingerprint(bench), guarded)
})

test('h 5: an immutable page cannot be taken back: it is leaked, and the next kernel write is a crash', () => {
  const bench = createBench()
  bringTo(bench, 'Pre-Guest', FRAME, GFN)
  bench.hardware.release(VM, GFN, FRAME, 1)
  assert.equal(stateOfFrame(bench, FRAME), 'Pre-Guest')
  assert.equal(bench.machine.events[0]?.name, 'RMPUPDATE')
  assert.equal(bench.hardware.checkHost(FRAME, 'write', 'kernel').kind, 'crash')
})

test('gfns beyond 32 bits are kept exactly', () => {
  const bench = createBench()
  const high = 2 ** 36 - 3
  assert.ok(bench.hardware.assign(VM, high, FRAME, 1, 1).ok)
  assert.ok(bench.hardware.assign(VM, 2 ** 32 - 5, FRAME + 8, 10, 1).ok)
  const read = (frame: number): unknown => {
    const result = bench.host('RMPREAD', { hpa: hpa(frame) })
    return result.kind === 'done' && result.outputs?.gpa
  }
  assert.equal(read(FRAME), `0x${(high * 4096).toString(16)}`)
  assert.deepEqual([read(FRAME + 12), read(FRAME + 13)], ['0xffffffff000', '0x100000000000'])
  bench.hardware.release(VM, high, FRAME, 1)
  assert.ok(bench.hardware.assign(VM, 5, FRAME, 1, 1).ok)
  assert.equal(read(FRAME), '0x5000')
})

test('the same commands give the same state from the same seed, other keys from another', () => {
  const run = (seed: string): Bench => {
    const machine = new FakeMachine(FRAMES, 0x3000)
    const data = backend.createData({ frames: FRAMES, seed }) as SnpData
    const hardware = backend.open(data, machine) as Bench['hardware']
    assert.ok(hardware.createVm(vmOptions(VM)).ok)
    assert.ok(hardware.launchPage(VM, GFN, FRAME, undefined, { pageType: 'SECRETS' }).ok)
    return { ...createEmptyBench(), machine, data, hardware }
  }
  assert.equal(fingerprint(run('a')), fingerprint(run('a')))
  assert.notDeepEqual(run('a').machine.read(FRAME), run('b').machine.read(FRAME))
})

test('b.1: RMPREAD shows the raw entries of a 2M page, and 4K pages beside', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Invalid', FRAME, GFN, '2M')
  const read = (frame: number) => {
    const result = bench.host('RMPREAD', { hpa: hpa(frame) })
    return result.kind === 'done' ? result.outputs : undefined
  }
  const rest = { assigned: true, immutable: false, subpagesAssigned: false }
  assert.deepEqual(read(FRAME), { ...rest, gpa: hpa(GFN), pageSize: '2M', asid: 1 })
  assert.deepEqual(read(FRAME + 1), { ...rest, gpa: '0x0', pageSize: '4K', asid: 0 })
  bringTo(bench, 'Guest-Invalid', FRAME + 513, GFN)
  assert.equal(read(FRAME + 512)?.subpagesAssigned, true)
})
