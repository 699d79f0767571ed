import assert from 'node:assert/strict'
import { cpSync, existsSync } from 'node:fs'
import path from 'node:path'
import { type TestContext, test } from 'node:test'
import { Changes } from '../../src/domain/changes.ts'
import { recover } from '../../src/domain/recovery.ts'
import { backends } from '../../src/hw/registry.ts'
import { StoreDatabase } from '../../src/store/database.ts'
import {
  type Answer,
  type Server,
  StartError,
  startServer,
  strace,
  straceMissing,
  temporaryDirectory,
  warmCache,
} from '../support/process.ts'
import {
  type Moment,
  readRows,
  readViews,
  recordScript,
  type Script,
  type Step,
  stateOf,
} from '../support/process-script.ts'

// reliability.md G8, G9, G10: the real server is killed at its own system calls, again and again while a client works
// through a script. After every kill the disk must hold what a server that was never killed had after the same
// requests: all that were answered, and the one under way wholly or not at all.

const KILLS = Number(process.env.GMEMD_KILL_POINTS ?? 50)
/** A machine too busy for all of them in this time gets by with the least that says anything. */
const ENOUGH_MS = process.env.GMEMD_KILL_POINTS === undefined ? 75_000 : Number.POSITIVE_INFINITY
const LEAST = Math.min(KILLS, 15)
const skip = straceMissing()

type Point = { readonly call: string; readonly when: number; readonly stopAfter: number }

/** How many of ten kills are at which system call, and how far on after a start. Some only happen in an orderly stop. */
const CALLS = [
  { call: 'pwrite64', share: 6, most: 140, stopAfter: Number.POSITIVE_INFINITY },
  { call: 'fsync', share: 2, most: 9, stopAfter: Number.POSITIVE_INFINITY },
  { call: 'ftruncate', share: 1, most: 4, stopAfter: 3 },
  { call: 'unlink', share: 1, most: 3, stopAfter: 3 },
] as const

/** Kill points without end: each call's are spread evenly, by the golden ratio. */
function* points(): Generator<Point, never> {
  const order = CALLS.flatMap(({ share, ...rest }) => Array.from({ length: share }, () => rest))
  for (let n = 0; ; n++) {
    const one = order[(n * 7) % order.length]
    if (one === undefined) throw new Error('there are no points')
    const { call, most, stopAfter } = one
    yield { call, stopAfter, when: 1 + Math.floor(((n * 0.6180339887498949) % 1) * most) }
  }
}

type Lap = { readonly directory: string; done: number; kept: number; readonly kills: Set<string> }

test('killed at any write, sync, truncation or unlink, the service has lost nothing that it answered', {
  skip,
  timeout: 60_000 + KILLS * 4000,
}, async (t) => {
  const start = performance.now()
  const script = await recordScript(t, path.join(temporaryDirectory(t), 'recorded'))
  const env = await warmCache(t)
  const source = points()
  const tally: Record<string, number> = {}
  let killed = 0
  const goesOn = (): boolean => killed < LEAST || (killed < KILLS && performance.now() - start < ENOUGH_MS)
  const worker = async (): Promise<void> => {
    while (goesOn()) {
      const lap: Lap = { directory: path.join(temporaryDirectory(t), 'data'), done: 0, kept: 0, kills: new Set() }
      while (lap.done < script.steps.length && goesOn()) {
        const point = source.next().value
        const what = `${point.call} ${point.when} after ${lap.done} steps`
        if (!(await runUntilKilled(t, script, lap, point, env).catch(annotate(what)))) continue
        killed += 1
        tally[point.call] = (tally[point.call] ?? 0) + 1
        await inspect(t, script, lap).catch(annotate(`killed at ${what}`))
      }
    }
  }
  await Promise.all([worker(), worker()])
  t.diagnostic(`${killed} kills: ${JSON.stringify(tally)}`)
})

const annotate =
  (what: string) =>
  (error: unknown): never => {
    throw new Error(`${what}: ${error instanceof Error ? error.message : error}`, { cause: error })
  }

