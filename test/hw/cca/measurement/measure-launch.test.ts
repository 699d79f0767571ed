import assert from 'node:assert/strict'
import { test } from 'node:test'
import { inflateSync } from 'node:zlib'
import { Value } from 'typebox/value'
import { measurer } from '../../../../src/hw/cca/measurement/measure.ts'
import { rehash } from './rehash.ts'
import { NO_VECTORS, type Op, originals, rimVectors } from './vectors.ts'

type Answer = ReturnType<typeof JSON.parse>
type Inputs = Readonly<Record<string, unknown>>

function measured(inputs: Inputs): Answer {
  const answer = measurer.measure(inputs)
  assert.ok(answer.ok, answer.ok ? '' : answer.refusal.detail)
  return answer.value
}

function refusal(inputs: Inputs): readonly unknown[] {
  assert.deepEqual([...Value.Errors(measurer.schema, inputs)], [], 'the schema takes it')
  const answer = measurer.measure(inputs)
  assert.ok(!answer.ok, 'the inputs are measured')
  return [answer.refusal.errno, answer.refusal.code, answer.refusal.pointer]
}

const MIB = 2 ** 20
const create = (more: object) => ({
  op: 'realm_create',
  flags: 0,
  s2sz: 33,
  sve_vl: 0,
  num_bps: 5,
  num_wps: 5,
  pmu_num_ctrs: 0,
  hash_algo: 0,
  ...more,
})
const rec = (pc: string | number, x0: string | number) => ({
  op: 'rec',
  flags: 1,
  pc,
  gprs: [x0, 0, 0, 0, 0, 0, 0, 0],
})
const blob = (ipa: string | number, content: unknown, flags = 1) => ({ op: 'data_blob', ipa, flags, content })

/** The launch is what the operations are, and its transcript alone gives its RIM. */
function same(launch: Inputs, ops: readonly unknown[]): Answer {
  assert.deepEqual([...Value.Errors(measurer.schema, launch)], [])
  const answer = measured(launch)
  assert.equal(answer.rim, measured({ ops }).rim)
  assert.deepEqual(rehash(answer.steps), { rim: answer.rim, rem: answer.rem })
  return answer
}

const KERNEL = { fill: 1, length: 5000 }
const INITRD = { utf8: 'an initrd' }
const DTB = { hex: 'd00dfeed' }
const LOG = { utf8: 'what happened' }

test('arm-cca.md 9: kvmtool', () => {
  const launch = {
    vmm: 'kvmtool',
    ramSize: 512 * MIB,
    images: [
      { ipa: '0x88000000', content: INITRD },
      { ipa: '0x80000000', content: KERNEL },
    ],
    dtb: { content: DTB },
    log: { ipa: '0x8ffff000', content: LOG },
    entry: '0x80000000',
    vcpus: 3,
  }
  const answer = same(launch, [
    create({}),
    { op: 'ripas_auto', base: '0x80000000', top: '0xa0000000' },
    blob('0x80000000', KERNEL),
    blob('0x88000000', INITRD),
    blob('0x8fe00000', Buffer.concat([Buffer.from('d00dfeed', 'hex'), Buffer.alloc(65532)])),
    rec('0x80000000', '0x8fe00000'),
    blob('0x8ffff000', LOG, 0),
  ])
  assert.deepEqual([answer.vmm, answer.hashAlgorithm], ['kvmtool', 'sha-256'])
  assert.deepEqual(
    answer.steps.map(({ op, from }: Answer) => [op, from]),
    [
      ['realm_create', undefined],
      ['ripas', undefined],
      ['data', '/images/1'],
      ['data', '/images/0'],
      ['data', '/dtb'],
      ['rec', undefined],
      ['rec', undefined],
      ['rec', undefined],
      ['data', '/log'],
      ['noop', undefined],
    ],
  )
  assert.equal(answer.steps[0].s2sz, 33)
})

