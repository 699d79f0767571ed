import assert from 'node:assert/strict'
import { test } from 'node:test'
import type { AccessKind, GuestCheck, Mapping } from '../../../src/hw/contract.ts'
import {
  type Bench,
  codeOf,
  createBench,
  FRAME,
  FRAMES,
  fingerprint,
  GFN,
  hpa,
  mapPrivate,
  VM,
} from './fake-machine.ts'
import { bringTo, REACHABLE } from './page-states.ts'

const check = (
  bench: Bench,
  more: { gfn?: number; span?: number; shared?: boolean; kind?: AccessKind; vmpl?: number; frame?: number } = {},
): GuestCheck => {
  const mapping: Mapping = { frame: more.frame ?? FRAME, span: more.span ?? 1, private: more.shared !== true }
  return bench.hardware.checkGuest(
    VM,
    more.gfn ?? GFN,
    mapping,
    more.shared !== true,
    more.kind ?? 'read',
    more.vmpl ?? 0,
    0,
  )
}
const errorCode = (result: GuestCheck): string | undefined =>
  result.kind === 'host-fault' || result.kind === 'guest-fault' ? result.fault.errorCode : undefined
const RMP = 1n << 31n
const FINAL = 1n << 32n
const ENC = 1n << 34n
const SIZEM = 1n << 35n
const VMPL = 1n << 36n
const bits = (...values: bigint[]): string =>
  `0x${values.reduce((sum, bit) => sum | bit, 1n | RMP | FINAL).toString(16)}`

test('b.7: C=1 passes only on a validated page of this guest, at its gpa and size', () => {
  for (const [state, sizes] of REACHABLE)
    for (const size of sizes) {
      const bench = createBench()
      bringTo(bench, state, FRAME, GFN, size)
      const result = check(bench, { span: size === '2M' ? 512 : 1, kind: 'write' })
      const expected = state === 'Guest-Valid' ? 'ok' : state === 'Guest-Invalid' ? 'guest-fault' : 'host-fault'
      assert.equal(result.kind, expected, `${state} ${size}`)
      if (state === 'Guest-Invalid') assert.equal(result.kind === 'guest-fault' && result.fault.code, 0x404)
      if (expected === 'host-fault') {
        assert.equal(errorCode(result), bits(2n, ENC), state)
        assert.ok(result.kind === 'host-fault' && !result.mended)
      }
    }
})

test('b.7: each check of C=1, in order', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Invalid', FRAME, GFN)
  assert.equal(errorCode(check(bench, { frame: FRAMES })), bits(ENC), 'outside the RMP')
  assert.equal(errorCode(check(bench, { gfn: GFN + 1 })), bits(ENC), 'gpa before validated')
  assert.equal(errorCode(check(bench, { span: 512 })), bits(ENC, SIZEM), 'size before validated')
  assert.equal(check(bench, { vmpl: 1 }).kind, 'guest-fault', 'validated before VMPL')
  assert.equal(errorCode(check(bench, { kind: 'execute', shared: true })), '0x404', 'a fetch is private')
})

test('b.7: nested 4K over RMP 2M is smashed by KVM, and the access then goes through', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Valid', FRAME, GFN, '2M')
  const first = check(bench, { gfn: GFN + 3, frame: FRAME + 3 })
  assert.ok(first.kind === 'host-fault' && first.mended)
  assert.equal(errorCode(first), bits(ENC, SIZEM))
  assert.deepEqual(
    bench.machine.events.map(({ name, frame }) => ({ name, frame })),
    [{ name: 'PSMASH', frame: FRAME }],
  )
  assert.equal(check(bench, { gfn: GFN + 3, frame: FRAME + 3 }).kind, 'ok')
  const large = check(bench, { span: 512 })
  assert.ok(large.kind === 'host-fault' && large.mended, 'KVM zaps the 2M mapping of 4K entries')
})

