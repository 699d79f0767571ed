import assert from 'node:assert/strict'
import { test } from 'node:test'
import { deflateSync } from 'node:zlib'
import fc from 'fast-check'
import { Value } from 'typebox/value'
import { measurer } from '../../../../src/hw/cca/measurement/measure.ts'
import { rehash } from './rehash.ts'

type Answer = ReturnType<typeof JSON.parse>
type Inputs = Readonly<Record<string, unknown>>

function measured(inputs: Inputs): Answer {
  const answer = measurer.measure(inputs)
  assert.ok(answer.ok, answer.ok ? '' : answer.refusal.detail)
  return answer.value
}

/** Code, detail and pointer of a refusal by the rules; the inputs are well formed. */
function refusal(inputs: Inputs): readonly unknown[] {
  assert.deepEqual([...Value.Errors(measurer.schema, inputs)], [], 'the schema takes it')
  const answer = measurer.measure(inputs)
  assert.ok(!answer.ok, 'the inputs are measured')
  const { errno, code, detail, pointer } = answer.refusal
  assert.equal(errno, 'EINVAL')
  return [code, detail, pointer]
}

const CREATE = {
  op: 'realm_create',
  flags: 0,
  s2sz: 33,
  sve_vl: 0,
  num_bps: 5,
  num_wps: 5,
  pmu_num_ctrs: 0,
  hash_algo: 0,
}
const opsOf = (...ops: unknown[]) => ({ ops: [CREATE, ...ops] })
const data = (content: unknown, more = {}) => ({ op: 'data', ipa: '0x80000000', flags: 1, content, ...more })
const rec = (flags: number) => ({ op: 'rec', flags, pc: 0, gprs: Array(8).fill(0) })
const activate = { op: 'noop', call: 'RMI_REALM_ACTIVATE' }
const refusedOp = (...ops: unknown[]) => refusal(opsOf(...ops))

test('arm-cca.md 8: what a page may hold, each way of saying it', () => {
  const rim = (content: unknown) => measured(opsOf(data(content))).rim
  const whole = (bytes: Buffer) => rim(Buffer.concat([bytes, Buffer.alloc(4096 - bytes.length)]))
  assert.equal(rim({ fill: 7 }), whole(Buffer.alloc(4096, 7)))
  assert.equal(rim({ fill: 7, length: 100 }), whole(Buffer.alloc(100, 7)))
  assert.equal(rim({ hex: '0005ff' }), whole(Buffer.from([0, 5, 255])))
  assert.equal(rim({ utf8: 'Ä' }), whole(Buffer.from([0xc3, 0x84])))
  assert.equal(rim({ counter: 250 }), whole(Buffer.from(Array.from({ length: 4096 }, (_, n) => (250 + n) % 256))))
  const steps = Buffer.from(Array.from({ length: 9 }, (_, n) => (3 + 300 * n) % 256))
  assert.equal(rim({ counter: 259, step: 300, length: 9 }), whole(steps))
  const zlib = deflateSync(Buffer.alloc(4096, 9)).toString('base64')
  assert.equal(rim({ zlib_base64: zlib }), whole(Buffer.alloc(4096, 9)))
  assert.equal(rim(new Uint8Array(0)), rim({ fill: 0 }))
})

test('arm-cca.md 8: a page by its digest, with or without its content', () => {
  const content = { hex: '01' }
  const { rim, steps } = measured(opsOf(data(content)))
  const content_hash = steps[1].contents[0].digest
  assert.equal(measured(opsOf(data(content, { content_hash }))).rim, rim)
  const { content: _, ...without } = data(content, { content_hash })
  assert.equal(measured(opsOf(without)).rim, rim)
  const wrong = ['content-hash', 'It is not the digest of the content.', '/inputs/ops/1/content_hash']
  assert.deepEqual(refusedOp(data({ hex: '02' }, { content_hash })), wrong)
  const long = ['content-hash', 'A digest of this Realm has 32 bytes.', '/inputs/ops/1/content_hash']
  assert.deepEqual(refusedOp({ ...without, content_hash: '00'.repeat(64) }), long)
  const short = refusal({ ops: [{ ...CREATE, hash_algo: 1 }, without] })
  assert.deepEqual(short[1], 'A digest of this Realm has 64 bytes.')
})