test('arm-cca.md 9: QEMU, kernel or firmware', () => {
  const kernel = {
    vmm: 'qemu',
    ramSize: 1024 * MIB,
    images: [{ ipa: '0x40000000', content: KERNEL }],
    dtb: { ipa: '0x48200000', content: DTB },
    entry: '0x40000000',
  }
  const ram = { op: 'ripas_auto', base: '0x40000000', top: '0x80000000' }
  const realm = create({ s2sz: 41, hash_algo: 1 })
  const answer = same(kernel, [
    realm,
    ram,
    blob('0x40000000', KERNEL),
    blob('0x48200000', DTB),
    rec('0x40000000', '0x48200000'),
  ])
  assert.equal(answer.hashAlgorithm, 'sha-512')
  assert.equal(answer.steps[1].entries, 1)
  const firmware = { ...kernel, images: [{ ipa: 0, content: KERNEL }], dtb: { content: DTB }, entry: 0 }
  same(firmware, [realm, ram, blob(0, KERNEL), blob('0x40000000', DTB), rec(0, 0)])
})

test('arm-cca.md 9: the early QEMU series', () => {
  const launch = {
    vmm: 'early-qemu',
    ramSize: 1024 * MIB,
    images: [{ ipa: '0x40200000', content: KERNEL }],
    dtb: { content: DTB },
    entry: '0x40200000',
  }
  same(launch, [
    create({ s2sz: 41, hash_algo: 1 }),
    rec('0x40200000', '0x40000000'),
    { op: 'ripas_auto', base: '0x40000000', top: '0x40001000' },
    blob('0x40000000', DTB),
    { op: 'ripas_auto', base: '0x40200000', top: '0x40202000' },
    blob('0x40200000', KERNEL),
  ])
})

test('arm-cca.md 9: KVM v12', () => {
  const launch = {
    vmm: 'kvm-v12',
    ramSize: 4 * MIB,
    images: [{ ipa: '0x80000000', content: KERNEL, measured: false }],
    entry: '0x80000000',
    gprs: [1, 2, 3, 4, 5, 6, 7, '0xffffffffffffffff'],
  }
  const answer = same(launch, [
    create({}),
    blob('0x80000000', KERNEL, 0),
    { op: 'rec', flags: 1, pc: '0x80000000', gprs: launch.gprs },
    { op: 'ripas', base: '0x80002000', top: '0x80200000', entry_size: 4096 },
    { op: 'ripas', base: '0x80200000', top: '0x80400000', entry_size: 2 * MIB },
  ])
  assert.equal(answer.steps.at(-1).call, 'RMI_REALM_ACTIVATE')
})

test('arm-cca.md 9: the IPA space grows with RAM, and what is given outranks what a VMM does', () => {
  const launch = { vmm: 'kvmtool', images: [], entry: 0 }
  const s2sz = (inputs: Inputs) => measured({ ...launch, ...inputs }).steps[0].s2sz
  assert.equal(s2sz({ ramSize: 2048 * MIB }), 33)
  assert.equal(s2sz({ ramSize: 2048 * MIB + 4096 }), 34)
  assert.equal(s2sz({ ramBase: 0, ramSize: 4096 }), 33)
  assert.equal(s2sz({ vmm: 'qemu', ramSize: 2 ** 40 - 2 ** 30 }), 41)
  assert.equal(s2sz({ vmm: 'qemu', ramSize: 2 ** 40 }), 42)
  const realm = {
    flags: 6,
    s2sz: 48,
    sve_vl: 3,
    num_bps: 1,
    num_wps: 2,
    pmu_num_ctrs: 4,
    hash_algo: 1,
    rtt_level_start: 0,
  }
  const { rtt_level_start: _, ...fields } = realm
  const { op, rimAfter, ...shown } = measured({ ...launch, ramSize: 4096, realm }).steps[0]
  assert.deepEqual([op, shown], ['realm_create', { ...fields, flags: '0x6' }])
})

