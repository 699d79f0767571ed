import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import { createBench, FRAME, GFN, gpa, hpa, must, refuses, SOURCE, tdOf } from './td-bench.ts'

const block = (text: string, address: bigint): Buffer => {
  const bytes = Buffer.alloc(128)
  bytes.write(text, 'latin1')
  bytes.writeBigUInt64LE(address, 16)
  return bytes
}
const address = (gfn: number, offset = 0): bigint => BigInt(gfn) * 4096n + BigInt(offset)
const content = (): Uint8Array => Uint8Array.from({ length: 4096 }, (_, index) => (index * 7) % 251)

test('e.1: PAGE.ADD counts its address, MR.EXTEND the bytes of the TD’s page; nothing else counts', () => {
  const bench = createBench('with vCPU')
  const page = content()
  bench.machine.write(SOURCE, page)
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN), page: hpa(FRAME), source: hpa(SOURCE) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN + 9), page: hpa(FRAME + 9) })
  must(bench, 'TDH.MR.EXTEND', { gpa: `0x${address(GFN, 0x300).toString(16)}` })
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), page: hpa(FRAME + 1), source: hpa(SOURCE + 1) })
  must(bench, 'TDH.MR.EXTEND', { gpa: gpa(GFN + 1) })
  must(bench, 'TDH.MEM.PAGE.REMOVE', { gpa: gpa(GFN) })
  const expected = createHash('sha384')
    .update(block('MEM.PAGE.ADD', address(GFN)))
    .update(block('MR.EXTEND', address(GFN, 0x300)))
    .update(page.subarray(0x300, 0x400))
    .update(block('MEM.PAGE.ADD', address(GFN + 1)))
    .update(block('MR.EXTEND', address(GFN + 1)))
    .update(Buffer.alloc(256))
    .digest('hex')
  assert.equal(must(bench, 'TDH.MR.FINALIZE').mrtd, expected)
  assert.equal(Buffer.from(tdOf(bench).finalDigest ?? []).toString('hex'), expected)
})

test('c.3 MR.EXTEND: 256-byte alignment, a private GPA, a page that is mapped', () => {
  const bench = createBench('with vCPU')
  for (const bad of ['0x80000080', '0x80000001', '0x800080000000', '0x10000080000000'])
    refuses(bench, '0xc000010000000001', 'TDH.MR.EXTEND', { gpa: bad })
  const NOT_PRESENT = '0xc0000b0300000001'
  refuses(bench, NOT_PRESENT, 'TDH.MR.EXTEND', { gpa: gpa(GFN) })
  refuses(bench, NOT_PRESENT, 'TDH.MR.EXTEND', { gpa: gpa(GFN + 4096) })
  must(bench, 'TDH.MEM.PAGE.AUG', { gpa: gpa(GFN), page: hpa(FRAME) })
  refuses(bench, NOT_PRESENT, 'TDH.MR.EXTEND', { gpa: gpa(GFN) })
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN + 1), page: hpa(FRAME + 1), source: hpa(SOURCE) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: gpa(GFN + 1) })
  refuses(bench, NOT_PRESENT, 'TDH.MR.EXTEND', { gpa: gpa(GFN + 1) })
  must(bench, 'TDH.MEM.RANGE.UNBLOCK', { gpa: gpa(GFN + 1) })
  must(bench, 'TDH.MEM.RANGE.BLOCK', { gpa: '0x0', level: 3 })
  refuses(bench, NOT_PRESENT, 'TDH.MR.EXTEND', { gpa: gpa(GFN + 1) })
})

test('c.3 MEM.RD and MEM.WR: debug TDs only, 8 aligned bytes of a mapped page', () => {
  const bench = createBench('with vCPU', { params: { attributes: '0x1' } })
  bench.machine.write(SOURCE, content())
  must(bench, 'TDH.MEM.PAGE.ADD', { gpa: gpa(GFN), page: hpa(FRAME), source: hpa(SOURCE) })
  const at = { gpa: `0x${address(GFN, 8).toString(16)}` }
  const before = `0x${Buffer.from(content()).readBigUInt64LE(8).toString(16)}`
  assert.equal(must(bench, 'TDH.MEM.RD', at).r8, before)
  assert.equal(must(bench, 'TDH.MEM.WR', { ...at, value: '0xfedcba9876543210' }).r8, before)
  assert.equal(must(bench, 'TDH.MEM.RD', at).r8, '0xfedcba9876543210')
  assert.deepEqual(bench.machine.read(SOURCE), content())
  for (const name of ['TDH.MEM.RD', 'TDH.MEM.WR']) {
    refuses(bench, '0xc000010000000001', name, { gpa: '0x80000004', value: '0x1' })
    refuses(bench, '0xc000010000000001', name, { gpa: '0x800080000000', value: '0x1' })
    refuses(bench, '0xc0000b0300000001', name, { gpa: gpa(GFN + 1), value: '0x1' })
    refuses(createBench('with vCPU'), '0xc000060500000000', name, { gpa: '0x80000004', value: '0x1' })
  }
})
