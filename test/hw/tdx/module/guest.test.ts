import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import type { CallResult } from '../../../../src/hw/contract.ts'
import { parseTdReport } from '../../../../src/hw/tdx/evidence/tdreport.ts'
import { raiseVe } from '../../../../src/hw/tdx/module/guest-memory.ts'
import {
  addTables,
  type Bench,
  buildTd,
  codeOf,
  createBench,
  createEmptyBench,
  FRAME,
  GFN,
  gpa,
  hpa,
  must,
  outputsOf,
  refuses,
  stateAt,
  tdOf,
  vcpuOf,
} from './td-bench.ts'

const ALIGNED = GFN + 512
const LARGE_FRAME = FRAME + 512
const place = { gpa: gpa(GFN) }
const large = { gpa: gpa(ALIGNED), level: 1 }
const ACCEPT = 'TDG.MEM.PAGE.ACCEPT'

const bytes = (fill: number): Uint8Array => new Uint8Array(4096).fill(fill)

/** The exit of a guest call, which has changed nothing but where the vCPU is. */
function exits(result: CallResult): { readonly gfn: number; readonly errorCode: string; readonly extended: string } {
  assert.ok(result.kind === 'fault')
  assert.deepEqual([result.private, result.write, result.mended], [true, true, false])
  assert.deepEqual([result.fault.name, result.fault.code], ['EPT_VIOLATION', '0x30'])
  const extended = /extended qualification (0x[0-9a-f]+)/.exec(result.fault.detail)?.[1] ?? ''
  return { gfn: result.gfn, errorCode: result.fault.errorCode ?? '', extended }
}

/** c.5 step 5: type 1; level asked, level reached, public state, leaf. */
const acceptInfo = (asked: number, reached: number, state: number, leaf: boolean): string =>
  `0x${(1n | (BigInt(asked | (reached << 3) | (state << 6) | (leaf ? 1 << 14 : 0)) << 32n)).toString(16)}`

function mapped(bench: Bench, gfn = GFN, frame = FRAME, level = 0): void {
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(gfn), level, page: hpa(frame) })
  must(bench, ACCEPT, { gpa: gpa(gfn), level })
}

test('c.5: a pending page is accepted once, and zero', () => {
  const bench = createBench()
  bench.machine.write(FRAME, bytes(7))
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  assert.deepEqual(bench.machine.read(FRAME), bytes(7))
  must(bench, ACCEPT, place)
  assert.equal(bench.machine.read(FRAME), undefined)
  assert.equal(stateAt(bench, GFN), 'MAPPED')
  bench.machine.write(FRAME, bytes(8))
  refuses(bench, '0xb0a00000000', ACCEPT, place)
})

test('c.5: a pending 2M page is accepted whole', () => {
  const bench = createBench()
  bench.machine.write(LARGE_FRAME + 511, bytes(7))
  must(bench, 'TDH.MEM.PAGE.AUG', { ...large, page: hpa(LARGE_FRAME) })
  must(bench, ACCEPT, large)
  assert.equal(bench.machine.read(LARGE_FRAME + 511), undefined)
  assert.equal(stateAt(bench, ALIGNED, 1), 'MAPPED')
  refuses(bench, '0xb0a00000001', ACCEPT, large)
  refuses(bench, '0xb0a00000001', ACCEPT, { gpa: gpa(ALIGNED + 3) })
})

test('c.5 step 1: level, alignment, reserved bits, shared GPA', () => {
  const bench = createBench()
  for (const args of [
    { gpa: '0x0', level: 2 },
    { gpa: '0x0', level: 4 },
    { gpa: '0x1000', level: 1 },
    { gpa: '0x8' },
    { gpa: '0x10000000000000' },
    { gpa: '0x800000000000' },
  ])
    refuses(bench, '0xc000010000000001', ACCEPT, args)
})

