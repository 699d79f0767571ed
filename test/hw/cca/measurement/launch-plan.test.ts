import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { type Image, type Launch, planLaunch } from '../../../../src/hw/cca/measurement/launch-plan.ts'
import type { Order } from '../../../../src/hw/cca/measurement/vmms.ts'

const image = (pointer: string, gfn: number, pages: number, measured = true): Image => ({
  gfn,
  pages,
  bytes: Buffer.from(pointer),
  measured,
  pointer,
})
const { measured: _, ...LOG } = image('/log', 0x88, 1)
const LAUNCH: Launch = {
  ram: { gfn: 0x80, pages: 0x10 },
  images: [image('/images/0', 0x84, 2), image('/images/1', 0x80, 1), image('/images/2', 0, 3, false)],
  log: LOG,
  boot: { pc: 0x1000n, gprs: [1n, 2n, 3n, 4n, 5n, 6n, 7n, 8n] },
  vcpus: 2,
  protectedPages: 0x90,
}

function planned(order: Order, launch = LAUNCH): string[] {
  const plan = planLaunch(order, launch)
  assert.ok(plan.ok, plan.ok ? '' : plan.refusal.detail)
  return plan.steps.map((step) => {
    if (step.op === 'init-ripas') return `ripas ${step.gfn.toString(16)}+${step.pages}`
    if (step.op === 'populate') return `${step.measured ? 'measure' : 'add'} ${step.pointer} ${step.gfn.toString(16)}`
    return step.op === 'rec' ? `rec ${step.vcpu} ${step.flags} ${step.pc} ${step.gprs.join()}` : step.op
  })
}

const RECS = ['rec 0 1 4096 1,2,3,4,5,6,7,8', 'rec 1 0 0 0,0,0,0,0,0,0,0']
const IMAGES = ['add /images/2 0', 'measure /images/1 80', 'measure /images/0 84']

test('arm-cca.md 9: kvmtool and QEMU: RIPAS of all RAM, images ascending, RECs, the log unmeasured, activate', () => {
  assert.deepEqual(planned('ripas-images-recs-log'), ['ripas 80+16', ...IMAGES, ...RECS, 'add /log 88', 'activate'])
})

test('arm-cca.md 9: the early QEMU series: RECs first, then RIPAS and pages image by image', () => {
  assert.deepEqual(planned('recs-then-each-image'), [
    ...RECS,
    'ripas 0+3',
    'add /images/2 0',
    'ripas 80+1',
    'measure /images/1 80',
    'ripas 84+2',
    'measure /images/0 84',
    'ripas 88+1',
    'add /log 88',
    'activate',
  ])
})

test('arm-cca.md 9, 5: KVM v12: pages, RECs, then RIPAS of what of RAM is not assigned', () => {
  assert.deepEqual(planned('images-recs-ripas'), [
    ...IMAGES,
    'add /log 88',
    ...RECS,
    'ripas 81+3',
    'ripas 86+2',
    'ripas 89+7',
    'activate',
  ])
})

test('arm-cca.md 5: images at either end of RAM, over its end, and beside it leave the right gaps', () => {
  const gaps = (...images: Image[]) =>
    planned('images-recs-ripas', { ...LAUNCH, images, log: undefined }).filter((step) => step.startsWith('ripas'))
  assert.deepEqual(gaps(), ['ripas 80+16'])
  assert.deepEqual(gaps(image('a', 0x7f, 2), image('b', 0x8f, 1)), ['ripas 81+14'])
  assert.deepEqual(gaps(image('a', 0x80, 16)), [])
  assert.deepEqual(gaps(image('a', 0x7f, 1), image('b', 0x85, 1), image('c', 0x86, 1)), ['ripas 80+5', 'ripas 87+9'])
  const beyond = {
    ...LAUNCH,
    protectedPages: 0x100,
    images: [image('a', 0x8e, 4), image('b', 0x95, 1)],
    log: undefined,
  }
  assert.deepEqual(planned('images-recs-ripas', beyond).at(-2), 'ripas 80+14')
})

test('images that share a page and memory in the unprotected half are refused, in every order', () => {
  const refusal = (launch: Launch, order: Order) => {
    const plan = planLaunch(order, launch)
    assert.ok(!plan.ok)
    const { errno, code, detail, pointer } = plan.refusal
    return [errno, code, detail, pointer]
  }
  const unprotected = 'It ends beyond the protected half of the IPA space.'
  for (const order of ['ripas-images-recs-log', 'recs-then-each-image', 'images-recs-ripas'] as const) {
    const overlap = { ...LAUNCH, images: [image('/images/0', 0x84, 2), image('/images/1', 0x83, 2)] }
    assert.deepEqual(refusal(overlap, order), [
      'EINVAL',
      'image-overlap',
      'It shares a page with /images/1.',
      '/images/0',
    ])
    const onLog = { ...LAUNCH, images: [image('/images/0', 0x88, 1)] }
    assert.deepEqual(refusal(onLog, order)[1], 'image-overlap')
    const ram = { ...LAUNCH, ram: { gfn: 0x80, pages: 0x11 } }
    assert.deepEqual(refusal(ram, order), ['EINVAL', 'ipa-unprotected', unprotected, '/ramSize'])
    const high = { ...LAUNCH, images: [image('/images/0', 0x8f, 2)] }
    assert.deepEqual(refusal(high, order), ['EINVAL', 'ipa-unprotected', unprotected, '/images/0'])
  }
})

const images = fc.array(fc.record({ gap: fc.integer({ min: 0, max: 9 }), pages: fc.integer({ min: 1, max: 5 }) }), {
  maxLength: 8,
})

test('arm-cca.md 9: KVM v12 gives every page of RAM exactly once, by DATA_CREATE or by RIPAS', () => {
  fc.assert(
    fc.property(images, fc.integer({ min: 0, max: 40 }), fc.integer({ min: 1, max: 40 }), (drawn, ramGfn, ramPages) => {
      let next = 0
      const placed = drawn.map(({ gap, pages }, index) => {
        const gfn = next + gap
        next = gfn + pages
        return image(`/images/${index}`, gfn, pages)
      })
      const ram = { gfn: ramGfn, pages: ramPages }
      const plan = planLaunch('images-recs-ripas', {
        ...LAUNCH,
        ram,
        images: placed,
        log: undefined,
        protectedPages: 512,
      })
      assert.ok(plan.ok)
      const touched = plan.steps.flatMap((step) =>
        'gfn' in step ? Array.from({ length: step.pages }, (__, index) => step.gfn + index) : [],
      )
      const inRam = touched.filter((gfn) => gfn >= ramGfn && gfn < ramGfn + ramPages).sort((a, b) => a - b)
      assert.deepEqual(
        inRam,
        Array.from({ length: ramPages }, (__, index) => ramGfn + index),
      )
      assert.equal(new Set(touched).size, touched.length)
    }),
  )
})
