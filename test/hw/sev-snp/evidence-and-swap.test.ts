import assert from 'node:assert/strict'
import { X509Certificate } from 'node:crypto'
import { test } from 'node:test'
import { readEndorsementKey } from '../../../src/hw/amd/certificate-reader.ts'
import { platform } from '../../../src/hw/amd/platform-keys.ts'
import { parseReport, verifyReport } from '../../../src/hw/amd/report.ts'
import { type Bench, codeOf, createBench, FRAME, GFN, hpa, VM } from './fake-machine.ts'
import { bringTo, stateOfFrame } from './page-states.ts'

test('e: a running guest gets a signed report with its nonce, digest and host data; the chain vouches for the key', () => {
  const bench = createBench()
  const nonce = new Uint8Array(20).fill(3)
  const early = bench.hardware.evidence(VM, nonce)
  assert.deepEqual(early.ok || early.refusal.hardware, { status: 'INVALID_GUEST_STATE', code: 2 })
  assert.ok(bench.hardware.launchFinish(VM, { hostData: Buffer.alloc(32, 7).toString('base64') }).ok)
  const evidence = bench.hardware.evidence(VM, nonce)
  assert.ok(evidence.ok)
  assert.equal(evidence.value.simulated, true)
  const bytes = Buffer.from(String(evidence.value.report), 'base64')
  assert.equal(bytes.length, 0x4a0)
  const parsed = parseReport(bytes)
  assert.ok(parsed.ok)
  const { report } = parsed
  assert.deepEqual(Buffer.from(report.reportData), Buffer.concat([nonce, Buffer.alloc(44)]))
  assert.equal(Buffer.from(report.measurement).toString('hex'), bench.hardware.launchLog(VM).digest)
  assert.equal(report.policy, 0x30000n)
  assert.deepEqual(Buffer.from(report.hostData), Buffer.alloc(32, 7))
  assert.ok(verifyReport(bytes, platform('test').vcekPublic))
  const changed = Buffer.from(bytes)
  changed[0x50] = 0xff
  assert.ok(!verifyReport(changed, platform('test').vcekPublic))
  const again = bench.hardware.evidence(VM, nonce)
  assert.deepEqual(again, evidence, 'deterministic')
  const long = bench.hardware.evidence(VM, new Uint8Array(65))
  assert.equal(long.ok || long.refusal.errno, 'EINVAL')
  const [vcek, ask, ark] = bench.hardware.certificates()
  assert.deepEqual([vcek?.name, ask?.name, ark?.name], ['VCEK', 'ASK', 'ARK'])
  const certificate = new X509Certificate(vcek?.pem ?? '')
  assert.ok(new X509Certificate(ask?.pem ?? '').subject.includes('SIMULATED'))
  assert.ok(readEndorsementKey(certificate.raw) !== undefined)
})

const OUT = FRAME + 0x200
const METADATA = FRAME + 0x400
const entry = (index: number): string => `0x${(METADATA * 4096 + index * 64).toString(16)}`
const SECRET = new Uint8Array(4096).fill(0x77)

/** A validated page with contents, a metadata page and a place to swap to. */
function prepare(pageSize: '4K' | '2M' = '4K'): Bench {
  const bench = createBench()
  bringTo(bench, 'Metadata', METADATA, 0)
  bringTo(bench, 'Pre-Swap', FRAME, GFN, pageSize)
  bringTo(bench, 'Firmware', OUT, 0, pageSize)
  bench.machine.write(FRAME, SECRET)
  return bench
}
const swapOut = (bench: Bench, more = {}) =>
  codeOf(bench.host('SNP_PAGE_SWAP_OUT', { hpa: hpa(FRAME), destination: hpa(OUT), metadata: entry(1), ...more }))
const swapIn = (bench: Bench, more = {}) =>
  codeOf(bench.host('SNP_PAGE_SWAP_IN', { hpa: hpa(OUT), destination: hpa(FRAME), metadata: entry(1), ...more }))

test('b.6: a page swapped out comes back once, elsewhere, with contents, gpa and validation', () => {
  for (const pageSize of ['4K', '2M'] as const) {
    const bench = prepare(pageSize)
    const last = pageSize === '2M' ? 511 : 0
    bench.machine.write(FRAME + last, SECRET)
    assert.equal(swapOut(bench, { pageSize, softwareData: '0x1234' }), 0)
    assert.equal(stateOfFrame(bench, FRAME), 'Pre-Guest')
    assert.notDeepEqual(bench.machine.read(OUT), SECRET)
    const metadata = Buffer.from(bench.machine.read(METADATA) ?? [])
    assert.equal(metadata.readBigUInt64LE(64), 0x1234n)
    assert.equal(metadata.readBigUInt64LE(64 + 0x20), (BigInt(GFN) << 12n) | 3n | (pageSize === '2M' ? 16n : 0n))
    const back = FRAME + 0x800
    const destination = hpa(back)
    bringTo(bench, 'Pre-Guest', back, GFN + 0x4000, pageSize)
    assert.equal(swapIn(bench, { destination, pageSize }), 0)
    assert.equal(stateOfFrame(bench, back), 'Pre-Swap')
    assert.deepEqual(bench.machine.read(back + last), SECRET)
    assert.equal(swapIn(bench, { pageSize }), 0x1b, 'VALID is cleared')
    assert.equal(codeOf(bench.host('SNP_PAGE_RECLAIM', { hpa: destination, pageSize })), 0)
    const read = bench.host('RMPREAD', { hpa: destination })
    assert.equal(read.kind === 'done' && read.outputs?.gpa, hpa(GFN))
  }
})

