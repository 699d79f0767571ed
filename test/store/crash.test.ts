import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { once } from 'node:events'
import { readFileSync } from 'node:fs'
import path from 'node:path'
import { before, test } from 'node:test'
import { StorageError } from '../../src/domain/journal.ts'
import { StoreDatabase } from '../../src/store/database.ts'
import { dump, ENTRIES, program, sampleGroup, straceMissing, temporaryDirectory } from './support.ts'

const GROUPS = 12
const KILLS = { pwrite64: 32, fsync: 12, unlink: 4, ftruncate: 2 }
const skip = straceMissing()

/** The dump after each number of groups; the first is of no groups. */
const dumps: string[] = []

before((t) => {
  const directory = temporaryDirectory(t as Parameters<typeof temporaryDirectory>[0])
  const store = new StoreDatabase({ directory })
  store.open()
  for (let n = 0; n <= GROUPS; n++) {
    dumps.push(dump(directory))
    store.commit(sampleGroup(n))
  }
  store.close()
})

/** Runs the writer under strace, which meddles with its system calls as `inject` says. Returns the lines it printed. */
async function runTraced(directory: string, options: readonly string[], log = '/dev/null'): Promise<string[]> {
  const traced = ['-f', '-qq', '-o', log, ...options]
  const child = spawn('strace', [...traced, process.execPath, program('write.ts'), directory, String(GROUPS)], {
    stdio: ['ignore', 'pipe', 'inherit'],
  })
  let output = ''
  child.stdout.setEncoding('utf8').on('data', (text: string) => {
    output += text
  })
  await once(child, 'close')
  return output.split('\n').filter((line) => line !== '')
}

const commitsDone = (lines: readonly string[]): number => lines.filter((line) => /^commit .* done$/.test(line)).length

/** Opens what is left, checks that it is a prefix with all that was acknowledged, and that it can be written on. */
function recover(directory: string, acknowledged: number, what: string): void {
  const store = new StoreDatabase({ directory })
  let groups: number
  try {
    groups = store.open().lastSeq / ENTRIES
  } catch (error) {
    throw new assert.AssertionError({ message: `${what}: ${error instanceof StorageError ? error.message : error}` })
  }
  store.close()
  assert.ok(groups >= acknowledged, `${what}: ${acknowledged} acknowledged, ${groups} there`)
  assert.ok(groups <= acknowledged + 1, `${what}: ${acknowledged} acknowledged, ${groups} there`)
  assert.equal(dump(directory), dumps[groups], what)
  store.open()
  if (groups < GROUPS) store.commit(sampleGroup(groups))
  store.close()
  assert.equal(dump(directory), dumps[Math.min(groups + 1, GROUPS)], what)
}

/** How often the writer makes each system call when nothing stops it. */
async function countCalls(directory: string): Promise<Map<string, number>> {
  const log = path.join(directory, 'calls')
  await runTraced(path.join(directory, 'counted'), ['-e', `trace=${Object.keys(KILLS).join(',')}`], log)
  const counts = new Map<string, number>()
  for (const [, name = ''] of readFileSync(log, 'utf8').matchAll(/^\d+ +(\w+)\(/gm)) {
    counts.set(name, (counts.get(name) ?? 0) + 1)
  }
  return counts
}

test('killed at any write, sync, truncation or unlink: nothing acknowledged is lost, no group is half there', {
  skip,
}, async (t) => {
  const directory = temporaryDirectory(t)
  const counts = await countCalls(directory)
  const points = Object.entries(KILLS).flatMap(([call, kills]) => {
    const total = counts.get(call) ?? 0
    const wanted = Math.min(kills, total)
    // Denser at the start, where the database is made and the migrations run.
    const whens = Array.from({ length: wanted }, (_, i) => Math.max(i + 1, Math.floor(total * (i / wanted) ** 2)))
    return whens.map((when) => ({ call, when }))
  })
  assert.ok(points.length >= 40, `only ${points.length} points of ${JSON.stringify([...counts])}`)
  const worker = async (): Promise<void> => {
    for (let point = points.shift(); point !== undefined; point = points.shift()) {
      const what = `killed at ${point.call} ${point.when}`
      const own = path.join(directory, `${point.call}-${point.when}`)
      const inject = `inject=${point.call}:signal=KILL:when=${point.when}`
      const lines = await runTraced(own, ['-e', `trace=${point.call}`, '-e', inject])
      assert.ok(!lines.includes('close done'), `${what}: it was not`)
      recover(own, commitsDone(lines), what)
    }
  }
  t.diagnostic(`${points.length} points`)
  await Promise.all([worker(), worker()])
})

test('after a failed sync nothing more is committed until the store is reopened', { skip }, async (t) => {
  const directory = temporaryDirectory(t)
  for (const when of [12, 15, 19]) {
    const own = path.join(directory, String(when))
    const lines = await runTraced(own, ['-e', 'trace=fsync', '-e', `inject=fsync:error=EIO:when=${when}`])
    const failed = lines.findIndex((line) => /^commit .* failed io$/.test(line))
    assert.ok(failed > 0, lines.join('\n'))
    assert.match(lines[failed + 1] ?? '', /^again .* failed io$/)
    assert.equal(lines[failed + 2], 'reopen done')
    // The failed group was not kept, or it was: what counts is that the store knows.
    const attempted = Number(/\d+/.exec(lines[failed] ?? '')?.[0])
    assert.match(lines[failed + 3] ?? '', new RegExp(`^have (?:${attempted}|${attempted + 1})$`))
    assert.equal(lines.at(-1), 'close done')
    const store = new StoreDatabase({ directory: own })
    assert.equal(store.open().lastSeq / ENTRIES, GROUPS)
    store.close()
    assert.equal(dump(own), dumps[GROUPS])
  }
})

test('with a disk that stays broken every write is refused, and reopening says so', { skip }, async (t) => {
  const directory = temporaryDirectory(t)
  const lines = await runTraced(directory, ['-e', 'trace=fsync', '-e', 'inject=fsync:error=EIO:when=14+'])
  const failed = lines.findIndex((line) => line.includes('failed io'))
  assert.ok(failed > 0, lines.join('\n'))
  assert.deepEqual(
    lines.slice(failed).filter((line) => /^(?:commit|again|reopen) .*done/.test(line)),
    [],
    lines.join('\n'),
  )
  recover(directory, commitsDone(lines), 'broken disk')
})

test('a disk that is full is reported as such, and the store goes on once it is reopened', { skip }, async (t) => {
  const directory = path.join(temporaryDirectory(t), 'data')
  const lines = await runTraced(directory, ['-e', 'trace=pwrite64', '-e', 'inject=pwrite64:error=ENOSPC:when=80'])
  const failed = lines.findIndex((line) => line.endsWith('failed full'))
  assert.ok(failed > 0, lines.join('\n'))
  assert.match(lines[failed + 1] ?? '', /^again .* failed full$/)
  assert.equal(lines[failed + 2], 'reopen done')
  const store = new StoreDatabase({ directory })
  assert.equal(store.open().lastSeq / ENTRIES, GROUPS)
  store.close()
})
