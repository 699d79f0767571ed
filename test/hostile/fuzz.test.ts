import assert from 'node:assert/strict'
import { test } from 'node:test'
import fc from 'fast-check'
import { makeUpRequest, type Operation, operationsOf, type Pools } from '../support/grammar.ts'
import {
  assertReplays,
  attack,
  launchImage,
  makeMachine,
  makeWorld,
  poolsOf,
  type World,
} from '../support/grammar-attack.ts'
import { ovmfImage } from '../support/ovmf-image.ts'
import { Random } from '../support/process-model.ts'
import { type Service, service } from '../support/service.ts'

// reliability.md G36: requests out of the documented grammar, in any order, with ids that exist. Whatever they do: no
// fault of ours, every reply as documented (the strict replies of the service check that), nothing journaled for a
// refusal, and a journal that replays to the same state.

const RUNS = Number(process.env.GMEMD_FUZZ_RUNS ?? 16)
const RUNS_OF_A_SERVICE = 16
const SEED = process.env.GMEMD_FUZZ_SEED
const REQUESTS = 240

/** Requests that change a lot are made more often than those that only look, or that end it all. */
const WEIGHTS: Readonly<Record<string, number>> = {
  makeCall: 16,
  changePageStates: 12,
  accessAsGuest: 12,
  accessAsHost: 8,
  setMemslot: 8,
  fallocateMemfile: 8,
  punchHole: 8,
  setAttributes: 6,
  resumeExit: 6,
  listPageStates: 5,
  explainPage: 5,
  getAccounting: 4,
  updateLaunch: 4,
  deleteVm: 1,
  deleteMemfile: 1,
  createHost: 1,
  createVm: 1,
  getHealth: 1,
  getReadiness: 1,
  listHosts: 1,
  getOpenApi: 0,
  getMetrics: 0,
}
const USUAL_WEIGHT = 2

/** One number a request, so that fast-check can leave out those that do not matter. */
const plans = fc.array(fc.noBias(fc.nat(2 ** 31 - 1)), { minLength: REQUESTS, maxLength: REQUESTS, size: 'max' })

type Body = Readonly<Record<string, unknown>>

/** Rules that a schema does not tell, kept most of the time. */
function mend({ id, body }: { readonly id: string; readonly body: unknown }): unknown {
  const { data, length, hpa, gpa, refuse, ...rest } = body as Body
  const at = hpa === undefined || id !== 'accessAsHost' ? { gpa: gpa ?? '0x1000' } : { hpa }
  if (id === 'accessAsGuest' || id === 'accessAsHost') {
    const moved = rest.kind === 'write' ? { data: data || 'AQID' } : { length: length ?? 8 }
    return { ...rest, ...at, ...moved }
  }
  if (id === 'updateLaunch') return { ...rest, gpa, length: 4096 }
  if (id === 'resumeExit') return {}
  return body
}

let worlds = 0
const MENDED = new Set(['accessAsGuest', 'accessAsHost', 'updateLaunch', 'resumeExit'])

/** What a run has made, by the kind of its id. */
type Made = Readonly<Record<string, unknown[]>>

/** The VMs that an operation can do something with. */
function fittingVms(id: string, { ids }: World, made: Made): Pools {
  const [plain, attributes, manual, launched, launching] = ids.vm
  const vms: Readonly<Record<string, readonly unknown[]>> = {
    makeCall: [launched, launching, ...(made.vm ?? [])],
    updateLaunch: [launching],
    setAttributes: [attributes],
    resumeExit: [manual],
    accessAsGuest: [plain, attributes, launched, ...(made.vm ?? [])],
  }
  const vm = vms[id]
  return vm === undefined ? {} : { vm }
}

/** A host that died is put anew, with a guest on it. */
async function revive(service: Service, host: string, made: Made): Promise<void> {
  await service.post(`/v1/hosts/${host}/reboot`)
  if (!host.startsWith('snp')) return
  const { vm, memfile } = await makeMachine(service, { technology: 'sev-snp', host })
  await launchImage(service, vm)
  made.vm?.push(vm, vm, vm)
  made.memfile?.push(memfile)
}

async function play(service: Service, operations: readonly Operation[], plan: readonly number[]): Promise<number> {
  const world = await makeWorld(service, String(worlds++))
  const soft = world.host.replace('snp', 'soft')
  const pools: Pools = { ...poolsOf(world), host: [world.host, soft], technology: ['sev-snp', 'sw-protected'] }
  const made: Made = { vm: [], memfile: [], mapping: [], pin: [], exit: [] }
  let accepted = 0
  for (const seed of plan) {
    const random = new Random(seed)
    const operation = random.pick(operations)
    const known = Object.fromEntries(
      Object.entries(made).map(([name, ids]) => [name, [...(pools[name] ?? []), ...ids]]),
    )
    const fitting = random.chance(80) ? fittingVms(operation.id, world, made) : {}
    const { method, url, body } = makeUpRequest(operation, random, { ...pools, ...known, ...fitting })
    const payload = MENDED.has(operation.id) && random.chance(90) ? mend({ id: operation.id, body }) : body
    const bytes = { payload: ovmfImage(), headers: { 'content-type': 'application/octet-stream' } }
    const own = payload === undefined ? {} : { payload }
    const reply = await attack(service, { method, url, ...(operation.takesBytes ? bytes : own) })
    if (reply.status >= 300 || method === 'GET') continue
    accepted += 1
    const kind = /^([a-z]+)-\d/.exec(String(reply.body?.id))?.[1]
    if (kind !== undefined && method === 'POST') made[kind]?.push(reply.body.id)
    if (reply.body?.waiting?.id !== undefined) made.exit?.push(reply.body.waiting.id)
    if (reply.body?.hostCrashed === undefined) continue
    for (const [name, { state }] of service.engine.hosts) {
      if (state.crashed !== null) await revive(service, name, made)
    }
  }
  return accepted
}

const seeded = SEED === undefined ? {} : { seed: Number(SEED) }

// A service of its own for so many runs: their journal is replayed after each of them.
for (let first = 0; first < RUNS; first += RUNS_OF_A_SERVICE) {
  const runs = Math.min(RUNS_OF_A_SERVICE, RUNS - first)
  test(`${runs * REQUESTS} requests out of the grammar`, async (t) => {
    const all = await service(t)
    const operations = operationsOf(all.app).flatMap((one) =>
      Array.from({ length: WEIGHTS[one.id] ?? USUAL_WEIGHT }, () => one),
    )
    let accepted = 0
    let requests = 0
    await fc.assert(
      fc.asyncProperty(plans, async (plan) => {
        accepted += await play(all, operations, plan)
        requests += plan.length
        assertReplays(all)
      }),
      { numRuns: runs, endOnFailure: true, ...seeded },
    )
    t.diagnostic(`${accepted} of ${requests} were accepted`)
    assert.ok(accepted > requests / 10)
  })
}
