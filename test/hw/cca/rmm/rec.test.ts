import assert from 'node:assert/strict'
import { test } from 'node:test'
import { mpidrOf } from '../../../../src/hw/cca/rmm/rec.ts'
import {
  type Args,
  addTables,
  ask,
  type Bench,
  createActive,
  createRealm,
  createWithRec,
  DATA,
  delegate,
  ipa,
  must,
  pa,
  RD,
  REC,
  REC2,
  realmOf,
  recOf,
  refuses,
  SOURCE,
  SPARE,
} from './rmm-bench.ts'

const PAGE = 0x80000
const PAR = 2 ** 27
const AUX = 0x300
const aux = (count = 16, from = AUX): string[] => Array.from({ length: count }, (_, index) => pa(from + index))

function prepared(): Bench {
  const bench = createRealm()
  delegate(bench, AUX, 40)
  return bench
}

test('3: mpidr of the RECs by their index', () => {
  assert.deepEqual([0, 1, 0xf, 0x10, 0xfff, 0x1000, 0xfffff, 0x100000].map(mpidrOf), [
    0n,
    1n,
    0xfn,
    0x100n,
    0xff0fn,
    0x10000n,
    0xffff0fn,
    0x100000000n,
  ])
})

test('3: REC_CREATE makes a REC and its auxiliary granules, and measures it if it is runnable', () => {
  const bench = prepared()
  const before = realmOf(bench).rim
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), aux: aux(), pc: '0x8000', gprs: ['0x9'] })
  assert.deepEqual(realmOf(bench).rim, before)
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC2), aux: aux(16, AUX + 16), mpidr: 1, flags: 1 })
  assert.notDeepEqual(realmOf(bench).rim, before)
  const { pc, gprs, runnable, mpidr } = recOf(bench)
  assert.deepEqual([pc, gprs.slice(0, 2), runnable, mpidr], [0x8000n, [9n, 0n], false, 0n])
  assert.equal(recOf(bench, REC2).runnable, true)
})

test('3: REC_CREATE checks params, num_aux, aux, rec and RD, then the state, then mpidr and the number', () => {
  const bench = prepared()
  const good = { rec: pa(REC), aux: aux(), mpidr: 0, flags: 1 }
  const refused = (expected: string, wrong: Args) => refuses(bench, expected, 'RMI_REC_CREATE', { ...good, ...wrong })
  refused('INPUT', { params: pa(AUX) })
  refused('INPUT', { params: '0x200800' })
  refused('INPUT', { aux: [...aux(15), pa(SOURCE)] })
  refused('INPUT', { aux: [...aux(15), pa(AUX)] })
  refused('INPUT', { aux: [...aux(15), pa(REC)] })
  refused('INPUT', { rec: pa(SOURCE) })
  refused('INPUT', { rd: pa(SPARE) })
  refused('INPUT', { mpidr: 1 })
  refused('INPUT', { aux: aux(15) })
  refused('INPUT', { aux: [] })
  must(bench, 'RMI_REALM_ACTIVATE')
  refused('REALM,0', { mpidr: 1 })
  refused('REALM,0', { aux: aux(15) })
  refused('INPUT', { rec: pa(SOURCE) })
})

test('1, 3: RmiRecParams are read from a host page, and name at most 16 granules', () => {
  const bench = prepared()
  const page = Buffer.alloc(4096)
  page.writeBigUInt64LE(1n, 0)
  page.writeBigUInt64LE(0x1234n, 0x200)
  page.writeBigUInt64LE(7n, 0x300 + 56)
  page.writeBigUInt64LE(17n, 0x800)
  for (let index = 0; index < 16; index++) page.writeBigUInt64LE(BigInt(AUX + index) << 12n, 0x808 + 8 * index)
  bench.machine.write(SOURCE, Buffer.from(page))
  refuses(bench, 'INPUT', 'RMI_REC_CREATE', { rec: pa(REC), params: pa(SOURCE) })
  const ready = createRealm()
  delegate(ready, AUX, 16)
  must(ready, 'RMI_REALM_ACTIVATE')
  ready.machine.write(SOURCE, Buffer.from(page))
  refuses(ready, 'INPUT', 'RMI_REC_CREATE', { rec: pa(REC), params: pa(SOURCE) })
  page.writeBigUInt64LE(16n, 0x800)
  bench.machine.write(SOURCE, page)
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), params: pa(SOURCE) })
  assert.deepEqual([recOf(bench).pc, recOf(bench).gprs[7], recOf(bench).aux.length], [0x1234n, 7n, 16])
})

