import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { type Answer, type Server, startServer, temporaryDirectory, warmCache } from '../../../support/process.ts'
import { readViews } from '../../../support/process-script.ts'
import { tdvfImage } from '../measurement/tdvf-image.ts'

// reliability.md G8 for TDX: TDs in every state there is live through kill -9, and go on as those would that were never
// killed. The same requests go to a service that is killed between any two of them and to one that is not.

const GPA = '0x40000000'
const PAGE = 4096
const at = (page: number): string => `0x${(0x40000000 + page * PAGE).toString(16)}`

type Body = Answer['body']
type Ask = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown) => Promise<Body>

type Td = { readonly vm: string; readonly memfile: string }
type Story = readonly ((ask: Ask, td: Td) => Promise<unknown>)[]

const call =
  (name: string, args: object = {}) =>
  (ask: Ask, { vm }: Td) =>
    ask('POST', `/v1/vms/${vm}/calls`, { call: name, ...args })
const access =
  (kind: string, page: number, more: object = {}) =>
  (ask: Ask, { vm }: Td) =>
    ask('POST', `/v1/vms/${vm}/vcpus/0/accesses`, {
      gpa: at(page),
      kind,
      private: true,
      ...(kind === 'write' ? { data: 'c2VjcmV0' } : { length: 6 }),
      ...more,
    })
const accept =
  (page: number, pages: number) =>
  (ask: Ask, { vm }: Td) =>
    ask('POST', `/v1/vms/${vm}/page-states`, {
      accept: true,
      entries: [{ gpa: at(page), pages, operation: 'private' }],
    })
const update =
  (page: number, measure: boolean) =>
  (ask: Ask, { vm }: Td) =>
    ask('POST', `/v1/vms/${vm}/launch/update`, {
      gpa: at(page),
      data: Buffer.alloc(PAGE, page + 1).toString('base64'),
      measure,
    })
const finish = (ask: Ask, { vm }: Td) => ask('POST', `/v1/vms/${vm}/launch/finish`, {})
const fallocate =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Td) =>
    ask('POST', `/v1/memfiles/${memfile}/fallocate`, { offset: page * PAGE, length: pages * PAGE })
const punch =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Td) =>
    ask('POST', `/v1/memfiles/${memfile}/punch-hole`, { offset: page * PAGE, length: pages * PAGE })
const hostWrite =
  (page: number) =>
  async (ask: Ask, { vm }: Td) => {
    const { hpa } = await ask('GET', `/v1/vms/${vm}/pages/${at(page)}`)
    return ask('POST', `/v1/vms/${vm}/host-accesses`, { as: 'kernel', hpa, kind: 'write', data: 'AA==' })
  }
const resume =
  (ret: number) =>
  async (ask: Ask, { vm }: Td) => {
    const { items } = await ask('GET', `/v1/vms/${vm}/exits`)
    return ask('POST', `/v1/vms/${vm}/exits/${items[0]?.id ?? 'exit-0'}/resume`, { ret })
  }
const attest = (ask: Ask, { vm }: Td) => ask('GET', `/v1/vms/${vm}/attestation?nonce=01`)
const describeTd = (ask: Ask, { vm }: Td) => ask('GET', `/v1/vms/${vm}/pages/${GPA}`)

const VE = { attributes: '0x0' }