test('c.5 step 2: where nothing usable is, the TD exits and the host maps the page', () => {
  const bench = createBench()
  const free = exits(bench.run(ACCEPT, place))
  assert.deepEqual(free, { gfn: GFN, errorCode: '0x2', extended: acceptInfo(0, 0, 0, false) })
  const noTable = exits(bench.run(ACCEPT, { gpa: gpa(GFN + 1024) }))
  assert.deepEqual(noTable, { gfn: GFN + 1024, errorCode: '0x2', extended: acceptInfo(0, 1, 0, false) })
  must(bench, 'TDH.MEM.PAGE.AUG', { ...large, page: hpa(LARGE_FRAME) })
  const pending = exits(bench.run(ACCEPT, { gpa: gpa(ALIGNED + 4) }))
  assert.deepEqual(pending, { gfn: ALIGNED + 4, errorCode: '0x2', extended: acceptInfo(0, 1, 2, true) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', large)
  const blocked = exits(bench.run(ACCEPT, large))
  assert.deepEqual(blocked, { gfn: ALIGNED, errorCode: '0x2', extended: acceptInfo(1, 1, 3, true) })
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  must(bench, ACCEPT, place)
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  assert.deepEqual(exits(bench.run(ACCEPT, place)).extended, acceptInfo(0, 0, 1, true))
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 1 })
  assert.deepEqual(exits(bench.run(ACCEPT, place)).extended, acceptInfo(0, 1, 129, false))
})

test('c.5 step 3: 2M where 4K pages are is a size mismatch', () => {
  const bench = createBench()
  refuses(bench, '0xc0000b0b00000001', ACCEPT, { gpa: gpa(GFN), level: 1 })
  mapped(bench)
  refuses(bench, '0xc0000b0b00000001', ACCEPT, { gpa: gpa(GFN), level: 1 })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN), level: 1 })
  refuses(bench, '0xc0000b0b00000001', ACCEPT, { gpa: gpa(GFN), level: 1 })
})

test('c.5 step 2: under a mapped 1G page both sizes are accepted already, at level 2', () => {
  const bench = createBench('with vCPU')
  addTables(bench, 0x100000, 1, 0x180)
  for (let at = 0; at < 262144; at += 512)
    must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(0x100000 + at), level: 1, page: hpa(FRAME + at) })
  tdOf(bench).opState = 2
  for (let at = 0; at < 262144; at += 512) must(bench, ACCEPT, { gpa: gpa(0x100000 + at), level: 1 })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(0x100000), level: 2 })
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.PAGE.PROMOTE', { gpa: gpa(0x100000), level: 2 })
  refuses(bench, '0xb0a00000002', ACCEPT, { gpa: gpa(0x100200), level: 1 })
  refuses(bench, '0xb0a00000002', ACCEPT, { gpa: gpa(0x100007) })
})

