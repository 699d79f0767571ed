import assert from 'node:assert/strict'
import { createHash } from 'node:crypto'
import { test } from 'node:test'
import {
  type Args,
  addTables,
  ask,
  type Bench,
  createActive,
  createWithRec,
  DATA,
  delegate,
  entry,
  fakeToken,
  ipa,
  must,
  pa,
  REC,
  type RealmOptions,
  realmOf,
  recOf,
  refuses,
  SOURCE,
  setRipas,
} from './rmm-bench.ts'

const PAGE = 0x80000
const PAR = 2 ** 27
const MIB2 = 512
const GIB = 512 ** 2

/** An active Realm whose {@link PAGE} is RAM with a page, the next RAM without, the one after EMPTY. */
function populated(options: RealmOptions = {}): Bench {
  const bench = createWithRec(options)
  addTables(bench, PAGE)
  delegate(bench, DATA)
  must(bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(PAGE), top: ipa(PAGE + 2) })
  must(bench, 'RMI_DATA_CREATE', { data: pa(DATA), ipa: ipa(PAGE), src: pa(SOURCE), flags: 0 })
  must(bench, 'RMI_REALM_ACTIVATE')
  return bench
}

const rsi = (bench: Bench, name: string, args: Args = {}) => ask(bench, `RSI_${name}`, { rec: pa(REC), ...args })

/** A call by the guest that is answered so; but for the REC's last exit it changes nothing. */
function refused(bench: Bench, expected: string, name: string, args: Args): void {
  must(bench, 'IRQ', { rec: pa(REC) })
  refuses(bench, expected, `RSI_${name}`, { rec: pa(REC), ...args })
}

test('7: IPA_STATE_SET is INPUT for another RIPAS, and what isn’t an aligned protected range', () => {
  const bench = populated()
  const range = { base: ipa(PAGE), top: ipa(PAGE + 1), ripas: 'RAM' }
  for (const wrong of [
    { ripas: 'DESTROYED' },
    { ripas: 3 },
    { base: '0x80000800' },
    { top: '0x80000800' },
    { top: ipa(PAGE) },
    { top: ipa(PAGE - 1) },
    { base: ipa(PAR), top: ipa(PAR + 1) },
    { top: ipa(PAR + 1) },
  ])
    refused(bench, 'INPUT', 'IPA_STATE_SET', { ...range, ...wrong })
  assert.equal(rsi(bench, 'IPA_STATE_SET', { ...range, top: ipa(PAR) }).exit_reason, 'RIPAS_CHANGE')
})

test('7: the exit shows the range and the RIPAS, and never the flag', () => {
  const bench = populated()
  const range = { base: ipa(PAGE), top: ipa(PAGE + 4), ripas: 'EMPTY' }
  const exit = rsi(bench, 'IPA_STATE_SET', { ...range, flags: 1 })
  assert.deepEqual([exit.ripas_base, exit.ripas_top, exit.ripas_value], [ipa(PAGE), ipa(PAGE + 4), 'EMPTY'])
  assert.deepEqual(rsi(bench, 'IPA_STATE_SET', { ...range, flags: 0 }), {
    ...exit,
    resumed: { answers: 'RSI_IPA_STATE_SET', x1: ipa(PAGE), response: 'ACCEPT' },
  })
})

test('7: REJECT only of RAM that isn’t all set, and that the host refuses', () => {
  for (const ripas of ['RAM', 'EMPTY'])
    for (const done of [0, 2, 4])
      for (const response of [0, 1]) {
        const bench = populated()
        const range = { rec: pa(REC), base: ipa(PAGE), top: ipa(PAGE + 4) }
        must(bench, 'RSI_IPA_STATE_SET', { ...range, ripas, flags: 1 })
        if (done > 0) must(bench, 'RMI_RTT_SET_RIPAS', { ...range, top: ipa(PAGE + done) })
        const answer = must(bench, 'RMI_REC_ENTER after RIPAS_CHANGE', { rec: pa(REC), ripas_response: response })
        const rejected = ripas === 'RAM' && done < 4 && response === 1
        assert.deepEqual(
          [answer.status, answer.x1, answer.response],
          ['RSI_SUCCESS', ipa(PAGE + done), rejected ? 'REJECT' : 'ACCEPT'],
        )
        assert.equal(recOf(bench).ripasChange, undefined)
      }
})

test('7: the same through RMI_REC_ENTER’s own flag', () => {
  const bench = populated()
  rsi(bench, 'IPA_STATE_SET', { base: ipa(PAGE), top: ipa(PAGE + 4), ripas: 'RAM' })
  const entered = must(bench, 'RMI_REC_ENTER', { rec: pa(REC), flags: 16 })
  assert.deepEqual([entered.x1, entered.response, recOf(bench).running], [ipa(PAGE), 'REJECT', true])
})