test('without aux the host lends pages, and has them back with the REC or a refusal', () => {
  const bench = createRealm()
  refuses(bench, 'INPUT', 'RMI_REC_CREATE', { rec: pa(REC), mpidr: 5 })
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC) })
  assert.equal(bench.machine.lent.size, 16)
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  assert.equal(bench.machine.lent.size, 0)
  for (let count = 0; count < 50; count++) bench.machine.allocateFrame()
  refuses(bench, 'INPUT', 'RMI_REC_CREATE', { rec: pa(REC), mpidr: 1 })
})

test('pages that a raw call delegated are not lent', () => {
  const bench = createRealm()
  const first = bench.machine.allocateFrame()
  bench.machine.freeFrame(first)
  delegate(bench, first)
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC) })
  assert.ok(!recOf(bench).aux.includes(first))
  assert.equal(bench.machine.lent.size, 16)
})

test('3: the index of a destroyed REC is not used again', () => {
  const bench = prepared()
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), aux: aux() })
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  refuses(bench, 'INPUT', 'RMI_REC_CREATE', { rec: pa(REC), aux: aux() })
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), aux: aux(), mpidr: 1 })
})

test('3: a vCPU whose REC is gone has none, whatever its granule is now', () => {
  const bench = createRealm()
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), flags: 1 })
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  delegate(bench, DATA, 2)
  const other = { rd: pa(DATA), s2sz: 40, rtt_base: pa(DATA + 1), rtt_num_start: 1, num_bps: 1, num_wps: 1 }
  must(bench, 'RMI_REALM_CREATE', other)
  must(bench, 'RMI_REC_CREATE', { rd: pa(DATA), rec: pa(REC), flags: 1 })
  must(bench, 'RMI_REALM_ACTIVATE', { rd: pa(DATA) })
  refuses(bench, 'INPUT', 'RMI_REC_ENTER')
  must(bench, 'RMI_REC_ENTER', { rec: pa(REC) })
})

test('3: REC_DESTROY is INPUT without a REC, and ERROR_REC while it runs', () => {
  const bench = createActive()
  for (const rec of [pa(SPARE), pa(RD), '0x40800']) refuses(bench, 'INPUT', 'RMI_REC_DESTROY', { rec })
  must(bench, 'RMI_REC_ENTER', { rec: pa(REC) })
  refuses(bench, 'REC', 'RMI_REC_DESTROY', { rec: pa(REC) })
  assert.equal(must(bench, 'IRQ', { rec: pa(REC) }).exited, true)
  assert.equal(must(bench, 'IRQ', { rec: pa(REC) }).exited, false)
  refuses(bench, 'INPUT', 'IRQ', { rec: pa(SPARE) })
  must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
})

test('1: REC_AUX_COUNT', () => {
  const bench = createRealm()
  assert.equal(must(bench, 'RMI_REC_AUX_COUNT').aux_count, 16)
  refuses(bench, 'INPUT', 'RMI_REC_AUX_COUNT', { rd: pa(SPARE) })
})