test('c.3: an unaccepted page that comes back is pending again, and zero once accepted', () => {
  const bench = createBench()
  mapped(bench)
  bench.machine.write(FRAME, bytes(4))
  must(bench, 'TDH.MEM.RANGE.BLOCK', place)
  must(bench, 'TDH.MEM.TRACK')
  must(bench, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  assert.equal(stateAt(bench, GFN), 'PENDING')
})

test('c.4, c.5: an exit makes a vCPU that was inside leave', () => {
  const bench = createBench()
  must(bench, 'TDH.VP.ENTER')
  exits(bench.run(ACCEPT, place))
  assert.deepEqual([vcpuOf(bench).state, ...tdOf(bench).refcount], [2, 0, 0])
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDG.VP.VMCALL')
  assert.deepEqual([vcpuOf(bench).state, ...tdOf(bench).refcount], [2, 0, 0])
  must(bench, 'TDH.VP.ENTER')
  must(bench, 'TDG.VP.INFO')
  assert.equal(vcpuOf(bench).state, 4)
})

test('d.1: VP.INFO tells GPAW, attributes, vCPUs', () => {
  const bench = createBench('runnable', { params: { configFlags: 1 }, vcpus: 2 })
  const { rcx, rdx, r8, r9 } = must(bench, 'TDG.VP.INFO', {}, 1)
  assert.deepEqual([rcx, rdx, r8, r9], ['0x34', '0x10000000', '0x400000002', '0x1'])
  assert.equal(must(createBench(), 'TDG.VP.INFO').rcx, '0x30')
})

test('d.2: VEINFO.GET gives what the last #VE left, once; another #VE before is #DF', () => {
  const bench = createBench()
  refuses(bench, '0xc000070400000000', 'TDG.VP.VEINFO.GET')
  assert.equal(raiseVe(vcpuOf(bench), 0x80000123n, 2).status.name, '#VE')
  assert.equal(raiseVe(vcpuOf(bench), 0x80000123n, 2).status.name, '#DF')
  assert.deepEqual(must(bench, 'TDG.VP.VEINFO.GET'), {
    rcx: '0x30',
    rdx: '0x2',
    r8: '0x80000123',
    r9: '0x80000123',
    r10: '0x0',
  })
  refuses(bench, '0xc000070400000000', 'TDG.VP.VEINFO.GET')
})

test('d.2: the guest decides on pending pages itself where CONFIG_FLAGS allows', () => {
  const bench = createBench('runnable', { params: { attributes: '0x0', configFlags: 2 } })
  const write = { field: 'TD_CTLS', value: '0x1', mask: '0x1' }
  assert.equal(must(bench, 'TDG.VM.RD', { field: 'CONFIG_FLAGS' }).r8, '0x2')
  assert.equal(must(bench, 'TDG.VM.WR', write).r8, '0x0')
  assert.equal(must(bench, 'TDG.VM.RD', { field: 'TD_CTLS' }).r8, '0x1')
  assert.equal(must(bench, 'TDG.VM.WR', { ...write, value: '0x0' }).r8, '0x1')
  refuses(bench, '0xc0000c0100000000', 'TDG.VM.WR', { ...write, mask: '0x2' })
  refuses(bench, '0xc0000c0100000000', 'TDG.VM.WR', { ...write, field: 'CONFIG_FLAGS' })
  refuses(bench, '0xc0000c0300000000', 'TDG.VM.WR', { field: 'TD_CTLS', value: '0x3', mask: '0x3' })
  const fixed = createBench()
  assert.equal(must(fixed, 'TDG.VM.RD', { field: 'TD_CTLS' }).r8, '0x1')
  refuses(fixed, '0xc0000c0100000000', 'TDG.VM.WR', { ...write, value: '0x0' })
})

test('e.2: RTMR.EXTEND hashes 48 bytes of private memory', () => {
  const bench = createBench()
  mapped(bench)
  const page = bytes(0)
  page.fill(5, 64, 112)
  bench.machine.write(FRAME, page)
  const at = { gpa: `0x${(GFN * 4096 + 64).toString(16)}` }
  const expected = createHash('sha384').update(new Uint8Array(48)).update(new Uint8Array(48).fill(5)).digest('hex')
  assert.equal(must(bench, 'TDG.MR.RTMR.EXTEND', { ...at, index: 3 }).rtmr, expected)
  assert.equal(Buffer.from(tdOf(bench).rtmrs[3]).toString('hex'), expected)
  assert.ok(tdOf(bench).rtmrs[2].every((byte) => byte === 0))
  refuses(bench, '0xc000010000000002', 'TDG.MR.RTMR.EXTEND', { ...at, index: 4 })
  refuses(bench, '0xc000010000000001', 'TDG.MR.RTMR.EXTEND', { gpa: '0x80000020', index: 4 })
  refuses(bench, '0xc000010000000001', 'TDG.MR.RTMR.EXTEND', { gpa: '0x800080000000', index: 4 })
})

test('d.2, e.2: an operand in a page that is not there exits; in a pending one it is #VE or an exit', () => {
  const extend = { ...place, index: 0 }
  const quiet = createBench()
  assert.deepEqual(exits(quiet.run('TDG.MR.RTMR.EXTEND', extend)), { gfn: GFN, errorCode: '0x1', extended: '0x0' })
  must(quiet, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  const died = quiet.run('TDG.MR.RTMR.EXTEND', extend)
  assert.ok(died.kind === 'done')
  assert.deepEqual([died.status, died.outputs?.errno], [{ name: 'EPT_VIOLATION', code: '0x30' }, 'EIO'])
  assert.match(String(died.outputs?.detail), /extended qualification 0x6/)
  assert.equal(quiet.data.vms.get('vm-1')?.dead, true)
  const loud = createBench('runnable', { params: { attributes: '0x0' } })
  must(loud, 'TDH.MEM.PAGE.AUG', { ...place, page: hpa(FRAME) })
  assert.equal(codeOf(loud.run('TDG.MR.RTMR.EXTEND', extend)), '0x14')
  assert.equal(must(loud, 'TDG.VP.VEINFO.GET').r9, gpa(GFN))
})

test('e.3: MR.REPORT writes a report over the guest’s data', () => {
  const bench = createBench('runnable', { params: { mrowner: '07'.repeat(48) } })
  mapped(bench)
  mapped(bench, GFN + 1, FRAME + 1)
  bench.machine.write(FRAME, bytes(9))
  const args = { gpa: `0x${(GFN * 4096 + 1024).toString(16)}`, reportData: gpa(GFN + 1) }
  bench.machine.write(FRAME + 1, bytes(3))
  const { tdreport } = must(bench, 'TDG.MR.REPORT', args)
  const page = bench.machine.read(FRAME) ?? bytes(0)
  const report = page.subarray(1024, 2048)
  assert.equal(Buffer.from(report).toString('base64'), tdreport)
  assert.equal(page[1023], 9)
  assert.equal(page[2048], 9)
  const parsed = parseTdReport(report)
  assert.ok(parsed.ok)
  assert.deepEqual(Uint8Array.from(parsed.report.reportData), new Uint8Array(64).fill(3))
  assert.deepEqual(Uint8Array.from(parsed.report.tdInfo.mrowner), new Uint8Array(48).fill(7))
  assert.deepEqual(Buffer.from(parsed.report.tdInfo.mrtd).toString('hex').slice(0, 8), '38b060a7')
  refuses(bench, '0xc000010000000001', 'TDG.MR.REPORT', { ...args, gpa: '0x80000200' })
  refuses(bench, '0xc000010000000002', 'TDG.MR.REPORT', { ...args, reportData: '0x80000020' })
  refuses(bench, '0xc000010000000008', 'TDG.MR.REPORT', { ...args, subtype: '0x1' })
  refuses(bench, '0xc000010000000001', 'TDG.MR.REPORT', { ...args, gpa: '0x800080000000' })
  refuses(bench, '0xc000010000000002', 'TDG.MR.REPORT', { ...args, reportData: '0x800080000000' })
  assert.equal(exits(bench.run('TDG.MR.REPORT', { ...args, gpa: gpa(GFN + 7) })).errorCode, '0x2')
  assert.equal(exits(bench.run('TDG.MR.REPORT', { ...args, reportData: gpa(GFN + 7) })).errorCode, '0x1')
})

test('d.4: VMCALL leaves with exit reason 77 and hands over its registers', () => {
  const bench = createBench()
  const outputs = must(bench, 'TDG.VP.VMCALL', { r11: '0x10001' })
  assert.deepEqual(outputs, { exit: { rax: '0x4d', exitReason: 77, name: 'TDCALL' }, r11: '0x10001' })
  for (const rcx of ['0x1', '0x2', '0x10', '0x100000000'])
    refuses(bench, '0xc000010000000001', 'TDG.VP.VMCALL', { rcx })
})

test('d.6: a host write is silent until the guest reads; then the TD dies, and can be torn down', () => {
  const bench = createBench()
  mapped(bench)
  mapped(bench, GFN + 1, FRAME + 1)
  bench.data.poisoned.add(FRAME)
  must(bench, 'TDG.MR.RTMR.EXTEND', { gpa: gpa(GFN + 1), index: 0 })
  must(bench, 'TDH.VP.ENTER')
  const result = bench.run('TDG.MR.RTMR.EXTEND', { ...place, index: 0 })
  assert.equal(codeOf(result), '0x6000000500000000')
  assert.equal(outputsOf(result).r9, '0x80000312')
  assert.deepEqual(tdOf(bench).refcount, [0, 0])
  const FATAL = '0xe000060400000000'
  refuses(bench, FATAL, 'TDH.VP.ENTER')
  refuses(bench, FATAL, 'TDG.VP.INFO')
  refuses(bench, FATAL, 'TDH.MEM.RANGE.BLOCK', place)
  refuses(bench, FATAL, 'TDH.MEM.PAGE.REMOVE', place)
  must(bench, 'TDH.VP.FLUSH')
  must(bench, 'TDH.MNG.VPFLUSHDONE')
  for (const index of [0, 1]) must(bench, 'TDH.PHYMEM.CACHE.WB', { package: index })
  must(bench, 'TDH.MNG.KEY.FREEID')
  must(bench, 'TDH.PHYMEM.PAGE.RECLAIM', { page: hpa(FRAME) })
  assert.equal(bench.data.poisoned.size, 0)
})

test('d.6: the other TD lives on', () => {
  const bench = createEmptyBench()
  buildTd(bench, 'runnable')
  buildTd(bench, 'runnable', { tdr: 0x1000, base: 0x1000 })
  tdOf(bench).fatal = true
  must(bench, 'TDH.VP.ENTER', { tdvpr: hpa(0x1040) })
})
