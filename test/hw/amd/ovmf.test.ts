import assert from 'node:assert/strict'
import { existsSync, readdirSync, readFileSync } from 'node:fs'
import path from 'node:path'
import { test } from 'node:test'
import fc from 'fast-check'
import { planSnpLaunch, type SnpPlanInputs } from '../../../src/hw/amd/launch-plan.ts'
import { parseFirmware } from '../../../src/hw/amd/ovmf.ts'
import { planSevLaunch } from '../../../src/hw/amd/sev-plan.ts'
import { type OvmfImageOptions, ovmfImage, STANDARD_SECTIONS } from '../../support/ovmf-image.ts'

const kernel = { kernel: Buffer.from('kernel'), initrd: null, cmdline: null }
const plan = (image: Uint8Array, more: Partial<SnpPlanInputs> = {}) =>
  planSnpLaunch({ image, vmm: 'qemu', vcpus: 2, cpuSignature: 0x800f12, sevFeatures: 1n, kernel: null, ...more })
const codeOf = (answer: ReturnType<typeof plan>) => (answer.ok ? 'planned' : answer.fault.code)
const parseCode = (image: Uint8Array) => {
  const answer = parseFirmware(image)
  return answer.ok ? 'parsed' : answer.fault.code
}

test('amd-sev-snp.md d.5: every entry of the table and every section is read', () => {
  const unknown = { guid: '40000000-dead-beef-8000-000000000001', data: Buffer.from([1, 2, 3]) }
  const answer = parseFirmware(ovmfImage({ pages: 3, entries: [unknown], svsmLaunchOffset: 0x123 }))
  assert.ok(answer.ok)
  const { firmware } = answer
  assert.equal(firmware.gpa, 0x100000000 - 3 * 4096)
  assert.equal(firmware.resetEip, 0x80b004)
  assert.deepEqual(firmware.kernelHashTable, { gpa: 0x810c00, size: 0x400 })
  assert.equal(firmware.svsmLaunchOffset, 0x123)
  assert.equal(firmware.launchSecret, null)
  assert.deepEqual(firmware.sections, STANDARD_SECTIONS)
  assert.equal(firmware.entries[0]?.guid, unknown.guid)
})

test('amd-sev-snp.md d.5: an image without the footer GUID has no table, and cannot launch under SEV-SNP', () => {
  const image = Buffer.alloc(8192, 0xff)
  const answer = parseFirmware(image)
  assert.ok(answer.ok && answer.firmware.entries.length === 0 && answer.firmware.sections === null)
  assert.equal(codeOf(plan(image)), 'image-no-metadata')
  assert.equal(planSevLaunch({ image, kernel: null }).ok, true)
})

test('amd-sev-snp.md d.5: malformed images are refused with a reason', () => {
  const poke = (write: (image: Buffer) => void) => {
    const image = ovmfImage()
    write(image)
    return parseCode(image)
  }
  const metadata = 8192 - 4096 + 0x100
  assert.equal(parseCode(new Uint8Array(0)), 'image-empty')
  assert.equal(parseCode(new Uint8Array(4095)), 'image-unaligned')
  assert.equal(
    poke((image) => image.writeUInt16LE(17, image.length - 50)),
    'image-table',
  )
  assert.equal(
    poke((image) => image.writeUInt16LE(0xffff, image.length - 50)),
    'image-table',
  )
  assert.equal(
    poke((image) => image.writeUInt16LE(17, image.length - 68)),
    'image-table-entry',
  )
  assert.equal(
    poke((image) => image.writeUInt16LE(0xffff, image.length - 68)),
    'image-table-entry',
  )
  assert.equal(
    poke((image) => image.write('X', metadata)),
    'image-metadata',
  )
  assert.equal(
    poke((image) => image.writeUInt32LE(0xffffffff, metadata + 4)),
    'image-metadata',
  )
  assert.equal(
    poke((image) => image.writeUInt32LE(16, metadata + 4)),
    'image-metadata',
  )
  assert.equal(
    poke((image) => image.writeUInt32LE(2, metadata + 8)),
    'image-metadata',
  )
  assert.equal(
    poke((image) => image.writeUInt32LE(0xffffffff, metadata + 12)),
    'image-metadata',
  )
  const short = { guid: 'dc886566-984a-4798-a75e-5585a7bf67cc', data: Buffer.from([0, 0, 0]) }
  assert.equal(parseCode(ovmfImage({ entries: [short] })), 'image-table-entry')
  for (const offset of [0, 15, 8193, 0xffffffff]) {
    const data = Buffer.alloc(4)
    data.writeUInt32LE(offset)
    assert.equal(parseCode(ovmfImage({ entries: [{ ...short, data }] })), 'image-metadata', `offset ${offset}`)
  }
})

