import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { type Answer, type Server, startServer, temporaryDirectory, warmCache } from '../../../support/process.ts'
import { readViews } from '../../../support/process-script.ts'

// reliability.md G8 for CCA: Realms in every state live through kill -9, and go on as those would that were never
// killed. The same requests go to a service that is killed between any two of them and to one that is not.

const GPA = 0x80000000
const PAGE = 4096
const at = (page: number): string => `0x${(GPA + page * PAGE).toString(16)}`

type Body = Answer['body']
type Ask = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown) => Promise<Body>
type Realm = { readonly vm: string; readonly memfile: string }
type Story = readonly ((ask: Ask, realm: Realm) => Promise<unknown>)[]

const call =
  (name: string, args: object = {}) =>
  (ask: Ask, { vm }: Realm) =>
    ask('POST', `/v1/vms/${vm}/calls`, { call: name, ...args })
const access =
  (kind: string, page: number, more: object = {}) =>
  (ask: Ask, { vm }: Realm) =>
    ask('POST', `/v1/vms/${vm}/vcpus/0/accesses`, {
      gpa: at(page),
      kind,
      private: true,
      ...(kind === 'write' ? { data: 'c2VjcmV0' } : { length: 6 }),
      ...more,
    })
const convert =
  (page: number, pages: number, operation: 'private' | 'shared') =>
  (ask: Ask, { vm }: Realm) =>
    ask('POST', `/v1/vms/${vm}/page-states`, { entries: [{ gpa: at(page), pages, operation }] })
const stateSet = (page: number, pages: number, ripas: 'EMPTY' | 'RAM', flags: 0 | 1) =>
  call('RSI_IPA_STATE_SET', { base: at(page), top: at(page + pages), ripas, flags })
const update =
  (page: number, measure: boolean) =>
  (ask: Ask, { vm }: Realm) =>
    ask('POST', `/v1/vms/${vm}/launch/update`, {
      gpa: at(page),
      data: Buffer.alloc(PAGE, page + 1).toString('base64'),
      measure,
    })
const finish = (ask: Ask, { vm }: Realm) =>
  ask('POST', `/v1/vms/${vm}/launch/finish`, { ripas: [{ gpa: at(8), length: '0x30000' }], entry: at(0) })
const fallocate =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Realm) =>
    ask('POST', `/v1/memfiles/${memfile}/fallocate`, { offset: page * PAGE, length: pages * PAGE })
const punch =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Realm) =>
    ask('POST', `/v1/memfiles/${memfile}/punch-hole`, { offset: page * PAGE, length: pages * PAGE })
const resume =
  (ret: number) =>
  async (ask: Ask, { vm }: Realm) => {
    const { items } = await ask('GET', `/v1/vms/${vm}/exits`)
    return ask('POST', `/v1/vms/${vm}/exits/${items[0]?.id ?? 'exit-0'}/resume`, { ret })
  }
const attest = (ask: Ask, { vm }: Realm) => ask('GET', `/v1/vms/${vm}/attestation?nonce=01`)
const explain =
  (page: number) =>
  (ask: Ask, { vm }: Realm) =>
    ask('GET', `/v1/vms/${vm}/pages/${at(page)}`)

/** What happens to each Realm; the service may die before any of it. */
const STORIES: Readonly<Record<string, { readonly options?: object; readonly story: Story }>> = {
  'NEW, with a RIM that grows': {
    options: { config: { hash: 'sha-512', rpv: '0102' }, vcpus: 2 },
    story: [update(0, true), update(1, false), update(2, true), explain(1), finish, access('read', 2), attest],
  },
  'an image, finished later': {
    options: { config: { s2sz: 33 } },
    story: [
      (ask, { vm }) =>
        ask('POST', `/v1/vms/${vm}/launch/image?finish=false&vmm=kvm-v12&ramSize=0x400000`, Buffer.alloc(9000, 7)),
      update(5, true),
      (ask, { vm }) => ask('POST', `/v1/vms/${vm}/launch/finish`, {}),
      access('read', 1),
      attest,
    ],
  },
  'pages that are RAM, EMPTY and DESTROYED': {
    story: [
      finish,
      access('write', 8),
      fallocate(8, 8),
      convert(10, 2, 'shared'),
      punch(9, 1),
      access('read', 9),
      access('read', 10),
      stateSet(8, 4, 'RAM', 0),
      stateSet(8, 4, 'RAM', 1),
      access('read', 9),
      access('read', 8),
    ],
  },
  'a request of the guest’s that waits, and its flag': {
    options: { conversion: 'manual', privacy: 'attributes' },
    story: [
      finish,
      (ask, { vm }) =>
        ask('PUT', `/v1/vms/${vm}/attributes`, { gpa: at(8), length: 8 * PAGE, attributes: ['private'] }),
      access('write', 9),
      punch(9, 1),
      stateSet(8, 4, 'RAM', 0),
      resume(0),
      stateSet(9, 3, 'RAM', 1),
      resume(-14),
      stateSet(9, 3, 'RAM', 1),
      resume(0),
      access('read', 9),
    ],
  },
  'measured by the guest, and a token half read': {
    story: [
      finish,
      fallocate(8, 2),
      call('RSI_MEASUREMENT_EXTEND', { index: 1, size: 32, value: '07'.repeat(64) }),
      call('RSI_ATTESTATION_TOKEN_INIT', { challenge: '01'.repeat(64) }),
      call('RSI_ATTESTATION_TOKEN_CONTINUE', { ipa: at(8), offset: 0, size: 1000 }),
      call('RSI_ATTESTATION_TOKEN_CONTINUE', { ipa: at(8), offset: 1000, size: 1000 }),
      call('RSI_ATTESTATION_TOKEN_CONTINUE', { ipa: at(8), offset: 2000, size: 1000 }),
      access('read', 8, { length: 2100 }),
    ],
  },
  'inside, then off': {
    options: { vcpus: 2 },
    story: [
      finish,
      call('RMI_REC_ENTER'),
      call('RSI_IPA_STATE_GET', { start: at(8), end: at(16) }),
      call('RMI_RTT_READ_ENTRY', { ipa: at(8), level: 3 }),
      call('PSCI_SYSTEM_OFF'),
      access('read', 8),
      punch(0, 1),
    ],
  },
}