test('RMI_REC_ENTER after RIPAS_CHANGE without one is a plain entry', () => {
  const bench = populated()
  assert.equal(must(bench, 'RMI_REC_ENTER after RIPAS_CHANGE', { rec: pa(REC) }).status, 'RMI_SUCCESS')
  assert.equal(recOf(bench).running, false)
  refuses(bench, 'INPUT', 'RMI_REC_ENTER after RIPAS_CHANGE', { rec: pa(SOURCE) })
})

test('7: IPA_STATE_GET is INPUT for what isn’t an aligned protected range', () => {
  const bench = populated()
  const range = { start: ipa(PAGE), end: ipa(PAGE + 1) }
  for (const wrong of [
    { start: '0x80000800' },
    { end: '0x80000800' },
    { end: ipa(PAGE) },
    { start: ipa(PAR), end: ipa(PAR + 1) },
    { end: ipa(PAR + 1) },
  ])
    refused(bench, 'INPUT', 'IPA_STATE_GET', { ...range, ...wrong })
})

test('7: IPA_STATE_GET gives the run of one RIPAS, cut at end and at one table', () => {
  const bench = populated()
  const get = (start: number, end: number) => {
    const { x1, ripas } = rsi(bench, 'IPA_STATE_GET', { start: ipa(start), end: ipa(end) })
    return [x1, ripas]
  }
  assert.deepEqual(get(PAGE, PAGE + 9), [ipa(PAGE + 2), 'RAM'])
  assert.deepEqual(get(PAGE, PAGE + 1), [ipa(PAGE + 1), 'RAM'])
  assert.deepEqual(get(PAGE + 2, PAGE + 9), [ipa(PAGE + 9), 'EMPTY'])
  assert.deepEqual(get(PAGE + 2, PAR), [ipa(PAGE + MIB2), 'EMPTY'])
  assert.deepEqual(get(PAGE + MIB2 + 3, PAR), [ipa(PAGE + GIB), 'EMPTY'])
  assert.deepEqual(get(PAGE + GIB, PAR), [ipa(PAR), 'EMPTY'])
  assert.deepEqual(get(PAGE - GIB, PAR), [ipa(PAGE), 'EMPTY'])
  const other = PAGE + 4 * GIB
  addTables(bench, other, 3, 0x90)
  assert.deepEqual(get(other - GIB, PAR), [ipa(other), 'EMPTY'])
  assert.deepEqual(get(other + MIB2 * 3, PAR), [ipa(other + GIB), 'EMPTY'])
  setRipas(bench, PAGE + 3, 1, 'EMPTY')
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  assert.deepEqual(get(PAGE, PAGE + 9), [ipa(PAGE + 1), 'DESTROYED'])
})

test('7, 8: MEASUREMENT_READ and EXTEND, by index, and without padding', () => {
  for (const [hash, algo, bytes] of [
    ['sha256', 0, 32],
    ['sha512', 1, 64],
  ] as const) {
    const bench = populated({ fields: { hash_algo: algo } })
    const read = (index: number) => String(rsi(bench, 'MEASUREMENT_READ', { index }).value)
    assert.equal(read(0).slice(0, bytes * 2), must(bench, 'RIM').rim)
    const extend = { index: 2, size: 3, value: 'abcdef'.padEnd(128, '1') }
    assert.equal(rsi(bench, 'MEASUREMENT_EXTEND', extend).status, 'RSI_SUCCESS')
    const first = createHash(hash).update(Buffer.alloc(bytes)).update(Buffer.from('abcdef', 'hex')).digest()
    assert.equal(read(2), first.toString('hex').padEnd(128, '0'))
    rsi(bench, 'MEASUREMENT_EXTEND', { ...extend, size: 0 })
    assert.equal(read(2), createHash(hash).update(first).digest('hex').padEnd(128, '0'))
    for (const index of [1, 3, 4]) assert.equal(read(index), '0'.repeat(128))
    for (const wrong of [{ index: 0 }, { index: 5 }, { size: 65 }, { size: '0xffffffffffffffff' }])
      refused(bench, 'INPUT', 'MEASUREMENT_EXTEND', { ...extend, ...wrong })
    refused(bench, 'INPUT', 'MEASUREMENT_READ', { index: 5 })
  }
})

