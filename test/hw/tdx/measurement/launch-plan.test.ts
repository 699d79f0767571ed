import assert from 'node:assert/strict'
import { existsSync, readFileSync } from 'node:fs'
import { test } from 'node:test'
import {
  MAX_ADDED_PAGES,
  MAX_MEASURED_PAGES,
  planLaunch,
  type TdPlan,
} from '../../../../src/hw/tdx/measurement/launch-plan.ts'
import { type Behaviour, BY_THE_RULES, VMMS, type Vmm } from '../../../../src/hw/tdx/measurement/vmms.ts'
import { STANDARD, type TestSection, TYPE, tdvfImage } from './tdvf-image.ts'

function planned(image: Uint8Array, behaviour: Behaviour, tdHob?: Uint8Array): TdPlan {
  const plan = planLaunch(image, behaviour, tdHob)
  assert.ok(plan.ok, plan.ok ? '' : plan.refusal.detail)
  return plan
}

function refusal(image: Uint8Array, behaviour: Behaviour, tdHob?: Uint8Array): readonly [string, string, string] {
  const plan = planLaunch(image, behaviour, tdHob)
  assert.ok(!plan.ok, 'the image is launched')
  return [plan.refusal.errno, plan.refusal.code, plan.refusal.detail]
}

const gist = ({ steps }: TdPlan) => steps.map(({ operation, section, pages }) => `${operation} ${section}:${pages}`)
const withSections = (...more: TestSection[]) => tdvfImage({ sections: [...STANDARD, ...more] })
const MEASURED_CFV = STANDARD.map((one) => (one.type === TYPE.CFV ? { ...one, attributes: 1 } : one))

test('intel-tdx.md f.2: a step says what its pages hold', () => {
  const image = tdvfImage()
  const plan = planned(image, VMMS.qemu)
  assert.deepEqual(plan.steps, [
    {
      operation: 'add-extend',
      gfn: 0xffffe,
      pages: 2,
      bytes: image.subarray(0x2000, 0x4000),
      section: 0,
      type: 'BFV',
    },
    { operation: 'add', gfn: 0xffffc, pages: 1, bytes: image.subarray(0, 0x800), section: 1, type: 'CFV' },
    { operation: 'add', gfn: 0x810, pages: 2, bytes: undefined, section: 2, type: 'TempMem' },
    { operation: 'add', gfn: 0x809, pages: 1, bytes: undefined, section: 3, type: 'TD_HOB' },
  ])
  assert.deepEqual([plan.pageAdds, plan.extends, plan.tdHobGfn], [6, 32, 0x809])
  assert.equal(planned(tdvfImage({ sections: STANDARD.slice(0, 3) }), VMMS.qemu).tdHobGfn, null)
})

test('intel-tdx.md f.2: the three orders', () => {
  const of = (order: Behaviour['order']) =>
    gist(planned(tdvfImage({ sections: MEASURED_CFV }), { ...BY_THE_RULES, order }))
  assert.deepEqual(of('interleaved'), ['add-extend 0:2', 'add-extend 1:1', 'add 2:2', 'add 3:1'])
  assert.deepEqual(of('two-pass-section'), ['add 0:2', 'extend 0:2', 'add 1:1', 'extend 1:1', 'add 2:2', 'add 3:1'])
  assert.deepEqual(of('two-pass-image'), ['add 0:2', 'add 1:1', 'add 2:2', 'add 3:1', 'extend 0:2', 'extend 1:1'])
})

test('intel-tdx.md f.2: which sections are measured', () => {
  const of = (extend: Behaviour['extend']) => planned(tdvfImage(), { ...BY_THE_RULES, extend })
  assert.deepEqual(gist(of('all')), ['add-extend 0:2', 'add-extend 1:1', 'add-extend 2:2', 'add-extend 3:1'])
  assert.deepEqual(gist(of('none')), ['add 0:2', 'add 1:1', 'add 2:2', 'add 3:1'])
  assert.deepEqual([of('all').extends, of('flagged').extends, of('none').extends], [96, 32, 0])
})

