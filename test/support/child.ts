import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import type { TestContext } from 'node:test'

const root = path.join(import.meta.dirname, '../..')

export type Child = {
  readonly process: ChildProcess
  readonly output: { stdout: string; stderr: string }
  /** The words after "gmemd listening on", once they are printed. */
  readonly ready: Promise<string>
  /** Exit code, or the signal that ended it. */
  readonly exited: Promise<number | NodeJS.Signals>
}

/** Starts a program of the repository as a process of its own, which does not outlive the test. */
export function startChild(
  t: TestContext,
  file: string,
  env: Readonly<Record<string, string>> = {},
  without: readonly string[] = [],
): Child {
  const variables = { PATH: process.env.PATH ?? '', GMEMD_PORT: '0', GMEMD_DATA: ':memory:', ...env }
  const child = spawn(process.execPath, [path.join(root, file)], {
    cwd: root,
    env: Object.fromEntries(Object.entries(variables).filter(([name]) => !without.includes(name))),
    stdio: ['ignore', 'pipe', 'pipe'],
  })
  t.after(() => child.kill('SIGKILL'))
  const output = { stdout: '', stderr: '' }
  child.stderr.on('data', (chunk) => {
    output.stderr += chunk
  })
  const exited = once(child, 'exit').then(([code, signal]) => code ?? signal)
  const ready = new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      output.stdout += chunk
      const address = /^gmemd listening on (.*)\n/.exec(output.stdout)?.[1]
      if (address !== undefined) resolve(address)
    })
    exited.then((code) => reject(new Error(`exited with ${code}: ${output.stderr}`)))
  })
  ready.catch(() => {})
  return { process: child, output, ready, exited }
}
