import { type ChildProcess, spawn } from 'node:child_process'
import { once } from 'node:events'
import path from 'node:path'
import { Gmemd } from './client.ts'

const main = path.join(import.meta.dirname, '../src/server/main.ts')

/** A gmemd of our own, on a free port and in the data directory given. */
export async function startServer(dataDirectory: string): Promise<{ gmemd: Gmemd; child: ChildProcess }> {
  const inherited = Object.entries(process.env).filter(([name]) => !name.startsWith('GMEMD_'))
  const own = { GMEMD_PORT: '0', GMEMD_DATA: dataDirectory, GMEMD_LOG_LEVEL: 'error' }
  const env = { ...Object.fromEntries(inherited), ...own }
  const child = spawn(process.execPath, [main], { env, stdio: ['ignore', 'pipe', 'inherit'] })
  let output = ''
  const ready = new Promise<string>((resolve, reject) => {
    child.stdout.on('data', (chunk) => {
      output += chunk
      const url = /^gmemd listening on (\S+)\n/m.exec(output)?.[1]
      if (url !== undefined) resolve(url)
    })
    child.once('exit', (code) => reject(new Error(`gmemd ended with ${code} before it was ready`)))
  })
  return { gmemd: new Gmemd(await ready), child }
}

/** Ends it with a signal and waits until it is gone. */
export async function endServer(child: ChildProcess, signal: NodeJS.Signals): Promise<void> {
  if (child.exitCode !== null || child.signalCode !== null) return
  const gone = once(child, 'exit')
  child.kill(signal)
  await gone
}
