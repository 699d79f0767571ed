import assert from 'node:assert/strict'
import path from 'node:path'
import type { TestContext } from 'node:test'
import { type Answer, type Server, startServer, temporaryDirectory, warmCache } from './process.ts'
import { readViews } from './process-script.ts'

export type Body = Answer['body']
export type Ask = (method: 'GET' | 'POST' | 'PUT' | 'DELETE', path: string, body?: unknown) => Promise<Body>
/** A VM with 64 pages of memory. */
export type Guest = { readonly vm: string; readonly memfile: string }
export type Story = readonly ((ask: Ask, guest: Guest) => Promise<unknown>)[]
export type Plays = {
  readonly technology: string
  /** Where each guest's memory begins. */
  readonly gpa: string
  /** By name; `options` are the VM's own. */
  readonly stories: Readonly<Record<string, { readonly options?: object; readonly story: Story }>>
}

const PAGE = 4096

const strip = ({ requestId: _, ...rest }: Body): Body => rest

const asker =
  (server: () => Server): Ask =>
  async (method, target, body) => {
    const answer = await server().send({ method, path: target, ...(body === undefined ? {} : { body }) })
    return { http: answer.status, ...strip(answer.body) }
  }

async function setUp(ask: Ask, { technology, gpa, stories }: Plays): Promise<Guest[]> {
  const guests: Guest[] = []
  for (const { options = {} } of Object.values(stories)) {
    const { id: vm } = await ask('POST', '/v1/vms', { technology, ...options })
    const { id: memfile } = await ask('POST', '/v1/memfiles', { size: 64 * PAGE, technology })
    await ask('POST', `/v1/memfiles/${memfile}/bind`, { vm })
    await ask('PUT', `/v1/vms/${vm}/memslots/0`, { gpa, size: 64 * PAGE, memfile })
    guests.push({ vm, memfile })
  }
  return guests
}

/** Goes through all stories side by side, a step of each at a time; tells every answer, and what there is to see. */
async function play(
  plays: Plays,
  ask: Ask,
  get: (url: string) => Promise<unknown>,
  between: (step: number) => Promise<void>,
) {
  const guests = await setUp(ask, plays)
  const told: unknown[] = []
  const longest = Math.max(...Object.values(plays.stories).map(({ story }) => story.length))
  for (let step = 0; step < longest; step++) {
    await between(step)
    for (const [index, [name, { story }]] of Object.entries(plays.stories).entries()) {
      const guest = guests[index]
      const act = story[step]
      if (guest !== undefined && act !== undefined) told.push([name, step, await act(ask, guest)])
    }
  }
  const views = await readViews(get)
  for (const { vm, memfile } of guests) {
    told.push(await ask('DELETE', `/v1/vms/${vm}`), await ask('DELETE', `/v1/memfiles/${memfile}`))
  }
  return { told, views, end: await get(`/v1/hosts/${plays.technology}`) }
}

/** Plays the stories to a service that is killed again and again, and to one that is not: they must answer the same. */
export async function assertSurvivesKills(t: TestContext, plays: Plays): Promise<void> {
  const env = await warmCache(t)
  const start = () => startServer(t, { data: path.join(temporaryDirectory(t), 'data'), env })
  const calm = await start()
  const expected = await play(
    plays,
    asker(() => calm),
    calm.get,
    async () => {},
  )
  assert.equal(await calm.stop(), 0)

  const data = path.join(temporaryDirectory(t), 'data')
  let mortal = await startServer(t, { data, env })
  const seen = await play(
    plays,
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
}
