import assert from 'node:assert/strict'
import { test } from 'node:test'
import { readConfig } from '../../src/server/config.ts'

const problemsOf = (env: Record<string, string>): readonly string[] => {
  const read = readConfig(env)
  return read.ok ? [] : read.problems
}

test('an empty environment gives the defaults', () => {
  assert.deepEqual(readConfig({}), {
    ok: true,
    config: {
      listen: { kind: 'tcp', host: '127.0.0.1', port: 7070 },
      dataDirectory: './data',
      logLevel: 'info',
      seed: 'gmemd',
    },
  })
})

test('every variable is taken', () => {
  const read = readConfig({
    GMEMD_SOCKET: '/run/gmemd.sock',
    GMEMD_DATA: ':memory:',
    GMEMD_LOG_LEVEL: 'debug',
    GMEMD_SEED: '7',
    HOME: '/root',
  })
  assert.deepEqual(read, {
    ok: true,
    config: {
      listen: { kind: 'unix', path: '/run/gmemd.sock' },
      dataDirectory: undefined,
      logLevel: 'debug',
      seed: '7',
    },
  })
})

for (const port of ['0', '1', '9999', '10000', '65535']) {
  test(`port ${port} is taken`, () => assert.deepEqual(problemsOf({ GMEMD_PORT: port }), []))
}

for (const port of ['', '-1', '65536', '99999', '100000', '1e3', '0x50', ' 80', '080', '1.5', '１']) {
  test(`port ${JSON.stringify(port)} is refused in one sentence`, () => {
    const problems = problemsOf({ GMEMD_PORT: port })
    assert.equal(problems.length, 1)
    assert.match(problems[0] ?? '', /^GMEMD_PORT must be a port number from 0 .* to 65535, not ".*"\.$/)
  })
}

test('every problem is named at once', () => {
  const problems = problemsOf({ GMEMD_PROT: '1', GMEMD_LOG_LEVEL: 'loud', GMEMD_DATA: '', GMEMD_SEED: '' })
  assert.equal(problems.length, 4)
  assert.match(problems[0] ?? '', /^GMEMD_PROT is not a variable that gmemd knows/)
  assert.match(problems.join('\n'), /GMEMD_LOG_LEVEL must be one of trace, debug/)
})

test('a socket excludes host and port', () => {
  assert.deepEqual(problemsOf({ GMEMD_SOCKET: '/s', GMEMD_PORT: '1', GMEMD_HOST: '::1' }), [
    'GMEMD_SOCKET and GMEMD_HOST exclude each other; set only one of them.',
    'GMEMD_SOCKET and GMEMD_PORT exclude each other; set only one of them.',
  ])
  assert.equal(problemsOf({ GMEMD_SOCKET: `/${'s'.repeat(107)}` }).length, 1)
})