test('3: REC_ENTER checks run and REC, that it doesn’t run, the Realm, then what the entry may ask', () => {
  const bench = createWithRec()
  const refused = (expected: string, wrong: Args = {}) =>
    refuses(bench, expected, 'RMI_REC_ENTER', { rec: pa(REC), ...wrong })
  refused('INPUT', { rec: pa(SPARE) })
  refused('INPUT', { run: pa(SPARE) })
  refused('INPUT', { run: '0x200800' })
  refused('REALM,0', { flags: 1 })
  must(bench, 'RMI_REALM_ACTIVATE')
  refused('REC', { flags: 1 })
  refused('REC', { flags: 2 })
  refused('REC', { gicv3_hcr: 1 })
  refused('REC', { gicv3_lrs: ['0x0', '0x2000000000000000'] })
  must(bench, 'RMI_REC_ENTER', { rec: pa(REC), gicv3_hcr: '0x40fe', gicv3_lrs: ['0x1000000000000000'] })
  refused('REC')
  must(bench, 'PSCI_SYSTEM_OFF', { rec: pa(REC) })
  refused('REALM,1', { flags: 1 })
})

test('3: a REC that is not runnable, or waits for PSCI_COMPLETE, is not entered', () => {
  const bench = createRealm()
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC), flags: 1 })
  must(bench, 'RMI_REC_CREATE', { rec: pa(REC2), mpidr: 1 })
  must(bench, 'RMI_REALM_ACTIVATE')
  refuses(bench, 'REC', 'RMI_REC_ENTER', { rec: pa(REC2) })
  assert.equal(must(bench, 'PSCI_CPU_ON', { rec: pa(REC), target_cpu: 1 }).exit_reason, 'PSCI')
  refuses(bench, 'REC', 'RMI_REC_ENTER', { rec: pa(REC) })
  refuses(bench, 'REC', 'RSI_VERSION', { rec: pa(REC), req: '0x10000' })
})

test('1: the entry half of RmiRecRun is read from a host page', () => {
  const bench = createActive()
  const run = Buffer.alloc(4096)
  run.writeBigUInt64LE(1n, 0)
  run.writeBigUInt64LE(0xabn, 0x200)
  bench.machine.write(SOURCE, run)
  must(bench, 'guest access', { rec: pa(REC), ipa: ipa(PAR), kind: 'read' })
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC), run: pa(SOURCE) }).value, '0xab')
})

const read = { rec: pa(REC), ipa: ipa(PAR), kind: 'read' }

test('6: an emulatable abort is answered by emul_mmio, once, and an SEA wins over it', () => {
  const bench = createActive()
  must(bench, 'guest access', read)
  const answered = must(bench, 'RMI_REC_ENTER', { rec: pa(REC), flags: 1, gprs: ['0x55'] })
  assert.deepEqual([answered.emulated, answered.value], [true, '0x55'])
  must(bench, 'IRQ', { rec: pa(REC) })
  refuses(bench, 'REC', 'RMI_REC_ENTER', { rec: pa(REC), flags: 1 })
  must(bench, 'guest access', read)
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC), flags: 3 }).fault, 'SEA')
  must(bench, 'IRQ', { rec: pa(REC) })
  must(bench, 'guest access', { ...read, isv: false })
  refuses(bench, 'REC', 'RMI_REC_ENTER', { rec: pa(REC), flags: 1 })
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC), flags: 2 }).fault, 'SEA')
})

test('6: no SEA for a protected abort, nor for a fetch', () => {
  const bench = createWithRec()
  addTables(bench, PAGE)
  must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 1) })
  must(bench, 'RMI_REALM_ACTIVATE')
  for (const kind of ['read', 'execute']) {
    assert.equal(must(bench, 'guest access', { rec: pa(REC), ipa: ipa(PAGE), kind }).exit_reason, 'SYNC')
    for (const flags of [1, 2]) refuses(bench, 'REC', 'RMI_REC_ENTER', { rec: pa(REC), flags })
  }
})

