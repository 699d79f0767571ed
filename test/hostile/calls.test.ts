import assert from 'node:assert/strict'
import { test } from 'node:test'
import { backends } from '../../src/hw/registry.ts'
import { makeUp, type Pools, type Schema } from '../support/grammar.ts'
import { assertReplays, attack, launchImage, makeMachine, type Outcome } from '../support/grammar-attack.ts'
import { Random } from '../support/process-model.ts'
import { type Service, service } from '../support/service.ts'

// Raw hardware calls with arguments as bad as they come, by host and guest, before and after launch: the firmware's own
// pages, the machine's table, other guests' pages, and addresses where nothing is.

const CALLS = Number(process.env.GMEMD_CALLS ?? 4000)
const SEED = Number(process.env.GMEMD_CALLS_SEED ?? 20261122)
const MEMORY = 64 * 2 ** 20
const PAGE = 4096

const hex = (value: number): string => `0x${value.toString(16)}`

/** Host addresses that something depends on: what the tables say of the VM's pages, and the borders of memory. */
async function interestingFrames({ get }: Service, vms: readonly string[]): Promise<string[]> {
  const found = new Set<string>()
  for (const vm of vms) {
    for (const gpa of ['0x0', '0x1000', '0x200000', '0x800000', '0x80d000', '0x80f000', '0x81f000', '0xffffe000']) {
      const { hpa, privateHpa, sharedHpa } = await get(`/v1/vms/${vm}/pages/${gpa}`)
      for (const one of [hpa, privateHpa, sharedHpa]) if (one !== null) found.add(one)
    }
  }
  // Context pages and VMSAs lie among the frames handed out first; the table of the machine lies at its top.
  for (let frame = 0; frame < 24; frame++) found.add(hex(frame * PAGE))
  for (const back of [1, 2, 16, 511, 512, 513, 1024]) found.add(hex(MEMORY - back * PAGE))
  for (const odd of [MEMORY, MEMORY + PAGE, 1, 0xfff, 2 ** 21, 2 ** 21 + PAGE, 2 ** 22, 2 ** 52]) found.add(hex(odd))
  return [...found, '0xfffffffffffff000', '0xffffffffffffffff', '0x8000000000000000']
}

async function makeGuests(service: Service, host: string): Promise<string[]> {
  const launched = await makeMachine(service, { technology: 'sev-snp', host, vcpus: 2 })
  await launchImage(service, launched.vm)
  const entries = [{ gpa: 0, pages: 16, operation: 'private' }]
  await service.post(`/v1/vms/${launched.vm}/page-states`, { accept: true, entries })
  const launching = await makeMachine(service, { technology: 'sev-snp', host })
  const sensitive = await makeMachine(service, { technology: 'sev-snp', host, config: { policy: '0xb0000' } })
  return [launched.vm, launching.vm, sensitive.vm]
}

/** Everything but hosts and their reboot is answered 409 there, and changes nothing, until the machine is put anew. */
async function assertDead(service: Service, host: string, vm: string): Promise<void> {
  const { send, get, engine } = service
  const before = engine.lastSeq
  const requests = [
    send('POST', `/v1/vms/${vm}/calls`, { call: 'SNP_PLATFORM_STATUS' }),
    send('POST', `/v1/vms/${vm}/vcpus/0/accesses`, { gpa: 0, kind: 'read' }),
    send('POST', `/v1/vms/${vm}/host-accesses`, { as: 'user', gpa: 0, kind: 'read' }),
    send('POST', `/v1/vms/${vm}/page-states`, { entries: [{ gpa: 0, operation: 'private' }] }),
    send('PUT', `/v1/vms/${vm}/memslots/9`, { gpa: '0x40000000', size: PAGE }),
    send('POST', '/v1/vms', { technology: 'sev-snp', host }),
    send('POST', '/v1/memfiles', { size: PAGE, host }),
    send('DELETE', `/v1/vms/${vm}`),
  ]
  for (const answer of await Promise.all(requests)) {
    assert.deepEqual([answer.status, answer.body.code], [409, 'host-crashed'], answer.text)
  }
  assert.equal(engine.lastSeq, before)
  assert.equal((await get(`/v1/hosts/${host}`)).state, 'crashed')
  assert.equal((await get(`/v1/vms/${vm}`)).state, 'crashed')
}

