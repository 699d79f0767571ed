import assert from 'node:assert/strict'
import { test } from 'node:test'
import { makeUpRequest, type Operation, operationsOf, type Pools } from '../support/grammar.ts'
import { assertReplays, attack, makeWorld, poolsOf } from '../support/grammar-attack.ts'
import { Random } from '../support/process-model.ts'
import { type Service, service } from '../support/service.ts'

// Many clients at the same VMs at once. Nobody knows what each is answered; what must hold of it all is known.

const CLIENTS = 8
const REQUESTS = 150
const SEED = Number(process.env.GMEMD_CLIENTS_SEED ?? Date.now() % 1_000_000)
const MUTATIONS = new Set([
  'fallocateMemfile',
  'punchHole',
  'changePageStates',
  'accessAsGuest',
  'setMemslot',
  'deleteMemslot',
  'setAttributes',
  'createPin',
  'deletePin',
  'createMapping',
  'createMemfile',
  'resumeExit',
])

type Run = { gpa: string; length: number; visibility: string; backing: { private: boolean; shared: boolean } }
type Slot = { slot: number; gpa: string; size: number; memfile: string | null }

const sum = (runs: readonly Run[], counts: (run: Run) => boolean): number =>
  runs.filter(counts).reduce((total, { length }) => total + length, 0)

/** Accounting is the sum of the runs, slot by slot and in all; runs are sorted, merged and without a gap. */
async function checkAccounting({ get }: Service, vm: string): Promise<void> {
  const accounting = await get(`/v1/vms/${vm}/accounting`)
  const slots: Slot[] = (await get(`/v1/vms/${vm}/memslots?limit=1000`)).items
  const total = { private: 0, shared: 0, both: 0 }
  for (const { slot, gpa, size } of slots) {
    const runs: Run[] = (await get(`/v1/vms/${vm}/page-states?gpa=${gpa}&length=${size}&limit=1000`)).items
    let at = BigInt(gpa)
    for (const run of runs) {
      assert.equal(BigInt(run.gpa), at, `slot ${slot} of ${vm}`)
      at += BigInt(run.length)
    }
    assert.equal(at, BigInt(gpa) + BigInt(size), `slot ${slot} of ${vm}`)
    const counted = {
      private: sum(runs, ({ backing }) => backing.private),
      shared: sum(runs, ({ backing }) => backing.shared),
      both: sum(runs, ({ backing }) => backing.private && backing.shared),
    }
    const own = accounting.slots.find((one: { slot: number }) => one.slot === slot)
    assert.deepEqual(own, { slot, ...counted }, `slot ${slot} of ${vm}`)
    for (const kind of ['private', 'shared', 'both'] as const) total[kind] += counted[kind]
  }
  assert.equal(accounting.slots.length, slots.length)
  assert.equal(accounting.shared, total.shared, vm)
  assert.equal(accounting.both, total.both, vm)
  assert.ok(accounting.private >= total.private, vm)
}

/** What memfiles hold is what their extents hold, and no host frame is given to two of them. */
async function checkMemfiles({ get }: Service, host: string): Promise<void> {
  const { items } = await get(`/v1/memfiles?host=${host}&limit=1000`)
  const frames: (readonly [start: number, end: number])[] = []
  for (const { id, allocated } of items) {
    const { items: extents } = await get(`/v1/memfiles/${id}/extents?limit=1000`)
    const held = extents.reduce((total: number, { length }: { length: number }) => total + length, 0)
    assert.equal(allocated, held, id)
    for (const { hpa, length } of extents) frames.push([Number(hpa), Number(hpa) + length])
  }
  frames.sort(([a], [b]) => a - b)
  for (const [index, [start]] of frames.entries()) {
    const before = frames[index - 1]
    assert.ok(before === undefined || before[1] <= start, 'a frame backs two pages')
  }
}

test(`${CLIENTS} clients at the same VMs (seed ${SEED})`, async (t) => {
  const all = await service(t)
  const world = await makeWorld(all, 'shared')
  const soft = world.host.replace('snp', 'soft')
  const pools: Pools = { ...poolsOf(world), host: [world.host, soft], technology: ['sw-protected'] }
  const operations = operationsOf(all.app).filter(({ id }) => MUTATIONS.has(id))
  const seqs: number[] = []
  const client = async (number: number, own: readonly Operation[]): Promise<void> => {
    const random = new Random(SEED * CLIENTS + number)
    for (let n = 0; n < REQUESTS; n++) {
      const { method, url, body } = makeUpRequest(random.pick(own), random, pools)
      const outcome = await attackAtOnce(all, { method, url, ...(body === undefined ? {} : { payload: body }) })
      if (outcome.seq !== undefined) seqs.push(outcome.seq)
    }
  }
  await Promise.all(Array.from({ length: CLIENTS }, (_, number) => client(number, operations)))
  assert.equal(new Set(seqs).size, seqs.length, 'two commands have the same sequence number')
  for (const vm of world.ids.vm) await checkAccounting(all, vm)
  for (const host of [world.host, soft]) await checkMemfiles(all, host)
  assertReplays(all)
  t.diagnostic(`${seqs.length} of ${CLIENTS * REQUESTS} were accepted`)
  assert.ok(seqs.length > (CLIENTS * REQUESTS) / 20)
})

/** Like {@link attack}, where others journal meanwhile. */
async function attackAtOnce(all: Service, request: Parameters<typeof attack>[1]): Promise<{ seq: number | undefined }> {
  const engine = { lastSeq: 0 } as Service['engine']
  const { status, body } = await attack({ app: all.app, engine }, request)
  return { seq: status < 300 ? body.seq : body.progress?.seq }
}

test('many clients with one Idempotency-Key have one effect', async (t) => {
  const all = await service(t)
  const headers = { 'idempotency-key': 'one' }
  const before = all.engine.lastSeq
  const answers = await Promise.all(
    Array.from({ length: 100 }, () => all.send('POST', '/v1/memfiles', { size: 4096 }, headers)),
  )
  const made = answers.filter(({ status }) => status === 201)
  assert.equal(new Set(made.map(({ body }) => body.id)).size, 1)
  for (const { status, body } of answers) {
    assert.ok(status === 201 || (status === 409 && body.code === 'idempotency-in-progress'), `${status}`)
  }
  assert.equal(all.engine.lastSeq, before + 1)
  assert.equal((await all.send('POST', '/v1/memfiles', { size: 8192 }, headers)).body.code, 'idempotency-key-reused')
})

test('of many writers with the same ETag one wins', async (t) => {
  const all = await service(t)
  const { vm } = await all.machine()
  for (let round = 0; round < 20; round++) {
    const { headers } = await all.send('GET', `/v1/vms/${vm}`)
    const guard = { 'if-match': String(headers.etag) }
    const write = (n: number) => {
      const body = { gpa: `0x${(0x40000000 + n * 4096).toString(16)}`, length: 4096, kind: 'read' }
      return all.send('POST', `/v1/vms/${vm}/vcpus/0/accesses`, { ...body, length: 8 }, guard)
    }
    const answers = await Promise.all(Array.from({ length: CLIENTS }, (_, n) => write(n)))
    assert.deepEqual(answers.map(({ status }) => status).sort(), [200, ...Array(CLIENTS - 1).fill(412)])
  }
})