test('arm-cca.md 8: a run of pages is its pages one by one; its transcript joins equal ones', () => {
  const bytes = Buffer.concat([Buffer.alloc(8192, 1), Buffer.alloc(4096, 2), Buffer.from([3])])
  const blob = measured(opsOf({ op: 'data_blob', ipa: '0x80000000', flags: 1, content: bytes }))
  const pages = Array.from({ length: 4 }, (_, page) =>
    data(bytes.subarray(page * 4096, page * 4096 + 4096), { ipa: 0x80000000 + page * 4096 }),
  )
  assert.equal(blob.rim, measured(opsOf(...pages)).rim)
  assert.deepEqual(
    blob.steps[1].contents.map(({ pages: count }: Answer) => count),
    [2, 1, 1],
  )
  assert.deepEqual(rehash(blob.steps), { rim: blob.rim, rem: blob.rem })
  const unmeasured = measured(opsOf({ op: 'data_blob', ipa: '0x80000000', flags: 0, content: bytes }))
  assert.equal(unmeasured.rim, measured(opsOf(...pages.map((page) => ({ ...page, flags: 0 })))).rim)
  assert.deepEqual([unmeasured.steps[1].pages, unmeasured.steps[1].contents], [4, undefined])
})

test('arm-cca.md 8: ripas_auto says which entries it passes, and is those entries', () => {
  const auto = measured(opsOf({ op: 'ripas_auto', base: '0x801ff000', top: '0x80401000' }))
  const shape = ({ from, base, top, entrySize, entries }: Answer) => [from, base, top, entrySize, entries]
  assert.deepEqual(auto.steps.slice(1).map(shape), [
    ['/ops/1', '0x801ff000', '0x80200000', 4096, 1],
    ['/ops/1', '0x80200000', '0x80400000', 2097152, 1],
    ['/ops/1', '0x80400000', '0x80401000', 4096, 1],
  ])
  assert.equal(auto.rim_after_each_op.length, 2)
  const explicit = auto.steps.slice(1).map(({ base, top, entrySize }: Answer) => ({
    op: 'ripas',
    base,
    top,
    entry_size: entrySize,
  }))
  assert.equal(measured(opsOf(...explicit)).rim, auto.rim)
  const shallow = {
    ops: [
      { ...CREATE, rtt_level_start: 1 },
      { op: 'ripas_auto', base: 0, top: '0x40000000' },
    ],
  }
  assert.equal(measured(shallow).steps[1].entrySize, 2 ** 30)
  assert.equal(measured(opsOf({ op: 'ripas_auto', base: 0, top: '0x40000000' })).steps[1].entries, 512)
})

test('arm-cca.md 3: a measurement begins with its one Realm', () => {
  const first = ['no-realm', 'The first op is realm_create.', '/inputs/ops/0']
  assert.deepEqual(refusal({ ops: [activate] }), first)
  const twice = ['realm-exists', 'One measurement is of one Realm.', '/inputs/ops/1/op']
  assert.deepEqual(refusedOp(CREATE), twice)
})

test('arm-cca.md 3: parameters that no RMM takes', () => {
  const create = (more: object) => refusal({ ops: [{ ...CREATE, ...more }] })
  assert.deepEqual(create({ s2sz: 49 }), [
    'realm-params',
    'More than 48 bits need LPA2, bit 0 of flags.',
    '/inputs/ops/0/s2sz',
  ])
  assert.deepEqual(create({ flags: 2, sve_vl: 16 }), [
    'realm-params',
    'The largest vector length is 15.',
    '/inputs/ops/0/sve_vl',
  ])
  assert.deepEqual(create({ flags: 4, pmu_num_ctrs: 32 }), [
    'realm-params',
    'There are at most 31 counters.',
    '/inputs/ops/0/pmu_num_ctrs',
  ])
  assert.deepEqual(create({ rtt_level_start: 0 }), [
    'realm-params',
    'No root tables of level 0 give 33 bits.',
    '/inputs/ops/0/rtt_level_start',
  ])
  assert.deepEqual(create({ s2sz: 35, rtt_level_start: 2 })[0], 'realm-params')
  const unused = measured({ ops: [{ ...CREATE, sve_vl: 255, pmu_num_ctrs: 255 }] })
  assert.notEqual(unused.rim, measured({ ops: [CREATE] }).rim, 'fields without their flag are measured, not checked')
  assert.ok(measured({ ops: [{ ...CREATE, flags: 1, s2sz: 52 }] }).rim)
})