test('7: REALM_CONFIG fills an aligned protected page', () => {
  const bench = populated({ fields: { rpv: 'ab'.repeat(64) } })
  assert.deepEqual(rsi(bench, 'REALM_CONFIG', { ipa: ipa(PAGE) }).ipa_width, 40)
  const page = Buffer.from(bench.machine.read(DATA) ?? [])
  assert.deepEqual([page.readBigUInt64LE(0), page.readUInt8(8), page.readUInt8(0x23f)], [40n, 1, 0xab])
  assert.equal(page.readUInt8(0x240), 0)
  for (const wrong of [ipa(PAGE + 2), ipa(PAR), '0x80000100']) refused(bench, 'INPUT', 'REALM_CONFIG', { ipa: wrong })
  assert.equal(rsi(bench, 'REALM_CONFIG', { ipa: ipa(PAGE + 1) }).exit_reason, 'SYNC')
})

function hostCallPage(bench: Bench, offset: number): void {
  const page = Buffer.alloc(4096)
  page.writeUInt16LE(0x1234, offset)
  for (let index = 0; index < 31; index++) page.writeBigUInt64LE(BigInt(100 + index), offset + 8 + 8 * index)
  bench.machine.write(DATA, page)
}

test('7: HOST_CALL exits with its structure, and the host’s registers go into it', () => {
  const bench = populated()
  hostCallPage(bench, 256)
  const exit = rsi(bench, 'HOST_CALL', { ipa: '0x80000100' })
  assert.deepEqual([exit.exit_reason, exit.imm, (exit.gprs as string[])[30]], ['HOST_CALL', 0x1234, '0x82'])
  assert.equal((exit.gprs as string[]).length, 31)
  const entered = must(bench, 'RMI_REC_ENTER', { rec: pa(REC), gprs: ['0x7', '0x8'] })
  assert.equal(entered.answers, 'RSI_HOST_CALL')
  const page = Buffer.from(bench.machine.read(DATA) ?? [])
  assert.deepEqual(
    [page.readUInt16LE(256), page.readBigUInt64LE(264), page.readBigUInt64LE(272), page.readBigUInt64LE(280)],
    [0x1234, 7n, 8n, 0n],
  )
  assert.equal(recOf(bench).hostCall, undefined)
})

test('7: HOST_CALL is INPUT if not aligned to 256, unprotected or EMPTY; an unmapped page is an abort', () => {
  const bench = populated()
  for (const wrong of ['0x80000080', ipa(PAR), ipa(PAGE + 2)]) refused(bench, 'INPUT', 'HOST_CALL', { ipa: wrong })
  assert.equal(rsi(bench, 'HOST_CALL', { ipa: ipa(PAGE + 1) }).exit_reason, 'SYNC')
  assert.equal(recOf(bench).hostCall, undefined)
})

test('7: a host call whose page went meanwhile exits again, until the guest has its page back', () => {
  const bench = populated()
  hostCallPage(bench, 0)
  rsi(bench, 'HOST_CALL', { ipa: ipa(PAGE) })
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  assert.equal(must(bench, 'RMI_REC_ENTER', { rec: pa(REC) }).exit_reason, 'SYNC')
  assert.equal(recOf(bench).running, false)
  assert.equal(rsi(bench, 'VERSION', { req: '0x10000' }).exit_reason, 'SYNC')
  assert.notEqual(recOf(bench).hostCall, undefined)
})

const challenge = Buffer.from(Array.from({ length: 64 }, (_, index) => index)).toString('hex')
const WHOLE = { ipa: ipa(PAGE), offset: 0, size: 1000 }

test('7: a token is written in pieces; INCOMPLETE while more remains', () => {
  const bench = populated()
  assert.equal(rsi(bench, 'ATTESTATION_TOKEN_INIT', { challenge }).x1, 4096)
  const pieces: Buffer[] = []
  const statuses: unknown[] = []
  for (let round = 0; round < 3; round++) {
    const { status, x1 } = rsi(bench, 'ATTESTATION_TOKEN_CONTINUE', { ...WHOLE, offset: 8 })
    statuses.push(status)
    pieces.push(Buffer.from(bench.machine.read(DATA) ?? []).subarray(8, 8 + Number(x1)))
  }
  assert.deepEqual(statuses, ['RSI_INCOMPLETE', 'RSI_INCOMPLETE', 'RSI_SUCCESS'])
  assert.deepEqual(Buffer.concat(pieces), Buffer.from(fakeToken(realmOf(bench), Buffer.from(challenge, 'hex'))))
  refused(bench, 'STATE', 'ATTESTATION_TOKEN_CONTINUE', WHOLE)
})

test('7: INIT restarts a running operation', () => {
  const bench = populated()
  rsi(bench, 'ATTESTATION_TOKEN_INIT', { challenge })
  rsi(bench, 'ATTESTATION_TOKEN_CONTINUE', WHOLE)
  rsi(bench, 'ATTESTATION_TOKEN_INIT', { challenge: '11'.repeat(64) })
  rsi(bench, 'ATTESTATION_TOKEN_CONTINUE', { ...WHOLE, size: 4 })
  const expected = fakeToken(realmOf(bench), Buffer.alloc(64, 0x11)).subarray(0, 4)
  assert.deepEqual(Buffer.from(bench.machine.read(DATA) ?? []).subarray(0, 4), Buffer.from(expected))
})

