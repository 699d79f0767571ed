import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { RequestEntry } from '../../../src/hw/contract.ts'
import { type Bench, codeOf, createBench, FRAME, fingerprint, GFN, hpa, mapPrivate, VM } from './fake-machine.ts'
import { bringTo, stateOfFrame } from './page-states.ts'

const exitsOf = (bench: Bench, entries: readonly RequestEntry[]): number[][] => {
  const { hardware, guest } = bench
  const request = hardware.beginRequest(guest, entries)
  const exits: number[][] = []
  for (let exit = hardware.nextExit(guest, request); exit; exit = hardware.nextExit(guest, request)) {
    exits.push([exit.gfn, exit.pages])
    hardware.completeExit(guest, request, 0)
  }
  return exits
}

test('c.2: entries that merge still go in requests of 253', () => {
  const exits = exitsOf(createBench(), [
    { gfn: 0, pages: 100, span: 1, operation: 'private' },
    { gfn: 100, pages: 600, span: 1, operation: 'private' },
    { gfn: 700, pages: 70, span: 1, operation: 'private' },
  ])
  assert.deepEqual(exits, [
    [0, 253],
    [253, 253],
    [506, 253],
    [759, 11],
  ])
})

test('c.2: an entry with progress ends the exit before it', () => {
  const { asGuest, hardware, guest } = createBench()
  const entry = (gfn: number, curPage: number) => ({ gpa: hpa(gfn), operation: 1, curPage })
  const call = asGuest('SNP_PAGE_STATE_CHANGE', { endEntry: 2, entries: [entry(1, 0), entry(2, 1), entry(3, 0)] })
  assert.ok(call.kind === 'request')
  const gfns: number[] = []
  for (let exit = hardware.nextExit(guest, call.request); exit; exit = hardware.nextExit(guest, call.request)) {
    assert.equal(exit.pages, 1)
    gfns.push(exit.gfn)
    hardware.completeExit(guest, call.request, 0)
  }
  assert.deepEqual(gfns, [1, 3])
})

const immutable = (bench: Bench, index: number, gfn: number) =>
  assert.equal(
    codeOf(
      bench.host('RMPUPDATE', { hpa: hpa(FRAME + index), gpa: hpa(gfn), assigned: true, asid: 1, immutable: true }),
    ),
    0,
  )
const unsmash = (bench: Bench): number => {
  const before = fingerprint(bench)
  const code = codeOf(bench.host('SNP_PAGE_UNSMASH', { hpa: hpa(FRAME) }))
  if (code !== 0) assert.equal(fingerprint(bench), before)
  return code
}

test('b.6: UNSMASH wants consecutive gpas from a 2M border, one state, one ASID, equal permissions, no VMSA', () => {
  const shifted = createBench()
  for (let index = 0; index < 512; index++) immutable(shifted, index, GFN + 1 + index)
  assert.equal(unsmash(shifted), 0x1a, 'gpa not 2M-aligned')
  const gap = createBench()
  for (let index = 0; index < 512; index++) immutable(gap, index, index === 200 ? GFN + 600 : GFN + index)
  assert.equal(unsmash(gap), 0x1a, 'gpas not consecutive')
  const guestPages = (permissions: (index: number) => number, vmsa: boolean): Bench => {
    const bench = createBench()
    bringTo(bench, 'Guest-Valid', FRAME, GFN, '2M')
    bench.host('PSMASH', { hpa: hpa(FRAME) })
    mapPrivate(bench, GFN, FRAME, 512)
    for (let index = 0; index < 512; index++) {
      const args = { gpa: hpa(GFN + index), targetVmpl: 1, permissions: permissions(index), vmsa }
      assert.equal(codeOf(bench.asGuest('RMPADJUST', args)), 0)
      immutable(bench, index, GFN + index)
    }
    return bench
  }
  assert.equal(unsmash(guestPages(() => 3, true)), 0x1a, 'VMSA pages')
  assert.equal(unsmash(guestPages((index) => (index === 511 ? 1 : 3), false)), 0x1a, 'permissions differ')
  const joined = guestPages(() => 3, false)
  assert.equal(unsmash(joined), 0)
  assert.equal(codeOf(joined.host('SNP_PAGE_RECLAIM', { hpa: hpa(FRAME), pageSize: '2M' })), 0)
  assert.equal(stateOfFrame(joined, FRAME), 'Guest-Valid')
})