test('what a launch may not be', () => {
  const launch = { vmm: 'kvmtool', ramSize: 16 * MIB, images: [], entry: 0 }
  const image = (more: object) => ({
    ...launch,
    images: [
      { ipa: 0, content: KERNEL },
      { ipa: '0x80000000', content: KERNEL, ...more },
    ],
  })
  assert.deepEqual(refusal({ ...launch, ramSize: 4097 }), ['EINVAL', 'ram-size', '/inputs/ramSize'])
  assert.deepEqual(refusal({ ...launch, ramBase: 1 }), ['EINVAL', 'ipa-unaligned', '/inputs/ramBase'])
  assert.deepEqual(refusal(image({ ipa: 1 })), ['EINVAL', 'ipa-unaligned', '/inputs/images/1/ipa'])
  assert.deepEqual(refusal(image({ ipa: '0x1000' })), ['EINVAL', 'image-overlap', '/inputs/images/1'])
  assert.deepEqual(refusal(image({ ipa: '0x100000000' })), ['EINVAL', 'ipa-unprotected', '/inputs/images/1'])
  const huge = { fill: 0, length: 2 ** 26 }
  assert.deepEqual(refusal(image({ content: huge })), ['EINVAL', 'content', '/inputs/images/1/content'])
  assert.deepEqual(refusal(image({ content: { zlib_base64: 'AA' } })), [
    'EINVAL',
    'content',
    '/inputs/images/1/content',
  ])
  const log = { ipa: '0x80000fff', content: LOG }
  assert.deepEqual(refusal({ ...launch, log }), ['EINVAL', 'ipa-unaligned', '/inputs/log/ipa'])
  const nearlyAll = { ipa: 0, content: { fill: 0, length: 2 ** 26 - 61440 } }
  const dtb = { content: DTB }
  assert.deepEqual(refusal({ ...launch, images: [nearlyAll], dtb }), ['EINVAL', 'content', '/inputs/dtb/content'])
  assert.deepEqual(refusal({ ...launch, dtb: { ipa: 5, content: DTB } }), [
    'EINVAL',
    'ipa-unaligned',
    '/inputs/dtb/ipa',
  ])
  assert.deepEqual(refusal({ ...launch, ramSize: 2 ** 51 }), ['EINVAL', 'realm-params', '/inputs/realm/s2sz'])
  assert.deepEqual(refusal({ ...launch, realm: { s2sz: 32 } }), ['EINVAL', 'ipa-unprotected', '/inputs/ramSize'])
})

const of = (name: string): readonly Op[] => (originals ?? rimVectors).find((one) => one.name === name)?.ops ?? []

/** The pages of a vector from one IPA on, as one image. */
function pagesFrom(name: string, ipa: number): Buffer {
  const pages = of(name).filter((op) => op.op === 'data' && Number(op.ipa) >= ipa)
  return Buffer.concat(
    pages.map(({ content }) => {
      const { zlib_base64 = '' } = content as { zlib_base64?: string }
      const page = Buffer.alloc(4096)
      page.set(zlib_base64 === '' ? [] : inflateSync(Buffer.from(zlib_base64, 'base64')))
      return page
    }),
  )
}

const published = (name: string): string => rimVectors.find((one) => one.name === name)?.expect.rim ?? ''

test('arm-cca.md 9: the published RIMs, from what a VMM is given', { skip: originals ? false : NO_VECTORS }, () => {
  const kvmtool = { content: pagesFrom('kvmtool-512M-no-image', 0x8fe00000).subarray(0, 4096) }
  const noImage = measured({ vmm: 'kvmtool', ramSize: 512 * MIB, images: [], dtb: kvmtool, entry: 0 })
  assert.equal(noImage.rim, published('kvmtool-512M-no-image'))

  const small = { content: pagesFrom('qemu-default-128M', 0x40000000) }
  const qemu = measured({ vmm: 'qemu', ramSize: 128 * MIB, images: [], dtb: small, entry: '0x40000000' })
  assert.equal(qemu.rim, published('qemu-default-128M'))

  const firmware = [{ ipa: 0, content: { utf8: 'FW CONTENT' } }]
  for (const [name, hash_algo] of [
    ['qemu-1G-firmware', 0],
    ['qemu-1G-firmware-sha512', 1],
  ] as const) {
    const dtb = { content: pagesFrom(name, 0x40000000) }
    const launch = { vmm: 'qemu', ramSize: 1024 * MIB, images: firmware, dtb, entry: 0, realm: { hash_algo } }
    assert.equal(measured(launch).rim, published(name))
  }

  const [kernel = Buffer.alloc(0)] = [pagesFrom('qemu-1G-kernel-initrd', 0x40000000).subarray(0, 4096)]
  const direct = measured({
    vmm: 'qemu',
    ramSize: 1024 * MIB,
    images: [
      { ipa: '0x40000000', content: kernel },
      { ipa: '0x48000000', content: { utf8: 'INITRD CONTENT' } },
    ],
    dtb: { ipa: '0x48200000', content: pagesFrom('qemu-1G-kernel-initrd', 0x48200000) },
    entry: '0x40000000',
    realm: { hash_algo: 0 },
  })
  assert.equal(direct.rim, published('qemu-1G-kernel-initrd'))
})
