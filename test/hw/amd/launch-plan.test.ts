import assert from 'node:assert/strict'
import { createHash, createHmac } from 'node:crypto'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import {
  extendLaunchDigest,
  LaunchDigest,
  launchMeasure,
  pageInfo,
  policyMac,
} from '../../../src/hw/amd/launch-digest.ts'
import { planSnpLaunch, type SnpPlanInputs, VMSA_GPA_GENOA_GCE } from '../../../src/hw/amd/launch-plan.ts'
import { measureSev, measureSevEs, measureSevSnp } from '../../../src/hw/amd/measure.ts'
import type { PageRun } from '../../../src/hw/amd/measure-part.ts'
import { SevInputs, SevSnpInputs } from '../../../src/hw/amd/measure-schema.ts'
import { planSevLaunch } from '../../../src/hw/amd/sev-plan.ts'
import { measureUpdates, rehash } from '../../../src/hw/amd/transcript.ts'
import { vmsaPage } from '../../../src/hw/amd/vmsa.ts'
import { parseBytes } from '../../../src/hw/shared/hex.ts'
import { ovmfImage, STANDARD_SECTIONS } from '../../support/ovmf-image.ts'

const kernel = { kernel: Buffer.from('kernel'), initrd: Buffer.from('initrd'), cmdline: 'ro' }
const image = ovmfImage({ pages: 3 })
const plan = (more: Partial<SnpPlanInputs> = {}) => {
  const answer = planSnpLaunch({
    image,
    vmm: 'qemu',
    vcpus: 2,
    cpuSignature: 0x800f12,
    sevFeatures: 1n,
    kernel: null,
    ...more,
  })
  assert.ok(answer.ok)
  return answer.updates
}
const shape = (more: Partial<SnpPlanInputs> = {}) =>
  plan(more).map(({ pageType, gpa, pages }) => `${pageType} ${gpa.toString(16)} ${pages}`)
const FIRMWARE = 'NORMAL ffffd000 3'
const VMSA = 'VMSA fffffffff000 1'

test('amd-sev-snp.md d.5: QEMU updates the firmware, the sections in table order, then one VMSA per vCPU', () => {
  const low = ['ZERO 800000 9', 'ZERO 80a000 3', 'SECRETS 80d000 1', 'CPUID 80e000 1', 'ZERO 80f000 1']
  assert.deepEqual(shape(), [FIRMWARE, ...low, 'ZERO 810000 1', 'ZERO 811000 15', VMSA, VMSA])
  assert.deepEqual(shape({ kernel }), [FIRMWARE, ...low, 'NORMAL 810000 1', 'ZERO 811000 15', VMSA, VMSA])
})

test('amd-sev-snp.md d.5: EC2 moves the CPUID page behind all other sections', () => {
  const sections = ['ZERO 80f000 1', 'ZERO 810000 1', 'ZERO 811000 15', 'CPUID 80e000 1']
  assert.deepEqual(shape({ vmm: 'ec2' }).slice(3), ['SECRETS 80d000 1', ...sections, VMSA, VMSA])
})

test('amd-sev-snp.md d.5: GCE leaves its zeroed sections unmeasured, but neither the CAA nor the hash page', () => {
  const low = ['UNMEASURED 800000 9', 'UNMEASURED 80a000 3', 'SECRETS 80d000 1', 'CPUID 80e000 1', 'ZERO 80f000 1']
  const high = ['ZERO 810000 1', 'UNMEASURED 811000 15']
  assert.deepEqual(shape({ vmm: 'gce', vcpus: 1 }), [FIRMWARE, ...low, ...high, VMSA])
  assert.equal(shape({ vmm: 'gce', vmsaGpa: VMSA_GPA_GENOA_GCE }).at(-1), 'VMSA ffffffffff000 1')
})

test('amd-sev-snp.md d.6: the hash table stands at its own offset in a page of zeros', () => {
  const page = plan({ kernel }).find(({ source }) => source === 'kernel-hashes')?.contents
  assert.ok(page)
  const cmdline = createHash('sha256').update('ro\0').digest()
  assert.deepEqual(Buffer.from(page.subarray(0xc00 + 36, 0xc00 + 68)), cmdline)
  assert.deepEqual(Buffer.from(page.subarray(0, 0xc00)), Buffer.alloc(0xc00))
  assert.deepEqual(Buffer.from(page.subarray(0xc00 + 168)), Buffer.alloc(4096 - 0xc00 - 168))
})