test('intel-tdx.md f.1: PAGE.AUG leaves a section to the running guest, but QEMU and Cloud Hypervisor add it', () => {
  const image = withSections({ type: TYPE.TempMem, gpa: 0x1000, memorySize: 0x1000, attributes: 3 })
  const last = (vmm: Vmm) => gist(planned(image, VMMS[vmm])).slice(4)
  assert.deepEqual(last('kvm'), [])
  assert.deepEqual(last('td-shim'), [])
  assert.deepEqual(last('qemu'), ['add-extend 4:1'])
  assert.deepEqual(last('cloud-hypervisor'), ['add 4:1'])
})

test('intel-tdx.md f.2: Cloud Hypervisor measures sections with attributes of exactly 1', () => {
  const image = withSections({ type: TYPE.TempMem, gpa: 0x1000, memorySize: 0x1000, attributes: 5 })
  assert.equal(gist(planned(image, VMMS['cloud-hypervisor'])).at(-1), 'add 4:1')
  assert.equal(gist(planned(image, VMMS.kvm)).at(-1), 'add-extend 4:1')
  assert.equal(gist(planned(tdvfImage(), VMMS['cloud-hypervisor']))[0], 'add-extend 0:2')
})

test('intel-tdx.md f.2: a kernel that the VMM loads cannot be measured from the image', () => {
  const image = withSections({ type: TYPE.Payload, gpa: 0x1000, memorySize: 0x1000, attributes: 1 })
  assert.deepEqual(refusal(image, VMMS['cloud-hypervisor']), [
    'EINVAL',
    'payload-unknown',
    'Section 4 (Payload) is measured, and this VMM fills it from a file of its own.',
  ])
  const unmeasured = withSections({ type: TYPE.PayloadParam, gpa: 0x1000, memorySize: 0x1000 })
  assert.equal(gist(planned(unmeasured, VMMS['cloud-hypervisor'])).at(-1), 'add 4:1')
  assert.equal(gist(planned(image, VMMS['td-shim'])).at(-1), 'add-extend 4:1')
})

test('intel-tdx.md f.2: what QEMU refuses, in its words', () => {
  const qemu = (image: Uint8Array) => refusal(image, VMMS.qemu)
  const old = tdvfImage({ form: 'file-offset' })
  assert.deepEqual(qemu(old), ['EINVAL', 'qemu-no-metadata', 'Cannot find TDX_METADATA_OFFSET_GUID'])
  assert.ok(planLaunch(old, VMMS.kvm).ok)
  const alone = tdvfImage({ sections: STANDARD.slice(0, 1) })
  assert.deepEqual(qemu(alone), ['EINVAL', 'qemu-entries', 'Invalid number of fw entries (1) in TDVF Metadata'])
  assert.ok(planLaunch(alone, VMMS.kvm).ok)
  const payload = withSections({ type: TYPE.Payload, gpa: 0x1000, memorySize: 0x1000 })
  assert.deepEqual(qemu(payload), ['EINVAL', 'qemu-section-type', 'TDVF contains unsupported section type 5'])
  assert.deepEqual(refusal(payload, VMMS['qemu-8.2-two-pass']), qemu(payload))
  const empty = tdvfImage({ sections: [...STANDARD.slice(0, 1), { type: TYPE.CFV, gpa: 0x1000, memorySize: 0x1000 }] })
  assert.deepEqual(qemu(empty), ['EINVAL', 'qemu-section-data', '1 section with RawDataSize == 0'])
  assert.ok(planLaunch(empty, VMMS.kvm).ok)
})

test('intel-tdx.md f.2: each VMM by name', () => {
  const orders = Object.entries(VMMS).map(([vmm, { order, extend }]) => [vmm, order, extend])
  assert.deepEqual(orders, [
    ['qemu', 'interleaved', 'flagged'],
    ['qemu-8.2-two-pass', 'two-pass-section', 'flagged'],
    ['kvm', 'interleaved', 'flagged'],
    ['separate-ioctls', 'two-pass-image', 'flagged'],
    ['cloud-hypervisor', 'interleaved', 'flagged'],
    ['td-shim', 'interleaved', 'flagged'],
    ['openvmm', 'interleaved', 'flagged'],
    ['google-cloud', 'interleaved', 'flagged'],
    ['google-cloud-2024-tdhob-bug', 'interleaved', 'all'],
  ])
})