test('b.7: VMPL permissions, and a VMSA is never written', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Valid', FRAME, GFN)
  assert.equal(errorCode(check(bench, { vmpl: 1 })), bits(ENC, VMPL))
  const adjust = (args: Readonly<Record<string, unknown>>) =>
    codeOf(bench.asGuest('RMPADJUST', { gpa: hpa(GFN), targetVmpl: 1, ...args }))
  assert.equal(adjust({ permissions: 3 }), 0)
  assert.equal(check(bench, { vmpl: 1, kind: 'write' }).kind, 'ok')
  assert.equal(check(bench, { vmpl: 1, kind: 'execute' }).kind, 'host-fault')
  assert.equal(adjust({ permissions: 8, targetVmpl: 2, vmpl: 1 }), 2, 'not more than VMPL1 has')
  assert.equal(adjust({ permissions: 1, targetVmpl: 2, vmpl: 1 }), 0)
  const query = bench.asGuest('RMPQUERY', { gpa: hpa(GFN), targetVmpl: 1 })
  assert.deepEqual(query.kind === 'done' && query.outputs, { permissions: 3, pageSize: '4K', vmsa: false })
  assert.equal(adjust({ permissions: 0, vmsa: true }), 0)
  assert.equal(check(bench, { kind: 'write' }).kind, 'host-fault')
  assert.equal(check(bench).kind, 'ok')
})

test('b.7, a.1: C=0 reads always pass and see what the host sees, C=0 writes only to pages that are not assigned', () => {
  for (const [state, sizes] of REACHABLE)
    for (const size of sizes) {
      const bench = createBench()
      bringTo(bench, state, FRAME, GFN, size)
      assert.equal(check(bench, { shared: true }).kind, bench.hardware.checkHost(FRAME, 'read', 'kernel').kind, state)
      const write = check(bench, { shared: true, kind: 'write' })
      if (state === 'Hypervisor' || state === 'HV-Fixed') assert.equal(write.kind, 'ok')
      else assert.equal(errorCode(write), bits(2n), state)
    }
})

test('b.7: host writes to assigned pages fault by who writes, reads of private pages see ciphertext', () => {
  for (const [state, sizes] of REACHABLE)
    for (const size of sizes) {
      const bench = createBench()
      bringTo(bench, state, FRAME, GFN, size)
      const host = (kind: 'read' | 'write', as: 'user' | 'kernel' | 'device') => {
        const result = bench.hardware.checkHost(FRAME, kind, as)
        return 'fault' in result
          ? `${result.kind} ${result.fault.name} ${result.fault.errorCode ?? ''}`.trim()
          : result.kind
      }
      const free = state === 'Hypervisor' || state === 'HV-Fixed'
      assert.equal(host('write', 'user'), free ? 'ok' : 'fault #PF 0x80000007', state)
      assert.equal(host('write', 'kernel'), free ? 'ok' : 'crash #PF 0x80000003', state)
      assert.equal(host('write', 'device'), free ? 'ok' : 'fault RMP_PAGE_FAULT', state)
      const secret = ['Guest-Valid', 'Guest-Invalid', 'Pre-Swap', 'Context'].includes(state)
      for (const as of ['user', 'kernel', 'device'] as const)
        assert.equal(host('read', as), secret ? 'ciphertext' : 'ok')
      assert.equal(bench.hardware.firstGuarded(FRAME - 8, 16), free ? -1 : FRAME)
    }
})