const strip = ({ requestId: _, ...rest }: Body): Body => rest

const asker =
  (server: () => Server): Ask =>
  async (method, target, body) => {
    const answer = await server().send({ method, path: target, ...(body === undefined ? {} : { body }) })
    return { http: answer.status, ...strip(answer.body) }
  }

async function setUp(ask: Ask): Promise<Realm[]> {
  const realms: Realm[] = []
  for (const { options = {} } of Object.values(STORIES)) {
    const { id: vm } = await ask('POST', '/v1/vms', { technology: 'cca', ...options })
    const { id: memfile } = await ask('POST', '/v1/memfiles', { size: 64 * PAGE, technology: 'cca' })
    await ask('POST', `/v1/memfiles/${memfile}/bind`, { vm })
    await ask('PUT', `/v1/vms/${vm}/memslots/0`, { gpa: at(0), size: 64 * PAGE, memfile })
    realms.push({ vm, memfile })
  }
  return realms
}

/** Goes through all stories side by side, a step of each at a time; tells every answer, and what there is to see. */
async function play(ask: Ask, get: (url: string) => Promise<unknown>, between: (step: number) => Promise<void>) {
  const realms = await setUp(ask)
  const told: unknown[] = []
  const longest = Math.max(...Object.values(STORIES).map(({ story }) => story.length))
  for (let step = 0; step < longest; step++) {
    await between(step)
    for (const [index, [name, { story }]] of Object.entries(STORIES).entries()) {
      const realm = realms[index]
      const act = story[step]
      if (realm !== undefined && act !== undefined) told.push([name, step, await act(ask, realm)])
    }
  }
  const views = await readViews(get)
  for (const { vm, memfile } of realms) {
    told.push(await ask('DELETE', `/v1/vms/${vm}`), await ask('DELETE', `/v1/memfiles/${memfile}`))
  }
  return { told, views, end: await get('/v1/hosts/cca') }
}

test('Realms in every state go on after kill -9 as if nothing had been', { timeout: 90_000 }, async (t) => {
  const env = await warmCache(t)
  const start = () => startServer(t, { data: path.join(temporaryDirectory(t), 'data'), env })
  const calm = await start()
  const expected = await play(
    asker(() => calm),
    calm.get,
    async () => {},
  )
  assert.equal(await calm.stop(), 0)

  const data = path.join(temporaryDirectory(t), 'data')
  let mortal = await startServer(t, { data, env })
  const seen = await play(
    asker(() => mortal),
    (url) => mortal.get(url),
    async (step) => {
      if (step % 3 !== 2) return
      await mortal.kill()
      mortal = await startServer(t, { data, env })
    },
  )
  assert.equal(await mortal.stop(), 0)

  for (const [index, line] of expected.told.entries()) assert.deepEqual(seen.told[index], line)
  assert.deepEqual([...seen.views.keys()], [...expected.views.keys()])
  for (const [url, view] of expected.views)
    if (!url.startsWith('/v1/journal')) assert.deepEqual(seen.views.get(url), view, url)
  assert.deepEqual(seen.end, expected.end)
  const { use, keys } = expected.end as Body
  assert.deepEqual([use.private, use.shared, keys.inUse], [0, 0, 0])
  const odd = expected.told.filter((line) => (line as [string, number, Body])[2]?.http === 400)
  assert.deepEqual(odd, [], 'every request means something')
})