test('amd-sev-snp.md d.7: krun passes its zero page and stack to the first vCPU alone', () => {
  const [bsp, ap] = plan({ vmm: 'krun' }).slice(-2)
  const word = (page: Uint8Array | null | undefined, at: number) => Buffer.from(page ?? []).readBigUInt64LE(at)
  assert.deepEqual(
    [0x1d8, 0x328, 0x330, 0x310].map((at) => word(bsp?.contents, at)),
    [0x8ff0n, 0x8ff0n, 0x7000n, 0n],
  )
  assert.deepEqual(
    [0x1d8, 0x328, 0x330, 0x310].map((at) => word(ap?.contents, at)),
    [0n, 0n, 0n, 0n],
  )
  assert.equal(word(ap?.contents, 0x178), 0xb004n)
})

test('amd-sev-snp.md d.5: COCONUT-SVSM lies below the variable store and all its vCPUs start alike', () => {
  const svsmImage = ovmfImage({
    resetEip: null,
    hashTable: null,
    svsmLaunchOffset: 0x40,
    sections: [
      { gpa: 0x2000, size: 0x1000, type: 2 },
      { gpa: 0x3000, size: 0x1000, type: 3 },
    ],
  })
  const updates = plan({ svsm: { image: svsmImage, varsSize: 0x4000 } })
  const base = 0xffffd000 - 0x4000 - 0x2000
  assert.deepEqual(
    updates.map(({ pageType, gpa, pages }) => `${pageType} ${gpa.toString(16)} ${pages}`),
    [FIRMWARE, `NORMAL ${base.toString(16)} 2`, 'SECRETS 2000 1', 'CPUID 3000 1', VMSA, VMSA],
  )
  const page = Buffer.from(updates.at(-1)?.contents ?? [])
  assert.equal(page.readBigUInt64LE(0x178), BigInt(base + 0x40))
  assert.equal(page.readUInt16LE(0x410), 0)
  assert.equal(page.readUInt32LE(0x408), 0x1f80)
  assert.equal(page.readBigUInt64LE(0x158), 0x11n)
  assert.deepEqual(updates.at(-2)?.contents, updates.at(-1)?.contents)

  const inputs = { image, svsm: svsmImage, ovmfVarsSize: 0x4000, vcpus: 2, vcpuType: 'EPYC-v4' } as const
  const answer = measureSevSnp({ mode: 'snp-svsm', ...inputs })
  assert.ok(answer.ok)
  assert.equal(answer.launchDigest, measureUpdates(updates).launchDigest)
  const refusal = (more: object) => {
    const refused = measureSevSnp({ mode: 'snp-svsm', ...inputs, ...more })
    return refused.ok ? 'measured' : `${refused.fault.code} ${refused.fault.pointer}`
  }
  assert.equal(refusal({ svsm: undefined }), 'svsm-missing /svsm')
  assert.equal(refusal({ svsm: image }), 'svsm-no-info /svsm')
  assert.equal(refusal({ ovmfVarsSize: 1 }), 'vars-unaligned /ovmfVarsSize')
  assert.equal(refusal({ ovmfVarsSize: 0xfffff000 }), 'image-too-large /ovmfVarsSize')
  assert.equal(refusal({ kernel: Buffer.alloc(1) }), 'kernel-hashes-unsupported /kernel')
})

test('amd-sev-snp.md d.3: the chain, one page at a time, in bulk and from its transcript is the same', () => {
  const updates = plan({ kernel })
  const transcript = measureUpdates(updates)
  let current = Buffer.alloc(48)
  for (const { pageType, gpa, pages, contents } of updates)
    for (let page = 0; page < pages; page++) {
      const sha384 =
        contents === null
          ? Buffer.alloc(48)
          : createHash('sha384')
              .update(contents.subarray(page * 4096, (page + 1) * 4096))
              .digest()
      current = Buffer.from(extendLaunchDigest(current, pageType, gpa + page * 4096, sha384))
    }
  assert.equal(transcript.launchDigest, current.toString('hex'))
  assert.deepEqual(rehash(transcript), { ok: true, digest: transcript.launchDigest })
  const forged = structuredClone(transcript)
  const step = forged.steps[3]
  assert.ok(step)
  forged.steps[3] = { ...step, pages: step.pages + 1 }
  assert.deepEqual(rehash(forged), { ok: false, step: 3 })
})

test('amd-sev-snp.md d.2: a ZERO page is not a NORMAL page of zeros', () => {
  const zero = new LaunchDigest()
  zero.repeat('ZERO', 0, 1)
  const normal = new LaunchDigest()
  normal.pages('NORMAL', 0, Buffer.alloc(4096))
  assert.notDeepEqual(zero.value, normal.value)
})

