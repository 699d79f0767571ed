import assert from 'node:assert/strict'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { setTimeout as sleep } from 'node:timers/promises'
import { ovmfImage } from '../support/ovmf-image.ts'
import { type Answer, type Call, type Server, startServer, temporaryDirectory, warmCache } from '../support/process.ts'
import {
  assertExpected,
  ModelVm,
  PAGES,
  Random,
  randomCommand,
  readPages,
  type VmKind,
  WINDOW,
} from '../support/process-model.ts'

// reliability.md G8, G10, by chance instead of by system call: a client drives the service beside a model that keeps
// a plain list of pages, and the service is killed under it at random moments. What got no answer is asked again with
// its Idempotency-Key; from then on service and model must agree on every page.

const KILLS = Number(process.env.GMEMD_RANDOM_KILLS ?? 6)
const SEED = Number(process.env.GMEMD_RANDOM_SEED ?? Date.now() % 1_000_000)
const MAX_LIFE_MS = 700
const READERS = 16

const KINDS: readonly VmKind[] = [
  { technology: 'sw-protected', privacy: 'populated' },
  { technology: 'sw-protected', privacy: 'attributes' },
  { technology: 'sev-snp', privacy: 'populated' },
  { technology: 'tdx', privacy: 'populated' },
  { technology: 'tdx', privacy: 'attributes' },
  { technology: 'cca', privacy: 'populated' },
  { technology: 'cca', privacy: 'attributes' },
]

/** A service that is killed and started again. */
class Mortal {
  readonly #start: () => Promise<Server>
  server: Server
  kills = 0

  private constructor(start: () => Promise<Server>, server: Server) {
    this.#start = start
    this.server = server
  }

  static async open(start: () => Promise<Server>): Promise<Mortal> {
    return new Mortal(start, await start())
  }

  /** Resolves when the service has been killed. */
  async killAfter(milliseconds: number): Promise<void> {
    await sleep(milliseconds)
    await this.server.kill()
  }

  async restart(): Promise<void> {
    this.kills += 1
    this.server = await this.#start()
  }
}

/** An answer, or undefined when the connection died and nobody knows. */
const ask = (server: Server, call: Call): Promise<Answer | undefined> => server.send(call).catch(() => undefined)

async function setUp(server: Server): Promise<ModelVm[]> {
  const must = async (call: Call, status: number): Promise<Answer['body']> => {
    const answer = await server.send(call)
    assert.equal(answer.status, status, `${call.path}: ${answer.text}`)
    return answer.body
  }
  const vms: ModelVm[] = []
  for (const kind of KINDS) {
    // A TD that meets a page it has not accepted lives on by #VE.
    const body = kind.technology === 'tdx' ? { ...kind, config: { attributes: '0x0' } } : kind
    const { id } = await must({ method: 'POST', path: '/v1/vms', body }, 201)
    if (kind.technology === 'sev-snp') {
      await must({ method: 'POST', path: `/v1/vms/${id}/launch/image`, body: ovmfImage() }, 200)
    }
    if (kind.technology === 'tdx') {
      await must({ method: 'POST', path: `/v1/vms/${id}/launch/finish`, body: {} }, 200)
    }
    if (kind.technology === 'cca') {
      const ripas = [{ gpa: `0x${WINDOW.toString(16)}`, length: PAGES * 4096 }]
      await must({ method: 'POST', path: `/v1/vms/${id}/launch/finish`, body: { ripas } }, 200)
    }
    const file = { size: PAGES * 4096, technology: kind.technology }
    const { id: memfile } = await must({ method: 'POST', path: '/v1/memfiles', body: file }, 201)
    await must({ method: 'POST', path: `/v1/memfiles/${memfile}/bind`, body: { vm: id } }, 200)
    const vm = new ModelVm(id, memfile, kind)
    for (const slot of [0, 1] as const) await must(vm.call({ do: 'slot', slot }), 201)
    vms.push(vm)
  }
  return vms
}

/** One command at a time, until the service dies; the one under way is finished after the restart. */
class Driver {
  readonly #vms: readonly ModelVm[]
  readonly #random: Random
  #sent = 0
  #unknown: { readonly vm: ModelVm; readonly command: Parameters<ModelVm['call']>[0]; readonly call: Call } | undefined

  constructor(vms: readonly ModelVm[], random: Random) {
    this.#vms = vms
    this.#random = random
  }

  get sent(): number {
    return this.#sent
  }