test(`${CALLS} raw calls with arguments that make no sense`, { timeout: 60_000 + CALLS * 20 }, async (t) => {
  const all = await service(t)
  const { post } = all
  const host = 'lab'
  await post('/v1/hosts', { name: host, technology: 'sev-snp', memory: MEMORY }, 201)
  const calls = backends.get('sev-snp')?.calls ?? []
  const random = new Random(SEED)
  const seen = new Map<string, Set<string>>(calls.map(({ name }) => [name, new Set()]))
  let vms = await makeGuests(all, host)
  let frames = await interestingFrames(all, vms)
  let crashes = 0
  for (let n = 0; n < CALLS; n++) {
    const call = random.pick(calls)
    const gpa = ['0x0', '0x1000', 0x2000, '0x200000', '0x3ff000', '0x80f000', '0x800000', '0xfffffffff000', ...frames]
    const pools: Pools = {
      ...{ hpa: frames, destination: frames, metadata: frames, gctx: frames, gpa },
      ...{ asid: [0, 1, 2, 3, 233, 1024], pageSize: ['4K', '4K', '2M'], pageType: [1, 3, 2, 4, 5, 6, 0] },
      ...{ vmpl: [0, 1, 2, 3, 4], targetVmpl: [0, 1, 2, 3, 4], policy: ['0x30000', '0xb0000', '0x0'] },
    }
    const args = makeUp(call.schema as Schema, random, pools) as Record<string, unknown>
    const side = random.chance(20) ? { by: random.pick(['guest', 'host']) } : {}
    const payload = { ...args, call: call.name, ...side, ...(random.chance(20) ? { vcpu: random.below(3) } : {}) }
    const vm = random.pick(vms)
    const outcome = await attack(all, { method: 'POST', url: `/v1/vms/${vm}/calls`, payload })
    seen.get(call.name)?.add(nameOf(outcome))
    if (n % 25 === 0) await touchEverything(all, random.pick(vms), random)
    if (n % 100 === 0) await disturbKernel(all, host, random, frames)
    if (outcome.body?.hostCrashed === undefined && !isCrashed(all, host)) continue
    crashes += 1
    await assertDead(all, host, vm)
    await post(`/v1/hosts/${host}/reboot`)
    assert.equal((await all.get('/v1/vms?host=lab')).items.length, 0)
    vms = await makeGuests(all, host)
    frames = await interestingFrames(all, vms)
  }
  assertReplays(all)
  for (const [name, outcomes] of seen) assert.ok(outcomes.size > 0, `${name} was never made`)
  const kinds = [...seen.values()].reduce((sum, outcomes) => sum + outcomes.size, 0)
  t.diagnostic(`seed ${SEED}: ${kinds} different outcomes of ${seen.size} calls, ${crashes} crashes`)
  assert.ok(kinds > 3 * seen.size)
})

const nameOf = ({ status, body }: Outcome): string => (status === 200 ? body.status.name : `${status} ${body.code}`)

const isCrashed = ({ engine }: Service, host: string): boolean => engine.hosts.get(host)?.state.crashed !== null

/** What guest and host do next must make sense whatever the calls have left behind. */
async function touchEverything(all: Service, vm: string, random: Random): Promise<void> {
  const at = hex(random.below(1024) * PAGE)
  const url = `/v1/vms/${vm}`
  const kind = random.pick(['read', 'write'])
  const moved = kind === 'write' ? { data: 'AQID' } : { length: 3 }
  const requests = [
    { method: 'GET', url: `${url}/page-states` },
    { method: 'GET', url: `${url}/pages/${at}` },
    { method: 'GET', url: `${url}/accounting` },
    { method: 'GET', url: `${url}/attestation?nonce=00` },
    { method: 'POST', url: `${url}/vcpus/0/accesses`, payload: { gpa: at, kind, ...moved } },
    { method: 'POST', url: `${url}/page-states`, payload: { entries: [{ gpa: at, operation: 'shared' }] } },
    {
      method: 'POST',
      url: `${url}/page-states`,
      payload: { accept: true, entries: [{ gpa: at, operation: 'private' }] },
    },
    { method: 'POST', url: `${url}/host-accesses`, payload: { as: 'user', gpa: at, kind, ...moved } },
  ]
  for (const request of requests) await attack(all, request)
}

/** What makes the kernel itself touch frames: pages handed out anew, and a stray write. */
async function disturbKernel(all: Service, host: string, random: Random, frames: readonly string[]): Promise<void> {
  const { items } = await all.get(`/v1/memfiles?host=${host}&state=bound`)
  const { id, vm } = random.pick(items as { id: string; vm: string }[])
  const payload = { offset: random.below(512) * PAGE, length: 64 * PAGE }
  await attack(all, { method: 'POST', url: `/v1/memfiles/${id}/punch-hole`, payload })
  await attack(all, { method: 'POST', url: `/v1/memfiles/${id}/fallocate`, payload })
  if (random.chance(80)) return
  const write = { as: random.pick(['kernel', 'device']), hpa: random.pick(frames), kind: 'write', data: 'AQID' }
  await attack(all, { method: 'POST', url: `/v1/vms/${vm}/host-accesses`, payload: write })
}

test('a machine that died answers 409 until it is put anew, and others go on', async (t) => {
  const all = await service(t)
  const { post, get } = all
  await post('/v1/hosts', { name: 'lab', technology: 'sev-snp', memory: MEMORY }, 201)
  const [vm = ''] = await makeGuests(all, 'lab')
  const other = await all.machine()
  const { privateHpa } = await get(`/v1/vms/${vm}/pages/0x800000`)
  const write = { as: 'kernel', hpa: privateHpa, kind: 'write', data: 'AQID' }
  const crash = await post(`/v1/vms/${vm}/host-accesses`, write)
  assert.deepEqual([crash.outcome, typeof crash.hostCrashed], ['host-crash', 'string'])
  await assertDead(all, 'lab', vm)
  await post(`/v1/memfiles/${other.memfile}/fallocate`, { offset: 0, length: PAGE })
  const anew = await post('/v1/hosts/lab/reboot')
  assert.deepEqual([anew.state, anew.vms, anew.memfiles, anew.keys.inUse], ['up', 0, 0, 0])
  await get(`/v1/vms/${vm}`, 404)
  await makeGuests(all, 'lab')
  assertReplays(all)
})
