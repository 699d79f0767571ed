import { mkdtempSync, rmSync } from 'node:fs'
import { tmpdir } from 'node:os'
import path from 'node:path'
import { type Gmemd, hex } from './client.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Memfile, PageStates, Runs, Technology, Vm } from './replies.ts'
import { endServer, startServer } from './server-process.ts'

const CLIENTS = 16
const PAGES_EACH = 32
const KILL_AFTER_ANSWERS = 400
type Visibility = 'private' | 'shared'

/** What one client knows of each of its pages: what was answered last, and what it asked for since. */
type Known = { answered: Visibility; asked: Visibility | undefined }

/** Conversions from many clients, SIGKILL in the middle of them, and a look at what is still there. */
export async function tellKill(technology: string): Promise<void> {
  const data = mkdtempSync(path.join(tmpdir(), 'gmemd-story-'))
  let server = await startServer(data)
  try {
    chapter(`A ${technology} guest converts pages as fast as it can`)
    const vm = await runningVm(server.gmemd, technology)
    const known = Array.from({ length: CLIENTS * PAGES_EACH }, (): Known => ({ answered: 'shared', asked: undefined }))
    const { answers, lastSeq } = await convertUntilKilled(server.gmemd, vm, known, async () => {
      await endServer(server.child, 'SIGKILL')
    })
    say(`SIGKILL after ${answers} answers, with requests of ${CLIENTS} clients under way`)

    chapter('The next gmemd finds what was answered')
    server = await startServer(data)
    const { gmemd } = server
    same('the VM runs', (await gmemd.get<Vm>(`/v1/vms/${vm}`)).state, 'running')
    const open = known.filter(({ asked }) => asked !== undefined).length
    const now = contradictions(known, await visibilities(gmemd, vm, known.length))
    check(
      `all ${known.length} pages are as answered, or as asked where no answer came (${open})`,
      now.length === 0,
      now,
    )
    const then = contradictions(known, await visibilities(gmemd, vm, known.length, lastSeq))
    check(`so they are in the page map as of ${lastSeq}, the last answer`, then.length === 0, then)
    const next = await convert(gmemd, vm, 0, 'private')
    check('and life goes on behind it', next.seq > lastSeq, next.seq)
  } finally {
    await endServer(server.child, 'SIGTERM')
    rmSync(data, { recursive: true, force: true })
  }
}

/** Pages that are neither what was answered last nor what was asked for since. */
const contradictions = (known: readonly Known[], seen: readonly Visibility[]) =>
  known.flatMap(({ answered, asked }, page) =>
    seen[page] === answered || seen[page] === asked ? [] : [{ page, answered, asked, seen: seen[page] }],
  )

async function runningVm(gmemd: Gmemd, technology: string): Promise<string> {
  const { properties } = await gmemd.get<Technology>(`/v1/technologies/${technology}`)
  const { id: vm, host } = await gmemd.post<Vm>('/v1/vms', { technology })
  const { id: memfile } = await gmemd.post<Memfile>('/v1/memfiles', { host, size: '16MiB' })
  await gmemd.post(`/v1/memfiles/${memfile}/bind`, { vm })
  await gmemd.put(`/v1/vms/${vm}/memslots/0`, { gpa: 0, size: '16MiB', memfile })
  if (properties.population === 'measured') await gmemd.post(`/v1/vms/${vm}/launch/finish`)
  return vm
}

const convert = (gmemd: Gmemd, vm: string, page: number, operation: Visibility): Promise<PageStates> =>
  gmemd.post(`/v1/vms/${vm}/page-states`, { entries: [{ gpa: hex(page * 4096), operation }] })

/** Every client has pages of its own and converts them in turn, until the server no longer answers. */
async function convertUntilKilled(gmemd: Gmemd, vm: string, known: Known[], kill: () => Promise<void>) {
  let answers = 0
  let lastSeq = 0
  let killed: Promise<void> | undefined
  const play = async (own: Known[], first: number): Promise<void> => {
    for (let turn = 0; ; turn++) {
      const page = turn % own.length
      const state = own[page]
      if (state === undefined) return
      const operation = state.answered === 'private' ? 'shared' : 'private'
      state.asked = operation
      try {
        const { seq } = await convert(gmemd, vm, first + page, operation)
        lastSeq = Math.max(lastSeq, seq)
      } catch (error) {
        if (killed === undefined) throw error
        return
      }
      state.answered = operation
      state.asked = undefined
      if (++answers === KILL_AFTER_ANSWERS) killed = kill()
    }
  }
  const clients = Array.from({ length: CLIENTS }, (_, index) => index * PAGES_EACH)
  await Promise.all(clients.map((first) => play(known.slice(first, first + PAGES_EACH), first)))
  await killed
  return { answers, lastSeq }
}

/** What each page is, from the runs of the page map. */
async function visibilities(gmemd: Gmemd, vm: string, pages: number, at?: number): Promise<Visibility[]> {
  const seen: Visibility[] = []
  let cursor = ''
  do {
    const moment = at === undefined ? '' : `&at=${at}`
    const range = `gpa=0x0&length=${hex(pages * 4096)}&limit=1000`
    const { items, nextCursor } = await gmemd.get<Runs>(`/v1/vms/${vm}/page-states?${range}${moment}${cursor}`)
    for (const { length, visibility } of items) seen.push(...new Array<Visibility>(length / 4096).fill(visibility))
    cursor = nextCursor === null ? '' : `&cursor=${encodeURIComponent(nextCursor)}`
  } while (cursor !== '')
  return seen
}