test('arm-cca.md 5: addresses are aligned and protected', () => {
  const unaligned = (address: string, field: string) => [
    'ipa-unaligned',
    `${address} is no multiple of 4096.`,
    `/inputs/ops/1/${field}`,
  ]
  const beyond = (field: string) => [
    'ipa-unprotected',
    'It lies beyond the protected half of the IPA space.',
    `/inputs/ops/1/${field}`,
  ]
  const blob = (ipa: string) => ({ op: 'data_blob', ipa, flags: 0, content: { fill: 0, length: 8192 } })
  const ripas = (base: string, top: string) => ({ op: 'ripas_auto', base, top })
  assert.deepEqual(refusedOp(data({ fill: 0 }, { ipa: '0x80000800' })), unaligned('0x80000800', 'ipa'))
  assert.deepEqual(refusedOp(data({ fill: 0 }, { ipa: '0x100000000' })), beyond('ipa'))
  assert.deepEqual(refusedOp(data({ fill: 0 }, { ipa: '0xfffffffffffff000' })), beyond('ipa'))
  assert.deepEqual(refusedOp(blob('0xfffff000')), beyond('ipa'))
  assert.ok(measured(opsOf(blob('0xffffe000'))).rim)
  assert.deepEqual(refusedOp(ripas('0x1', '0x1000')), unaligned('0x1', 'base'))
  assert.deepEqual(refusedOp(ripas('0x0', '0xfff')), unaligned('0xfff', 'top'))
  assert.deepEqual(refusedOp(ripas('0x0', '0x100001000')), beyond('top'))
  for (const top of ['0x1000', '0x0'])
    assert.deepEqual(refusedOp(ripas('0x1000', top)), [
      'ripas-range',
      'The top is above the base.',
      '/inputs/ops/1/top',
    ])
})

test('arm-cca.md 8: entries of one size lie at multiples of it', () => {
  const wrong = ['ripas-entry', 'Base and top are multiples of the entry size.', '/inputs/ops/1/entry_size']
  const ripas = (base: string, top: string) => ({ op: 'ripas', base, top, entry_size: 2097152 })
  assert.deepEqual(refusedOp(ripas('0x1000', '0x400000')), wrong)
  assert.deepEqual(refusedOp(ripas('0x200000', '0x401000')), wrong)
})

test('arm-cca.md 3, 8: after ACTIVATE no command extends the RIM, and REMs go on', () => {
  const ripas = { op: 'ripas_auto', base: 0, top: '0x1000' }
  for (const op of [ripas, data({ fill: 0 }), rec(1), rec(0), { ...data({ fill: 0 }), op: 'data_blob' }])
    assert.deepEqual(refusedOp(activate, op), [
      'realm-active',
      'Only a Realm that is NEW takes this command; this one is ACTIVE.',
      '/inputs/ops/2/op',
    ])
  const extended = measured(opsOf(activate, { op: 'rem_extend', index: 4, value: '' }))
  assert.equal(extended.rim, measured(opsOf()).rim)
  assert.equal(extended.steps[2].remAfter, extended.rem[3])
})

test('arm-cca.md 7: a REM takes no more bytes than are given', () => {
  assert.deepEqual(refusedOp({ op: 'rem_extend', index: 1, value: '0011', size: 3 }), [
    'rem-size',
    'The value has 2 bytes.',
    '/inputs/ops/1/size',
  ])
})

test('a measured page needs content, and no more than a page of it', () => {
  const missing = ['content-missing', 'A measured page needs content or content_hash.', '/inputs/ops/1/content']
  assert.deepEqual(refusedOp({ op: 'data', ipa: 0, flags: 1 }), missing)
  const wrong = ['content', 'It is no zlib stream, or holds more than a page.', '/inputs/ops/1/content']
  assert.deepEqual(refusedOp(data({ fill: 1, length: 4097 })), wrong)
  assert.deepEqual(refusedOp(data({ hex: '00'.repeat(4097) })), wrong)
  assert.deepEqual(refusedOp(data({ zlib_base64: 'AAAA' })), wrong)
  assert.deepEqual(refusedOp(data({ zlib_base64: deflateSync(Buffer.alloc(5_000_000)).toString('base64') })), wrong)
  assert.ok(measured(opsOf({ op: 'data', ipa: 0, flags: 0 })).rim)
})