test('a REC that REC_ENTER put inside stays there until its guest exits', () => {
  const bench = createActive()
  must(bench, 'RMI_REC_ENTER', { rec: pa(REC) })
  must(bench, 'RSI_VERSION', { rec: pa(REC), req: '0x10000' })
  assert.equal(recOf(bench).running, true)
  must(bench, 'guest access', read)
  assert.equal(recOf(bench).running, false)
  must(bench, 'RSI_VERSION', { rec: pa(REC), req: '0x10000' })
  assert.equal(recOf(bench).running, false)
})

test('a guest’s act answers what its entry delivered beside its own', () => {
  const bench = createActive()
  must(bench, 'RSI_IPA_STATE_SET', { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 1), ripas: 'RAM' })
  const { resumed, value } = must(bench, 'RSI_MEASUREMENT_READ', { rec: pa(REC), index: 1 })
  assert.deepEqual(resumed, { answers: 'RSI_IPA_STATE_SET', x1: ipa(PAGE), response: 'ACCEPT' })
  assert.equal(value, '00'.repeat(64))
  assert.equal(must(bench, 'RSI_MEASUREMENT_READ', { rec: pa(REC), index: 1 }).resumed, undefined)
})

test('without rec a guest’s call is its vCPU’s, and KVM has its exits', () => {
  const bench = createActive()
  const range = { base: ipa(PAGE), top: ipa(PAGE + 1), ripas: 'RAM' }
  assert.deepEqual(
    [ask(bench, 'RSI_IPA_STATE_SET', range).status, ask(bench, 'RSI_IPA_STATE_SET', range, 1).status],
    ['KVM', 'RMI_ERROR_INPUT'],
  )
  assert.equal(ask(bench, 'RSI_IPA_STATE_SET', { ...range, rec: pa(REC) }).status, 'RMI_SUCCESS')
})

/** An active Realm with RECs, of which the first is on. */
function withRecs(...recs: readonly number[]): Bench {
  const bench = createRealm()
  for (const [mpidr, rec] of recs.entries())
    must(bench, 'RMI_REC_CREATE', { rec: pa(rec), mpidr, flags: mpidr === 0 ? 1 : 0 })
  must(bench, 'RMI_REALM_ACTIVATE')
  return bench
}
const psci = (bench: Bench, name: string, args: Args = {}, rec = REC) => ask(bench, name, { rec: pa(rec), ...args })
const complete = { calling_rec: pa(REC), target_rec: pa(REC2), status: 0 }

test('1: CPU_ON waits for the host, which allows or denies it', () => {
  const bench = withRecs(REC, REC2)
  const args = { target_cpu: 1, entry_point_address: '0x80000000', context_id: '0x7' }
  assert.deepEqual(psci(bench, 'PSCI_CPU_ON', args).gprs, ['0xc4000003', '0x1', '0x80000000', '0x7'])
  must(bench, 'RMI_PSCI_COMPLETE', { ...complete, status: -3 })
  assert.deepEqual(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).x0, -3)
  assert.equal(recOf(bench, REC2).runnable, false)
  psci(bench, 'PSCI_CPU_ON', args)
  must(bench, 'RMI_PSCI_COMPLETE', complete)
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).x0, 0)
  const { runnable, pc, gprs } = recOf(bench, REC2)
  assert.deepEqual([runnable, pc, gprs[0]], [true, 0x80000000n, 7n])
  psci(bench, 'PSCI_CPU_ON', args)
  must(bench, 'RMI_PSCI_COMPLETE', { ...complete, status: -3 })
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).x0, -4)
})

test('1: AFFINITY_INFO says whether a REC is on', () => {
  const bench = withRecs(REC, REC2)
  for (const [expected, after] of [
    [1, () => recOf(bench, REC2)],
    [0, () => undefined],
  ] as const) {
    psci(bench, 'PSCI_AFFINITY_INFO', { target_affinity: 1 })
    refuses(bench, 'INPUT', 'RMI_PSCI_COMPLETE', { ...complete, status: -3 })
    must(bench, 'RMI_PSCI_COMPLETE', complete)
    assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).x0, expected)
    must(bench, 'IRQ', { rec: pa(REC) })
    const off = after()
    if (off !== undefined) off.runnable = true
  }
})