/** What happens to each TD; the service may die before any of it. */
const STORIES: Readonly<Record<string, { readonly options?: object; readonly story: Story }>> = {
  'launching, with a running MRTD': {
    story: [
      update(0, true),
      update(1, false),
      update(2, true),
      call('TDH.MR.EXTEND', { gpa: at(1) }),
      finish,
      access('read', 2),
      attest,
    ],
  },
  'an image, finished later': {
    story: [
      (ask, { vm }) => ask('POST', `/v1/vms/${vm}/launch/image?finish=false&order=two-pass-image`, tdvfImage()),
      update(5, true),
      finish,
      attest,
    ],
  },
  'running, with accepted, pending and removed pages': {
    options: { config: VE },
    story: [
      finish,
      fallocate(0, 6),
      accept(0, 2),
      access('write', 1),
      access('read', 4),
      access('read', 4),
      punch(1, 1),
      access('read', 1),
      call('TDG.VP.VEINFO.GET'),
      accept(1, 1),
      access('read', 1),
      attest,
    ],
  },
  'blocked, tracked and inside by raw calls': {
    options: { vcpus: 2, config: VE },
    story: [
      finish,
      accept(0, 4),
      call('TDH.VP.ENTER'),
      call('TDH.MEM.RANGE.BLOCK', { gpa: at(0) }),
      call('TDH.MEM.TRACK'),
      call('TDH.MEM.TRACK'),
      call('TDH.MEM.PAGE.REMOVE', { gpa: at(0) }),
      call('INTERRUPT'),
      call('TDH.MEM.RANGE.BLOCK', { gpa: GPA, level: 1 }),
      access('read', 1),
      call('TDH.MEM.TRACK'),
      call('TDH.MEM.RANGE.UNBLOCK', { gpa: GPA, level: 1 }),
      access('read', 1),
      describeTd,
    ],
  },
  'poisoned, then fatal': {
    story: [
      finish,
      accept(0, 2),
      access('write', 0),
      hostWrite(0),
      access('write', 1),
      access('read', 0),
      access('read', 1),
      call('TDH.VP.ENTER'),
      call('TDH.MEM.TRACK'),
      punch(0, 1),
    ],
  },
  'given up by KVM': {
    story: [finish, fallocate(0, 1), access('read', 0), access('read', 0), describeTd],
  },
  'an exit that waits, chunk after chunk': {
    options: { conversion: 'manual', privacy: 'attributes' },
    story: [
      finish,
      call('TDG.VP.VMCALL', { r11: '0x10001', r12: GPA, r13: '0x202000' }),
      (ask, { vm }) => ask('PUT', `/v1/vms/${vm}/attributes`, { gpa: GPA, length: 64 * PAGE, attributes: ['private'] }),
      resume(0),
      resume(-11),
      accept(0, 4),
      resume(0),
      access('read', 3),
    ],
  },
  'half torn down': {
    story: [
      finish,
      accept(0, 2),
      call('TDH.VP.FLUSH'),
      call('TDH.MNG.VPFLUSHDONE'),
      call('TDH.PHYMEM.CACHE.WB'),
      access('read', 0),
      call('TDH.MNG.KEY.FREEID'),
      call('TDH.PHYMEM.CACHE.WB', { package: 1 }),
      call('TDH.MNG.KEY.FREEID'),
      describeTd,
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

async function setUp(ask: Ask): Promise<Td[]> {
  const tds: Td[] = []
  for (const { options = {} } of Object.values(STORIES)) {
    const { id: vm } = await ask('POST', '/v1/vms', { technology: 'tdx', ...options })
    const { id: memfile } = await ask('POST', '/v1/memfiles', { size: 64 * PAGE, technology: 'tdx' })
    await ask('POST', `/v1/memfiles/${memfile}/bind`, { vm })
    await ask('PUT', `/v1/vms/${vm}/memslots/0`, { gpa: GPA, size: 64 * PAGE, memfile })
    tds.push({ vm, memfile })
  }
  return tds
}

/** Goes through all stories side by side, a step of each at a time; tells every answer, and what there is to see. */
async function play(ask: Ask, get: (url: string) => Promise<unknown>, between: (step: number) => Promise<void>) {
  const tds = await setUp(ask)
  const told: unknown[] = []
  const longest = Math.max(...Object.values(STORIES).map(({ story }) => story.length))
  for (let step = 0; step < longest; step++) {
    await between(step)
    for (const [index, [name, { story }]] of Object.entries(STORIES).entries()) {
      const td = tds[index]
      const act = story[step]
      if (td !== undefined && act !== undefined) told.push([name, step, await act(ask, td)])
    }
  }
  const views = await readViews(get)
  for (const { vm, memfile } of tds) {
    told.push(await ask('DELETE', `/v1/vms/${vm}`), await ask('DELETE', `/v1/memfiles/${memfile}`))
  }
  return { told, views, end: await get('/v1/hosts/tdx') }
}

test('TDs in every state go on after kill -9 as if nothing had been', { timeout: 90_000 }, async (t) => {
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