test('amd-sev-snp.md d.2: TSC scale and offset of a launched VMSA are measured as zero', () => {
  const page = vmsaPage({ vmm: 'qemu', role: 'BSP', eip: 0xfffffff0, cpuSignature: 1, sevFeatures: 1n })
  const scaled = Buffer.from(page)
  scaled.fill(0x55, 0x2f0, 0x300)
  const [plain, changed] = [new LaunchDigest(), new LaunchDigest()]
  plain.pages('VMSA', 0, page)
  changed.pages('VMSA', 0, scaled)
  assert.deepEqual(plain.value, changed.value)
})

test('amd-sev-snp.md d.3: permissions of VMPL1 to VMPL3 and the IMI bit have their places', () => {
  const extras = { imi: true, vmplPermissions: [1, 2, 3] } as const
  const info = pageInfo(Buffer.alloc(48), 'NORMAL', 0x123456789a000, Buffer.alloc(48), extras)
  assert.equal(info.toString('hex', 0x60), '700001010001020300a0896745230100')
})

test('amd-sev-snp.md a.3: SEV measures firmware and table, SEV-ES also VMSAs with sev_features 0', () => {
  const es = { vmm: 'qemu', vcpus: 2, cpuSignature: 0x800f12 } as const
  const answer = planSevLaunch({ image, kernel, es })
  assert.ok(answer.ok)
  assert.deepEqual(
    answer.updates.map(({ command, gpa, bytes }) => [command, gpa, bytes.length]),
    [
      ['LAUNCH_UPDATE_DATA', 0xffffd000, 12288],
      ['LAUNCH_UPDATE_DATA', 0x810c00, 176],
      ['LAUNCH_UPDATE_VMSA', null, 4096],
      ['LAUNCH_UPDATE_VMSA', null, 4096],
    ],
  )
  const all = createHash('sha256')
  for (const { bytes } of answer.updates) all.update(bytes)
  const session = {
    tik: '01'.repeat(16),
    mnonce: '02'.repeat(16),
    apiMajor: 1,
    apiMinor: 55,
    buildId: 24,
    policy: '0x5',
  }
  const inputs = { image, kernel: kernel.kernel, initrd: kernel.initrd, cmdline: 'ro', vcpus: 2, vcpuType: 'EPYC' }
  const measured = measureSevEs({ mode: 'seves', ...inputs, ...session })
  assert.ok(measured.ok)
  const launchDigest = all.digest('hex')
  assert.equal(measured.launchDigest, launchDigest)
  const head = Buffer.from('0401371805000000', 'hex')
  const hmac = createHmac('sha256', Buffer.alloc(16, 1)).update(head).update(launchDigest, 'hex')
  assert.ok('measurement' in measured)
  assert.equal(measured.measurement, hmac.update(Buffer.alloc(16, 2)).digest('hex'))

  const incomplete = measureSev({ mode: 'sev', image, ...session, mnonce: undefined })
  assert.ok(!incomplete.ok)
  assert.deepEqual([incomplete.fault.code, incomplete.fault.pointer], ['session-incomplete', '/mnonce'])
})

test('amd-sev-snp.md a.3: POLICY_MAC is the HMAC of the policy alone', () => {
  const tik = Buffer.alloc(16, 3)
  const expected = createHmac('sha256', tik)
    .update(Buffer.from([5, 0, 0, 0]))
    .digest()
  assert.deepEqual(policyMac(tik, 5), expected)
  assert.equal(parseBytes('zz', 1), undefined)
  const inputs = { tik, mnonce: Buffer.alloc(16), apiMajor: 0, apiMinor: 0, buildId: 0, policy: 0 }
  assert.equal(launchMeasure({ ...inputs, launchDigest: Buffer.alloc(32) }).length, 32)
})

test('measure: what makes no sense in a mode is refused by field', () => {
  const refusal = (inputs: Parameters<typeof measureSevSnp>[0], measure = measureSevSnp) => {
    const answer = measure(inputs)
    return answer.ok ? 'measured' : `${answer.fault.code} ${answer.fault.pointer}`
  }
  const snp = { mode: 'snp', image } as const
  assert.equal(refusal({ ...snp, mode: 'sev' }), 'measure-mode /mode')
  assert.equal(refusal(snp), 'vcpu-type /vcpuType')
  assert.equal(refusal({ ...snp, vcpuType: 'Pentium' }), 'vcpu-type /vcpuType')
  assert.equal(refusal({ ...snp, vcpuType: 'EPYC', vcpuSignature: '0x1' }), 'vcpu-signature /vcpuSignature')
  assert.equal(refusal({ ...snp, vcpuSignature: 0x800f12 }), 'measured')
  assert.equal(refusal({ ...snp, vmm: 'ec2' }), 'measured')
  assert.equal(refusal({ ...snp, vmm: 'gce', initrd: Buffer.alloc(1) }), 'kernel-missing /initrd')
  assert.equal(refusal({ ...snp, vmm: 'gce', cmdline: 'ro' }), 'kernel-missing /cmdline')
  assert.equal(refusal({ ...snp, vmm: 'gce', cmdline: '' }), 'measured')
  assert.equal(refusal({ ...snp, vmm: 'gce', vcpus: 0 }), 'vcpus /vcpus')
  assert.equal(refusal({ ...snp, vmm: 'gce', vmsaGpa: '0x1' }), 'vmsa-gpa /vmsaGpa')
  assert.equal(refusal({ ...snp, vmm: 'gce', policy: 1 }), 'field-not-applicable /policy')
  assert.equal(
    refusal({ mode: 'seves', image, vmm: 'gce', guestFeatures: 1 }, measureSevEs),
    'guest-features /guestFeatures',
  )
  assert.equal(refusal({ mode: 'sev', image, ovmfHash: '00'.repeat(48) }, measureSev), 'field-not-applicable /ovmfHash')
})