test('b.6: a changed byte is BAD_MEASUREMENT and changes nothing; kinds must agree', () => {
  const bench = prepare()
  assert.equal(swapOut(bench), 0)
  const stored = bench.machine.read(OUT) ?? new Uint8Array(0)
  const broken = Uint8Array.from(stored)
  broken[100] = (broken[100] ?? 0) ^ 1
  bench.machine.write(OUT, broken)
  assert.equal(swapIn(bench), 0xb)
  assert.equal(stateOfFrame(bench, FRAME), 'Pre-Guest')
  assert.equal(swapIn(bench, { pageType: 'vmsa' }), 0x1b)
  assert.equal(swapIn(bench, { inPlace: true }), 9)
  bench.machine.write(OUT, stored)
  assert.equal(swapIn(bench), 0)
})

test('b.6: in place, a Pre-Guest page holding the ciphertext becomes the page', () => {
  const bench = prepare()
  assert.equal(swapOut(bench), 0)
  const stored = bench.machine.read(OUT)
  bench.machine.write(FRAME, stored)
  assert.equal(swapIn(bench, { hpa: hpa(FRAME), inPlace: true }), 0)
  assert.deepEqual(bench.machine.read(FRAME), SECRET)
})

test('b.6: a metadata page goes out and in, and keeps its entries', () => {
  const bench = prepare()
  assert.equal(swapOut(bench), 0)
  const outer = FRAME + 0x600
  const place = FRAME + 0x601
  bringTo(bench, 'Metadata', outer, 0)
  bringTo(bench, 'Firmware', place, 0)
  const saved = bench.machine.read(METADATA)
  const metadata = hpa(outer)
  const common = { pageType: 'metadata', metadata }
  assert.equal(swapOut(bench, { ...common, hpa: hpa(METADATA), destination: hpa(place) }), 0)
  assert.equal(stateOfFrame(bench, METADATA), 'Firmware')
  assert.equal(swapIn(bench, { ...common, hpa: hpa(place), destination: hpa(METADATA), inPlace: true }), 0x16)
  assert.equal(swapIn(bench, { ...common, hpa: hpa(place), destination: hpa(METADATA) }), 0)
  assert.equal(stateOfFrame(bench, METADATA), 'Metadata')
  assert.deepEqual(bench.machine.read(METADATA), saved)
  assert.equal(swapIn(bench), 0)
})

test('b.6: PAGE_MOVE carries contents and gpa', () => {
  const bench = prepare()
  bringTo(bench, 'Pre-Guest', FRAME + 1, GFN + 0x4000)
  assert.equal(codeOf(bench.host('SNP_PAGE_MOVE', { hpa: hpa(FRAME), destination: hpa(FRAME + 1) })), 0)
  assert.deepEqual(bench.machine.read(FRAME + 1), SECRET)
  assert.deepEqual([stateOfFrame(bench, FRAME), stateOfFrame(bench, FRAME + 1)], ['Guest-Invalid', 'Guest-Valid'])
})

test('b.6: with DEBUG in the policy the host reads and writes plain bytes', () => {
  const bench = createBench({ config: { policy: '0xb0000' } })
  bringTo(bench, 'Guest-Valid', FRAME, GFN, '2M')
  bringTo(bench, 'Firmware', OUT, 0)
  bench.machine.write(FRAME + 5, SECRET)
  assert.equal(codeOf(bench.host('SNP_DBG_DECRYPT', { hpa: hpa(FRAME + 5), destination: hpa(OUT) })), 0)
  assert.deepEqual(bench.machine.read(OUT), SECRET)
  bringTo(bench, 'Pre-Guest', FRAME + 0x600, GFN + 0x4000)
  const target = { hpa: hpa(FRAME + 0x600) }
  assert.equal(codeOf(bench.host('SNP_DBG_ENCRYPT', { hpa: hpa(OUT), destination: target.hpa })), 0)
  assert.notDeepEqual(bench.machine.read(FRAME + 0x600), SECRET)
  bench.host('SNP_PAGE_RECLAIM', target)
  assert.deepEqual(bench.machine.read(FRAME + 0x600), SECRET)
})

test('describe and explain use the words of b.2', () => {
  const bench = createBench()
  bringTo(bench, 'Guest-Valid', FRAME, GFN, '2M')
  bringTo(bench, 'Metadata', METADATA, 0)
  const runs: [number, string, string][] = []
  bench.hardware.describe(VM, 0, FRAME, 0x500, (count, { owner, hardware }) =>
    runs.push([count, owner, String(hardware.rmp)]),
  )
  assert.deepEqual(runs, [
    [512, 'guest', 'Guest-Valid'],
    [512, 'host', 'Hypervisor'],
    [1, 'firmware', 'Metadata'],
    [255, 'host', 'Hypervisor'],
  ])
  const rmp = bench.hardware.explain(VM, GFN + 1, FRAME + 1).rmp as Record<string, unknown>
  assert.equal(rmp.state, 'Guest-Valid')
  assert.equal(rmp.firstEntry, hpa(FRAME))
  assert.deepEqual(rmp.permissions, { vmpl0: 'rwusk', vmpl1: '-----', vmpl2: '-----', vmpl3: '-----' })
  assert.deepEqual(bench.hardware.explain(VM, GFN, undefined), {})
})