test('amd-sev-snp.md d.5: what a VMM must refuse of a readable image', () => {
  const refusal = (options: OvmfImageOptions, more: Partial<SnpPlanInputs> = {}) =>
    codeOf(plan(ovmfImage(options), more))
  const section = (gpa: number, size: number, type: number) => ({ sections: [{ gpa, size, type }] })
  assert.equal(refusal({}), 'planned')
  assert.equal(refusal({}, { kernel }), 'planned')
  assert.equal(refusal({ sections: null }), 'image-no-metadata')
  assert.equal(refusal({ resetEip: null }), 'image-no-reset-block')
  assert.equal(refusal({ resetEip: 0 }), 'image-no-reset-block')
  assert.equal(refusal(section(0x800001, 0x1000, 1)), 'section-unaligned')
  assert.equal(refusal(section(0x800000, 0x1001, 1)), 'section-unaligned')
  assert.equal(refusal(section(0xfffff000, 0x2000, 1)), 'section-range')
  assert.equal(refusal(section(0, 0xfffff000, 1)), 'section-range')
  assert.equal(refusal(section(0x800000, 0x1000, 5)), 'section-type')
  assert.equal(refusal(section(0x800000, 0x1000, 1), { kernel }), 'kernel-hashes-unsupported')
  assert.equal(refusal({ hashTable: null }, { kernel }), 'kernel-hashes-unsupported')
  assert.equal(refusal({ hashTable: { gpa: 0, size: 0x400 } }, { kernel }), 'kernel-hashes-unsupported')
  assert.equal(refusal({ hashTable: { gpa: 0x810c00, size: 175 } }, { kernel }), 'kernel-hashes-table')
  assert.equal(refusal({ hashTable: { gpa: 0x810f80, size: 0x400 } }, { kernel }), 'kernel-hashes-table')
  assert.equal(refusal(section(0x810000, 0x2000, 0x10), { kernel }), 'kernel-hashes-section')
})

test('amd-sev-snp.md d.4: sections that overlap are planned, and named', () => {
  const answer = plan(
    ovmfImage({
      sections: [
        { gpa: 0x800000, size: 0x3000, type: 1 },
        { gpa: 0x802000, size: 0x1000, type: 2 },
      ],
    }),
  )
  assert.ok(answer.ok)
  assert.deepEqual(answer.overlaps, [0x802000])
})

const valid = ovmfImage({ svsmLaunchOffset: 0x10 })
const survives = (image: Uint8Array) => {
  for (const vmm of ['qemu', 'ec2', 'gce', 'krun'] as const) plan(image, { vmm, kernel })
  plan(valid, { svsm: { image, varsSize: 0x1000 } })
  planSevLaunch({ image, kernel, es: { vmm: 'qemu', vcpus: 2, cpuSignature: 0 } })
}

test('ovmf: random bytes never throw', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), fc.nat(2), (tail, pages) => {
      const image = new Uint8Array(pages * 4096 + (tail.length % 2 ? 0 : 4096))
      image.set(tail.subarray(0, image.length), Math.max(0, image.length - tail.length))
      survives(image)
      survives(tail)
    }),
  )
})

test('ovmf: mutated valid images never throw and are judged quickly', () => {
  // Mutations fall where a VMM reads: the metadata, and the table at the end.
  const places = fc.oneof(fc.integer({ min: 0x1100, max: 0x1180 }), fc.integer({ min: 8192 - 220, max: 8191 }))
  const mutation = fc.tuple(places, fc.oneof(fc.constantFrom(0, 1, 0x7f, 0x80, 0xff), fc.nat(255)))
  fc.assert(
    fc.property(fc.array(mutation, { minLength: 1, maxLength: 12 }), (mutations) => {
      const image = Buffer.from(valid)
      for (const [at, value] of mutations) image[at] = value
      const before = performance.now()
      survives(image)
      assert.ok(performance.now() - before < 1000)
    }),
    { numRuns: 2000 },
  )
})

const distribution = ['/usr/share/OVMF', '/usr/share/ovmf'].filter((folder) => existsSync(folder))
test('ovmf: a distribution’s own images are planned or refused cleanly', {
  skip: distribution.length === 0 && 'no OVMF images are installed here',
}, (context) => {
  for (const folder of distribution)
    for (const name of readdirSync(folder).filter((file) => file.endsWith('.fd'))) {
      const answer = plan(readFileSync(path.join(folder, name)))
      context.diagnostic(`${name}: ${codeOf(answer)}`)
      if (/VARS/.test(name)) assert.equal(codeOf(answer), 'image-no-metadata')
    }
})
