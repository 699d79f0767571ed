// Runs the tests: all of them, or the files and flags given. Its last lines are the runner's own summary.
import { spawn } from 'node:child_process'
import { globSync } from 'node:fs'
import { constants } from 'node:os'
import path from 'node:path'

const CONCURRENCY = 2

process.chdir(path.join(import.meta.dirname, '..'))
const given = process.argv.slice(2)
const flags = given.filter((argument) => argument.startsWith('-'))
const named = given.filter((argument) => !argument.startsWith('-'))
const files = (named.length > 0 ? named : globSync('test/**/*.test.ts')).sort()
if (files.length === 0) {
  console.error('There are no tests under test/.')
  process.exit(1)
}

const runner = spawn(
  process.execPath,
  [
    '--test',
    `--test-concurrency=${CONCURRENCY}`,
    '--test-timeout=120000',
    ...(flags.some((flag) => flag.startsWith('--test-reporter')) ? [] : ['--test-reporter=spec']),
    ...flags,
    ...files,
  ],
  { stdio: 'inherit', env: { ...process.env, NODE_ENV: 'test' } },
)
for (const signal of ['SIGTERM', 'SIGINT'] as const) process.on(signal, () => runner.kill(signal))
runner.on('exit', (code, signal) => {
  process.exitCode = code ?? 128 + (signal === null ? 0 : constants.signals[signal])
})