test('how much one measurement may ask for', () => {
  const blob = (length: number) => ({ op: 'data_blob', ipa: 0, flags: 0, content: { fill: 0, length } })
  const pages = ['ops-too-many', 'At most 16384 pages are measured at once.', '/inputs/ops/2']
  assert.deepEqual(refusedOp(blob(2 ** 26), data({ fill: 0 })), pages)
  const left = 'It is no zlib stream, or more than the 1 pages left to measure.'
  assert.deepEqual(refusedOp(blob(2 ** 26 - 4096), blob(4097)), ['content', left, '/inputs/ops/2/content'])
  const entries = (top: string) => ({ op: 'ripas', base: 0, top, entry_size: 4096 })
  const tooMany = ['ops-too-many', 'At most 262144 table entries are measured at once.']
  assert.deepEqual(refusedOp(entries('0x1000'), entries('0x40000000')), [...tooMany, '/inputs/ops/2'])
  const wide = { ops: [{ ...CREATE, flags: 1, s2sz: 52 }, entries('0x8000000000000')] }
  assert.deepEqual(refusal(wide), [...tooMany, '/inputs/ops/1'])
})

test('what the schema refuses', () => {
  const isRefused = (inputs: unknown) => assert.ok(!Value.Check(measurer.schema, inputs), JSON.stringify(inputs))
  isRefused({ ops: [] })
  isRefused({ ops: Array.from({ length: 4097 }, () => CREATE) })
  for (const field of Object.keys(CREATE)) isRefused({ ops: [{ ...CREATE, [field]: undefined }] })
  for (const more of [{ s2sz: 31 }, { s2sz: 53 }, { num_bps: 0 }, { num_wps: 64 }, { hash_algo: 2 }, { sve_vl: 256 }])
    isRefused({ ops: [{ ...CREATE, ...more }] })
  isRefused({ ops: [{ ...CREATE, flags: '0x10000000000000000' }] })
  isRefused(opsOf({ op: 'rem_extend', index: 0, value: '' }))
  isRefused(opsOf({ op: 'rem_extend', index: 5, value: '' }))
  isRefused(opsOf({ op: 'rem_extend', index: 1, value: '00'.repeat(65) }))
  isRefused(opsOf({ op: 'ripas', base: 0, top: 8192, entry_size: 8192 }))
  isRefused(opsOf({ ...rec(1), gprs: Array(7).fill(0) }))
  isRefused(opsOf({ op: 'noop', call: 'reboot' }))
  isRefused(opsOf(data({ fill: 0, utf8: '' })))
  isRefused(opsOf(data({ fill: 256 })))
})

const op = fc.oneof(
  fc.record({ op: fc.constant('ripas_auto'), base: fc.constant(0), pages: fc.integer({ min: 1, max: 1500 }) }),
  fc.record({ op: fc.constant('data'), page: fc.nat(900), flags: fc.constantFrom(0, 1), byte: fc.nat(255) }),
  fc.record({ op: fc.constant('rec'), flags: fc.constantFrom(0, 1), pc: fc.nat(), register: fc.nat() }),
  fc.record({
    op: fc.constant('rem_extend'),
    index: fc.integer({ min: 1, max: 4 }),
    bytes: fc.uint8Array({ maxLength: 64 }),
  }),
)

test('arm-cca.md 8: the transcript of any operations re-hashes to RIM and REMs', () => {
  fc.assert(
    fc.property(fc.constantFrom(0, 1), fc.array(op, { maxLength: 8 }), (hash_algo, drawn) => {
      const ops = drawn.map((one) => {
        if ('pages' in one) return { op: one.op, base: 0, top: one.pages * 4096 }
        if ('page' in one) return { op: one.op, ipa: one.page * 4096, flags: one.flags, content: { fill: one.byte } }
        if ('pc' in one) return { op: one.op, flags: one.flags, pc: one.pc, gprs: [one.register, ...Array(7).fill(0)] }
        return { op: one.op, index: one.index, value: Buffer.from(one.bytes).toString('hex') }
      })
      const { rim, rem, steps, rim_after_each_op } = measured({ ops: [{ ...CREATE, hash_algo }, ...ops] })
      assert.deepEqual(rehash(steps), { rim, rem })
      assert.equal(rim_after_each_op.length, ops.length + 1)
      assert.equal(rim_after_each_op.at(-1), rim)
    }),
    { numRuns: 60 },
  )
})