test('b.5: RMPADJUST refuses reserved values first, and a VMSA mark from below VMPL0', () => {
  const bench = createBench()
  const adjust = (args: Readonly<Record<string, unknown>>) =>
    codeOf(bench.asGuest('RMPADJUST', { gpa: hpa(GFN), permissions: 0, ...args }))
  assert.equal(adjust({ targetVmpl: 4 }), 1)
  assert.equal(adjust({ targetVmpl: 1, permissions: 0x20 }), 1)
  assert.equal(adjust({ targetVmpl: 0 }), 2)
  bringTo(bench, 'Guest-Valid', FRAME, GFN)
  assert.equal(adjust({ targetVmpl: 2, vmpl: 1, vmsa: true }), 2)
  assert.equal(adjust({ targetVmpl: 2, vmsa: true }), 0)
})

test('c.3: acceptance that goes on inside a 2M page ends with that page', () => {
  const bench = createBench()
  for (let index = 0; index < 512; index++) bringTo(bench, 'Guest-Invalid', FRAME + index, GFN + index)
  mapPrivate(bench, GFN, FRAME, 512)
  assert.equal(codeOf(bench.hardware.accept(bench.guest, GFN + 300, 1, 512)), 0)
  const runs: unknown[] = []
  bench.hardware.describe(VM, GFN, FRAME, 512, (count, { hardware }) => runs.push([count, hardware.rmp]))
  assert.deepEqual(runs, [
    [300, 'Guest-Invalid'],
    [212, 'Guest-Valid'],
  ])
})

test('b.6: a page that was never validated keeps its contents through swap and reclaim', () => {
  const bench = createBench()
  const metadata = `0x${((FRAME + 0x400) * 4096).toString(16)}`
  const secret = new Uint8Array(4096).fill(0x11)
  bringTo(bench, 'Metadata', FRAME + 0x400, 0)
  bringTo(bench, 'Firmware', FRAME + 1, 0)
  bringTo(bench, 'Guest-Invalid', FRAME, GFN)
  bench.machine.write(FRAME, secret)
  immutable(bench, 0, GFN)
  assert.notDeepEqual(bench.machine.read(FRAME), secret, 'Pre-Guest memory is what it is')
  const run = (name: string, args: Readonly<Record<string, unknown>>) => assert.equal(codeOf(bench.host(name, args)), 0)
  run('SNP_PAGE_SWAP_OUT', { hpa: hpa(FRAME), destination: hpa(FRAME + 1), metadata })
  bringTo(bench, 'Pre-Guest', FRAME + 2, GFN + 2)
  run('SNP_PAGE_SWAP_IN', { hpa: hpa(FRAME + 1), destination: hpa(FRAME + 2), metadata })
  assert.equal(stateOfFrame(bench, FRAME + 2), 'Pre-Guest')
  run('SNP_PAGE_RECLAIM', { hpa: hpa(FRAME + 2) })
  assert.deepEqual(bench.machine.read(FRAME + 2), secret)
})

test('d.8: a second FINISH does not touch the VMSAs of the first', () => {
  const bench = createBench()
  assert.ok(bench.hardware.launchFinish(VM, {}).ok)
  const before = fingerprint(bench)
  assert.ok(!bench.hardware.launchFinish(VM, { vcpuType: 'EPYC-Turin' }).ok)
  assert.equal(fingerprint(bench), before)
})

test('b.2: Firmware, Metadata and Firmware-IOMMU beside each other are three runs', () => {
  const bench = createBench()
  bringTo(bench, 'Firmware', FRAME, 0)
  bringTo(bench, 'Metadata', FRAME + 1, 0)
  bringTo(bench, 'Firmware-IOMMU', FRAME + 2, 0)
  const runs: unknown[] = []
  bench.hardware.describe(VM, 0, FRAME, 3, (count, { owner, hardware }) => runs.push([count, owner, hardware.rmp]))
  assert.deepEqual(runs, [
    [1, 'firmware', 'Firmware'],
    [1, 'firmware', 'Metadata'],
    [1, 'firmware', 'Firmware-IOMMU'],
  ])
  const rmp = bench.hardware.explain(VM, 0, FRAME + 1).rmp as Record<string, unknown>
  assert.equal(rmp.context, hpa(bench.data.vms.get(VM)?.context ?? 0))
})