test('7: TOKEN_CONTINUE checks the page and the bytes, then the state, then what the page is', () => {
  const bench = populated()
  refused(bench, 'STATE', 'ATTESTATION_TOKEN_CONTINUE', WHOLE)
  refused(bench, 'INPUT', 'ATTESTATION_TOKEN_CONTINUE', { ...WHOLE, offset: 4096 })
  rsi(bench, 'ATTESTATION_TOKEN_INIT', { challenge })
  for (const wrong of [
    { ipa: '0x80000800' },
    { ipa: ipa(PAR) },
    { offset: 4096, size: 0 },
    { offset: 4000, size: 97 },
    { offset: 1, size: '0xffffffffffffffff' },
    { ipa: ipa(PAGE + 2) },
  ])
    refused(bench, 'INPUT', 'ATTESTATION_TOKEN_CONTINUE', { ...WHOLE, ...wrong })
  const abort = rsi(bench, 'ATTESTATION_TOKEN_CONTINUE', { ...WHOLE, ipa: ipa(PAGE + 1) })
  assert.deepEqual([abort.exit_reason, abort.ec, abort.emulatable], ['SYNC', '0x24', false])
  assert.equal(rsi(bench, 'ATTESTATION_TOKEN_CONTINUE', { ...WHOLE, offset: 3096 }).x1, 1000)
})

test('1: RSI versions and features', () => {
  const bench = populated()
  assert.equal(rsi(bench, 'VERSION', { req: '0x10000' }).status, 'RSI_SUCCESS')
  refused(bench, 'INPUT', 'VERSION', { req: '0x10001' })
  assert.equal(rsi(bench, 'FEATURES', { index: 0 }).value, '0x0')
})

test('7: private → shared and back, as Linux, KVM and the VMM do it', () => {
  const bench = populated()
  must(bench, 'guest access', { rec: pa(REC), ipa: ipa(PAGE), kind: 'write', data: 'secret' })
  assert.equal(setRipas(bench, PAGE, 1, 'EMPTY', 1).x1, ipa(PAGE + 1))
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  must(bench, 'RMI_GRANULE_UNDELEGATE', { addr: pa(DATA) })
  assert.equal(entry(bench, PAGE), 'UNASSIGNED/EMPTY')
  const alias = { rec: pa(REC), ipa: ipa(PAR + PAGE), kind: 'read' }
  assert.equal(ask(bench, 'guest access', alias).emulatable, true)
  addTables(bench, PAR + PAGE, 3, 0x90)
  must(bench, 'RMI_RTT_MAP_UNPROTECTED', { ipa: ipa(PAR + PAGE), level: 3, desc: '0x400000d8' })
  assert.equal(must(bench, 'guest access', alias).data, '')
  must(bench, 'RMI_RTT_UNMAP_UNPROTECTED', { ipa: ipa(PAR + PAGE), level: 3 })
  setRipas(bench, PAGE, 1, 'RAM', 1)
  assert.equal(ask(bench, 'guest access', { ...alias, ipa: ipa(PAGE) }).exit_reason, 'SYNC')
  delegate(bench, DATA)
  must(bench, 'RMI_DATA_CREATE_UNKNOWN', { data: pa(DATA), ipa: ipa(PAGE) })
  assert.equal(must(bench, 'guest access', { ...alias, ipa: ipa(PAGE) }).data, '')
})

test('7: a page that the host destroyed before boot is noticed: RAM stops there without CHANGE_DESTROYED', () => {
  const bench = populated()
  must(bench, 'RMI_DATA_DESTROY', { ipa: ipa(PAGE) })
  assert.deepEqual(setRipas(bench, PAGE - 2, 4, 'RAM', 0).x1, ipa(PAGE - 2))
  assert.equal(setRipas(bench, PAGE, 2, 'RAM', 0).x1, ipa(PAGE))
  assert.equal(setRipas(bench, PAGE, 2, 'RAM', 1).x1, ipa(PAGE + 2))
})

test('the guest of a Realm that isn’t ACTIVE makes no call', () => {
  const bench = createWithRec()
  refuses(bench, 'REALM,0', 'RSI_VERSION', { rec: pa(REC), req: '0x10000' })
  const off = createActive()
  must(off, 'PSCI_SYSTEM_OFF', { rec: pa(REC) })
  refuses(off, 'REALM,1', 'RSI_VERSION', { rec: pa(REC), req: '0x10000' })
})