test('measure: pages chained by hand are bounded, aligned and have contents only where measured', () => {
  const refusal = (run: object) => {
    const pages = [{ pageType: 'NORMAL', gpa: 0, count: 1, ...run }] as PageRun[]
    const answer = measureSevSnp({ mode: 'pages', pages })
    return answer.ok ? 'measured' : `${answer.fault.code} ${answer.fault.pointer}`
  }
  assert.equal(refusal({}), 'measured')
  assert.equal(refusal({ gpa: 1 }), 'gpa /pages/0/gpa')
  assert.equal(refusal({ gpa: '0xfffffffffffff000' }), 'gpa /pages/0/gpa')
  assert.equal(refusal({ count: 65537 }), 'pages-too-many /pages')
  assert.equal(refusal({ contents: Buffer.alloc(1) }), 'page-contents /pages/0/contents')
  assert.equal(refusal({ fillByte: 256 }), 'number /pages/0/fillByte')
  assert.equal(refusal({ pageType: 'ZERO', fillByte: 0 }), 'page-contents /pages/0')
})

test('measure: the schema refuses fields it does not know, and files that are neither bytes nor a part', () => {
  const image = { part: 'firmware' }
  assert.equal(Value.Check(SevSnpInputs, { mode: 'snp', image }), true)
  assert.equal(Value.Check(SevSnpInputs, { mode: 'snp', image, colour: 1 }), false)
  assert.equal(Value.Check(SevSnpInputs, { mode: 'snp', image: { file: 'x' } }), false)
  assert.equal(Value.Check(SevSnpInputs, { mode: 'snp', image, vmsaOverride: { rdx: '0x0' } }), true)
  assert.equal(Value.Check(SevSnpInputs, { mode: 'snp', image, vmsaOverride: { tsc: '0x0' } }), false)
  assert.equal(Value.Check(SevInputs, { mode: 'snp', image }), false)
})

test('measure: an OVMF hash stands for the firmware pages, and a register override for its register', () => {
  const inputs = { mode: 'snp', image, vmm: 'ec2' } as const
  const whole = measureSevSnp(inputs)
  const ovmf = measureSevSnp({ mode: 'snp-ovmf-hash', image })
  assert.ok(whole.ok && ovmf.ok)
  const rest = measureSevSnp({ ...inputs, ovmfHash: String(ovmf.launchDigest) })
  assert.ok(rest.ok && 'startDigest' in rest)
  assert.equal(rest.launchDigest, whole.launchDigest)
  assert.equal(rest.startDigest, ovmf.launchDigest)
  const same = measureSevSnp({ ...inputs, vmsaOverride: { rdx: '0x600' } })
  const older = measureSevSnp({ ...inputs, vmsaOverride: { rdx: 0 } })
  assert.ok(same.ok && older.ok)
  assert.equal(same.launchDigest, whole.launchDigest)
  assert.notEqual(older.launchDigest, whole.launchDigest)
})

test('measure: sections given twice are measured with a warning', () => {
  const [first] = STANDARD_SECTIONS
  assert.ok(first)
  const answer = measureSevSnp({ mode: 'snp', image: ovmfImage({ sections: [first, first] }), vmm: 'gce' })
  assert.ok(answer.ok && 'warnings' in answer)
  assert.deepEqual(answer.warnings, ['0x800000 is given twice: KVM refuses the second update of a page with EIO.'])
})

test('launch digest: a 16 MiB image of unlike pages takes well under a second', () => {
  const big = Buffer.alloc(4096 * 4096)
  for (let page = 0; page < 4096; page++) big.writeUInt32LE(page, page * 4096)
  const before = performance.now()
  measureUpdates([{ pageType: 'NORMAL', gpa: 0xff000000, pages: 4096, contents: big, source: 'firmware' }])
  const spent = performance.now() - before
  assert.ok(spent < 1000, `${spent} ms`)
})