/** Goes on with the script from where the lap stands. False when the point was never reached. */
async function runUntilKilled(
  t: TestContext,
  script: Script,
  lap: Lap,
  { call, when, stopAfter }: Point,
  env: Readonly<Record<string, string>>,
): Promise<boolean> {
  const wrapper = strace('-e', `trace=${call}`, '-e', `inject=${call}:signal=KILL:when=${when}`)
  let server: Server
  try {
    server = await startServer(t, { data: lap.directory, env, wrapper })
  } catch (error) {
    if (error instanceof StartError && error.code === 'SIGKILL') return true
    throw error
  }
  try {
    await checkViews(server, momentOf(script, lap.kept))
    await repeatLast(server, script, lap)
    await goOn(server, script, lap, stopAfter)
  } catch (error) {
    if (error instanceof assert.AssertionError) throw error
    // The connection died: so must the process have, of nothing but the kill.
    assert.equal(await server.exited, 'SIGKILL', `${error} ${server.stderr()}`)
    return true
  }
  const code = await server.stop()
  if (code === 'SIGKILL') return true
  assert.equal(code, 0, server.stderr())
  return false
}

async function goOn(server: Server, script: Script, lap: Lap, most: number): Promise<void> {
  const end = Math.min(script.steps.length, lap.done + most)
  while (lap.done < end) {
    const step = stepOf(script, lap.done)
    const answer = await server.send(step.call)
    assertAnswer(answer, step)
    const effect = step.status < 300 || 'progress' in step.body
    if (effect) assert.equal(answer.headers['idempotency-replayed'] === 'true', lap.kept > lap.done, step.call.path)
    lap.done += 1
    lap.kept = lap.done
  }
}

/** A client that never saw the last answer asks again, and gets it, without a further effect. */
async function repeatLast(server: Server, script: Script, lap: Lap): Promise<void> {
  if (lap.done === 0) return
  const step = stepOf(script, lap.done - 1)
  // What was refused before may be granted once the next step is done.
  if (step.status >= 400 && lap.kept > lap.done) return
  assertAnswer(await server.send(step.call), step)
}

function assertAnswer({ status, body }: Answer, step: Step): void {
  const what = `${step.call.method} ${step.call.path}`
  assert.equal(status, step.status, `${what}: ${JSON.stringify(body)}`)
  assert.deepEqual({ ...body, requestId: null }, { ...step.body, requestId: null }, what)
}

async function checkViews(server: Server, { views }: Moment): Promise<void> {
  const seen = await readViews(server.get)
  assert.deepEqual([...seen.keys()], [...views.keys()])
  for (const [url, view] of views) assert.deepEqual(seen.get(url), view, url)
}

/** Reads what is on disk, from a copy: the history up to the last answer, or one step more. */
async function inspect(t: TestContext, script: Script, lap: Lap): Promise<void> {
  const copy = path.join(temporaryDirectory(t), 'copy')
  if (existsSync(lap.directory)) cpSync(lap.directory, copy, { recursive: true })
  const store = new StoreDatabase({ directory: copy })
  const stored = store.open()
  const hosts = recover(backends, stored, new Changes())
  store.close()
  const first = momentOf(script, 0)
  // Killed at its first start, it has no steps to keep, and goes on making what is missing.
  if (lap.done === 0 && stored.lastSeq < first.lastSeq) return
  const next = stepOf(script, lap.done)
  const after = momentOf(script, Math.min(lap.done + 1, script.steps.length))
  const kept = stored.lastSeq === after.lastSeq && after.lastSeq > momentOf(script, lap.done).lastSeq
  lap.kept = lap.done + (kept ? 1 : 0)
  const expected = momentOf(script, lap.kept)
  assert.equal(stored.lastSeq, expected.lastSeq, `${lap.done} answered; next ${next?.call.path}`)
  assertSameText(stateOf(hosts), expected.state, 'state')
  assertSameText(readRows(copy), expected.rows, 'rows')
}

/** Texts of many kilobytes: a failure shows only where they part. */
function assertSameText(actual: string, expected: string, what: string): void {
  if (actual === expected) return
  let at = 0
  while (actual[at] === expected[at]) at++
  const around = (text: string): string => text.slice(Math.max(0, at - 200), at + 200)
  assert.fail(`${what} differs at ${at}:\n  is       …${around(actual)}…\n  expected …${around(expected)}…`)
}

function momentOf({ moments }: Script, index: number): Moment {
  const moment = moments[index]
  if (moment === undefined) throw new Error(`there is no moment ${index}`)
  return moment
}

function stepOf({ steps }: Script, index: number): Step {
  const step = steps[Math.min(index, steps.length - 1)]
  if (step === undefined) throw new Error('the script is empty')
  return step
}