test('1: PSCI_COMPLETE is INPUT without a call, with the wrong REC or a status the host may not give', () => {
  const bench = withRecs(REC, REC2, SPARE)
  const refused = (wrong: Args) => refuses(bench, 'INPUT', 'RMI_PSCI_COMPLETE', { ...complete, ...wrong })
  refused({})
  psci(bench, 'PSCI_CPU_ON', { target_cpu: 1 })
  refused({ target_rec: pa(REC) })
  refused({ target_rec: pa(RD) })
  refused({ calling_rec: pa(RD) })
  refused({ calling_rec: pa(REC2), target_rec: pa(REC) })
  refused({ status: -2 })
  refused({ target_rec: pa(SPARE) })
  must(bench, 'RMI_PSCI_COMPLETE', complete)
  refused({})
})

test('PSCI calls that concern the caller alone are answered at once', () => {
  const bench = withRecs(REC, REC2)
  assert.equal(psci(bench, 'PSCI_VERSION').x0, 0x10001)
  assert.equal(psci(bench, 'PSCI_FEATURES', { psci_func_id: '0xc4000003' }).status, 'PSCI_SUCCESS')
  assert.equal(psci(bench, 'PSCI_FEATURES', { psci_func_id: '0x84000003' }).code, -1)
  assert.equal(psci(bench, 'PSCI_CPU_ON', { target_cpu: 0 }).status, 'PSCI_ALREADY_ON')
  assert.equal(psci(bench, 'PSCI_CPU_ON', { target_cpu: 2 }).code, -2)
  assert.equal(psci(bench, 'PSCI_CPU_ON', { target_cpu: 1, entry_point_address: ipa(PAR) }).code, -9)
  assert.equal(psci(bench, 'PSCI_AFFINITY_INFO', { target_affinity: 0 }).x0, 0)
  assert.equal(psci(bench, 'PSCI_AFFINITY_INFO', { target_affinity: 1, lowest_affinity_level: 1 }).code, -2)
  assert.equal(psci(bench, 'PSCI_AFFINITY_INFO', { target_affinity: 2 }).code, -2)
})

test('CPU_SUSPEND returns, CPU_OFF doesn’t', () => {
  const bench = withRecs(REC, REC2)
  assert.equal(psci(bench, 'PSCI_CPU_SUSPEND', { power_state: 1 }).exit_reason, 'PSCI')
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).x0, 0)
  assert.deepEqual(psci(bench, 'PSCI_CPU_OFF').gprs, ['0x84000002', '0x0', '0x0', '0x0'])
  refuses(bench, 'REC', 'RMI_REC_ENTER', { rec: pa(REC) })
})

test('3: SYSTEM_OFF and SYSTEM_RESET end the Realm for all of its RECs', () => {
  for (const name of ['PSCI_SYSTEM_OFF', 'PSCI_SYSTEM_RESET']) {
    const bench = withRecs(REC, REC2)
    assert.equal(psci(bench, name).exit_reason, 'PSCI')
    assert.equal(realmOf(bench).state, 'SYSTEM_OFF')
    for (const rec of [REC, REC2]) refuses(bench, 'REALM,1', 'RMI_REC_ENTER', { rec: pa(rec) })
  }
})

test('a Realm has at most as many RECs as RMI_FEATURES says', () => {
  const bench = createRealm()
  delegate(bench, DATA, 16)
  for (let index = 0; index < 512; index++) {
    const mpidr = Number(mpidrOf(index))
    must(bench, 'RMI_REC_CREATE', { rec: pa(REC), mpidr, aux: aux(16, DATA) })
    must(bench, 'RMI_REC_DESTROY', { rec: pa(REC) })
  }
  refuses(bench, 'INPUT', 'RMI_REC_CREATE', { rec: pa(REC), mpidr: Number(mpidrOf(512)), aux: aux(16, DATA) })
})