  async drive(server: Server): Promise<void> {
    for (;;) {
      const vm = this.#random.pick(this.#vms)
      const command = randomCommand(this.#random, vm)
      const headers = { 'idempotency-key': `command-${this.#sent++}` }
      this.#unknown = { vm, command, call: { ...vm.call(command), headers } }
      if (!(await this.finish(server))) return
    }
  }

  /** Sends the command that has no answer yet. False when the service died over it. */
  async finish(server: Server): Promise<boolean> {
    if (this.#unknown === undefined) return true
    const { vm, command, call } = this.#unknown
    const answer = await ask(server, call)
    if (answer === undefined) return false
    this.#unknown = undefined
    assertExpected(`${vm.id} ${JSON.stringify({ ...command, bytes: undefined })}`, answer, vm.apply(command))
    return true
  }

  async compare(server: Server): Promise<void> {
    for (const vm of this.#vms) {
      assert.deepEqual(await readPages(server.get, vm.id), vm.pages(), `pages of ${vm.id}`)
      const commands = vm.reads()
      const readers = Array.from({ length: READERS }, async () => {
        for (let command = commands.shift(); command !== undefined; command = commands.shift()) {
          const answer = await server.send(vm.call(command))
          assertExpected(`${vm.id} ${JSON.stringify(command)}`, answer, vm.apply(command))
        }
      })
      await Promise.all(readers)
    }
  }
}

/** Clients who only add, all at once, so that groups of many commands are under way when the service dies. */
class Adders {
  #count = 0
  readonly #made = new Map<string, string>()
  readonly #unknown = new Set<string>()

  get made(): number {
    return this.#made.size
  }

  drive = async (server: Server): Promise<void> => {
    for (;;) {
      const name = `file-${this.#count++}`
      this.#unknown.add(name)
      if (!(await this.#make(server, name))) return
    }
  }

  async #make(server: Server, name: string): Promise<boolean> {
    const headers = { 'idempotency-key': name }
    const body = { name, size: 4096, technology: 'sw-protected' }
    const answer = await ask(server, { method: 'POST', path: '/v1/memfiles', body, headers })
    if (answer === undefined) return false
    assert.equal(answer.status, 201, answer.text)
    this.#unknown.delete(name)
    this.#made.set(name, answer.body.id)
    return true
  }

  async compare(server: Server): Promise<void> {
    for (const name of this.#unknown) assert.equal(await this.#make(server, name), true)
    const found = new Map<string, string>()
    for (let cursor = ''; ; ) {
      const page = await server.get(`/v1/memfiles?limit=1000${cursor}`)
      for (const { name, id } of page.items) {
        if (!String(name).startsWith('file-')) continue
        assert.ok(!found.has(name), `${name} was made twice`)
        found.set(name, id)
      }
      if (page.nextCursor === null) break
      cursor = `&cursor=${page.nextCursor}`
    }
    for (const [name, id] of this.#made) assert.equal(found.get(name), id, `${name} is lost`)
    for (const name of found.keys()) assert.ok(this.#made.has(name), `${name} is nobody's`)
  }
}

async function checkJournal(server: Server): Promise<number> {
  let last = 0
  for (;;) {
    const { items } = await server.get(`/v1/journal?limit=1000&after=${last}`)
    if (items.length === 0) return last
    for (const { seq } of items) assert.equal(seq, ++last, 'the journal has a gap')
  }
}

test(`killed at random moments, the service agrees with a list of pages (seed ${SEED})`, {
  timeout: 60_000 + KILLS * 10_000,
}, async (t: TestContext) => {
  t.diagnostic(`seed ${SEED}; GMEMD_RANDOM_SEED repeats it, GMEMD_RANDOM_KILLS makes it longer`)
  const random = new Random(SEED)
  const env = await warmCache(t)
  const data = path.join(temporaryDirectory(t), 'data')
  const mortal = await Mortal.open(() => startServer(t, { data, env }))
  const vms = await setUp(mortal.server)
  const driver = new Driver(vms, random)
  const adders = new Adders()
  while (mortal.kills < KILLS) {
    const { server } = mortal
    const death = mortal.killAfter(50 + random.below(MAX_LIFE_MS))
    await Promise.all([death, driver.drive(server), adders.drive(server), adders.drive(server), adders.drive(server)])
    await mortal.restart()
    assert.equal(await driver.finish(mortal.server), true)
    await driver.compare(mortal.server)
    await adders.compare(mortal.server)
    await checkJournal(mortal.server)
  }
  const last = await checkJournal(mortal.server)
  assert.equal(await mortal.server.stop(), 0)
  await mortal.restart()
  await driver.compare(mortal.server)
  assert.ok((await checkJournal(mortal.server)) >= last)
  assert.equal(await mortal.server.stop(), 0)
  t.diagnostic(`${KILLS} kills, ${driver.sent} commands beside ${adders.made} memfiles`)
})