test('intel-tdx.md f.2: the TD_HOB is what the VMM puts there', () => {
  const hob = Buffer.from('a hand-off block')
  const bug = VMMS['google-cloud-2024-tdhob-bug']
  assert.deepEqual(planned(tdvfImage(), bug, hob).steps.at(-1), {
    operation: 'add-extend',
    gfn: 0x809,
    pages: 1,
    bytes: hob,
    section: 3,
    type: 'TD_HOB',
  })
  assert.deepEqual(refusal(tdvfImage(), bug), [
    'EINVAL',
    'td-hob-missing',
    'This VMM measures the TD_HOB, which the image does not hold: give its bytes.',
  ])
  assert.deepEqual(refusal(tdvfImage(), VMMS.qemu, new Uint8Array(4097)), [
    'EINVAL',
    'td-hob-size',
    "4097 bytes do not fit the TD_HOB section's 1 pages.",
  ])
  const without = tdvfImage({ sections: STANDARD.slice(0, 3) })
  assert.deepEqual(refusal(without, VMMS.qemu, hob), [
    'EINVAL',
    'td-hob-no-section',
    'The image has no TD_HOB section.',
  ])
  assert.ok(planLaunch(without, bug).ok)
})

test('an image cannot ask for more memory than is launched, but may leave any amount to the guest', () => {
  const memory = (pages: number, attributes: number) =>
    withSections({ type: TYPE.PermMem, gpa: 2n ** 40n, memorySize: BigInt(pages) * 4096n, attributes })
  const rest = 6
  assert.ok(planLaunch(memory(MAX_ADDED_PAGES - rest, 0), VMMS.kvm).ok)
  const tooMany = ['EINVAL', 'image-memory', 'The sections add 65537 pages; at most 65536 are launched.']
  assert.deepEqual(refusal(memory(MAX_ADDED_PAGES - rest + 1, 0), VMMS.kvm), tooMany)
  assert.ok(planLaunch(memory(MAX_MEASURED_PAGES - 2, 1), VMMS.kvm).ok)
  const tooMuch = ['EINVAL', 'image-memory', 'The sections measure 16385 pages; at most 16384 are launched.']
  assert.deepEqual(refusal(memory(MAX_MEASURED_PAGES - 1, 1), VMMS.kvm), tooMuch)
  const huge = memory(2 ** 38, 2)
  assert.equal(planned(huge, VMMS.kvm).pageAdds, 6)
  assert.equal(refusal(huge, VMMS['cloud-hypervisor'])[1], 'image-memory')
})

const DEBIAN = '/usr/share'
for (const [file, expected] of [
  // The whole image, variables before code.
  ['ovmf/OVMF.fd', undefined],
  ['OVMF/OVMF_CODE.fd', 'section-data-outside'],
  ['OVMF/OVMF_CODE_4M.fd', 'image-no-metadata'],
] as const) {
  const path = `${DEBIAN}/${file}`
  const skip = !existsSync(path) && `needs ${path} of Debian's package ovmf`
  test(`intel-tdx.md f.2: Debian's ${file}`, { skip }, (t) => {
    const image = readFileSync(path)
    if (!image.includes(Buffer.from('TDVF')) && expected !== 'image-no-metadata') {
      t.skip('this edition of the package is built without TDX')
      return
    }
    const plan = planLaunch(image, VMMS.qemu)
    if (expected !== undefined) {
      assert.equal(plan.ok ? 'launched' : plan.refusal.code, expected)
      return
    }
    assert.ok(plan.ok, plan.ok ? '' : plan.refusal.detail)
    const code = plan.sections.find(({ type }) => type === 'BFV')
    assert.equal((code?.gfn ?? 0) + (code?.pages ?? 0), 0x100000, 'the code ends at 4 GiB')
    assert.equal(plan.extends, 16 * (code?.pages ?? 0), 'the code alone is measured')
  })
}