test('a.1: ciphertext is deterministic, tweaked by address and not the plaintext; a page given back is garbage', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Valid', FRAME, GFN)
  bringTo(bench, 'Guest-Valid', FRAME + 1, GFN + 1)
  const secret = new Uint8Array(4096).fill(0x41)
  bench.machine.write(FRAME, secret)
  bench.machine.write(FRAME + 1, secret)
  const seen = bench.hardware.ciphertext(FRAME)
  assert.deepEqual(bench.hardware.ciphertext(FRAME), seen)
  assert.notDeepEqual(seen, secret)
  assert.notDeepEqual(bench.hardware.ciphertext(FRAME + 1), seen)
  assert.equal(codeOf(bench.host('RMPUPDATE', { hpa: hpa(FRAME), assigned: false })), 0)
  assert.deepEqual(bench.machine.read(FRAME), seen, 'RMPUPDATE never touches memory')
  bringTo(bench, 'Guest-Valid', FRAME, GFN)
  assert.deepEqual(bench.machine.read(FRAME), secret, 'the old ciphertext at its old address, under the same key')
  bench.host('RMPUPDATE', { hpa: hpa(FRAME), gpa: hpa(GFN), assigned: true, asid: 2 })
  assert.notDeepEqual(bench.machine.read(FRAME), secret, 'another key')
})

test('b.5: PVALIDATE faults, restarts after a PSMASH, and tells CF', () => {
  const bench = createBench()
  const pvalidate = (args: Readonly<Record<string, unknown>> = {}) =>
    bench.asGuest('PVALIDATE', { gpa: hpa(GFN), ...args })
  const missing = pvalidate()
  assert.ok(missing.kind === 'fault' && !missing.mended)
  assert.equal(missing.fault.errorCode, `0x${(FINAL | ENC).toString(16)}`)
  mapPrivate(bench, GFN, FRAME)
  assert.equal(pvalidate().kind, 'fault', 'not assigned')
  bringTo(bench, 'Guest-Invalid', FRAME, GFN, '2M')
  mapPrivate(bench, GFN, FRAME, 512)
  const smashed = pvalidate()
  assert.ok(smashed.kind === 'fault' && smashed.mended)
  assert.equal(smashed.fault.errorCode, bits(ENC, SIZEM))
  mapPrivate(bench, GFN, FRAME, 512)
  assert.deepEqual(pvalidate(), { kind: 'done', status: { name: 'SUCCESS', code: 0 }, outputs: { carry: false } })
  const before = fingerprint(bench)
  assert.deepEqual(pvalidate(), { kind: 'done', status: { name: 'SUCCESS', code: 0 }, outputs: { carry: true } })
  assert.equal(fingerprint(bench), before)
  assert.equal(codeOf(pvalidate({ pageSize: '2M' })), 6)
})

test('c.3: acceptance falls back to 512 × 4K, passes over what is valid, and goes on where a fault stopped it', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Invalid', FRAME, GFN, '2M')
  mapPrivate(bench, GFN, FRAME, 512)
  for (let index = 512; index < 1024; index++) bringTo(bench, 'Guest-Invalid', FRAME + index, GFN + index)
  mapPrivate(bench, GFN + 512, FRAME + 512, 300)
  const { hardware, guest } = bench
  const stopped = hardware.accept(guest, GFN, 2, 512)
  assert.ok(stopped.kind === 'fault' && stopped.gfn === GFN + 812)
  mapPrivate(bench, GFN + 812, FRAME + 812, 212)
  assert.equal(codeOf(hardware.accept(guest, GFN + 512, 1, 512)), 0)
  const runs: unknown[] = []
  hardware.describe(VM, GFN, FRAME, 1024, (count, { owner, hardware: words }) =>
    runs.push([count, owner, words.rmp, words.pageSize]),
  )
  assert.deepEqual(runs, [
    [512, 'guest', 'Guest-Valid', '2M'],
    [512, 'guest', 'Guest-Valid', '4K'],
  ])
})

test('config.freshPages: zeros by default, garbage where asked for', () => {
  for (const freshPages of ['zero', 'scrambled']) {
    const bench = createBench({ config: { freshPages } })
    bringTo(bench, 'Guest-Valid', FRAME, GFN)
    assert.equal(bench.machine.read(FRAME) === undefined, freshPages === 'zero')
  }
})
