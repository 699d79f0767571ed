// Runs a program under Node 24, whatever Node started this file. Plain JavaScript, because an older Node cannot read
// TypeScript and better-sqlite3 13 crashes under it, so the version must be settled before any module of ours is loaded.
import { spawn } from 'node:child_process'
import { existsSync } from 'node:fs'
import { createRequire } from 'node:module'
import { constants } from 'node:os'
import path from 'node:path'

const EX_CONFIG = 78
const platforms = { linux: 'linux', darwin: 'darwin', win32: 'win' }

function findNode24() {
  if (Number(process.versions.node.split('.')[0]) >= 24) return process.execPath
  const name = `node-${platforms[process.platform] ?? process.platform}-${process.arch}`
  try {
    const root = path.dirname(createRequire(import.meta.url).resolve(`${name}/package.json`))
    const binary = path.join(root, 'bin', process.platform === 'win32' ? 'node.exe' : 'node')
    return existsSync(binary) ? binary : undefined
  } catch {
    return undefined
  }
}

const node = findNode24()
if (node === undefined) {
  console.error(
    `gmemd needs Node 24 or newer; this is ${process.version} and no bundled Node 24 is installed for ` +
      `${process.platform}-${process.arch} (run npm ci without --omit=optional, or install Node 24).`,
  )
  process.exit(EX_CONFIG)
}

const child = spawn(node, process.argv.slice(2), {
  stdio: 'inherit',
  env: { ...process.env, PATH: `${path.dirname(node)}${path.delimiter}${process.env.PATH ?? ''}` },
})
for (const signal of ['SIGTERM', 'SIGINT', 'SIGHUP']) process.on(signal, () => child.kill(signal))
child.on('error', (error) => {
  console.error(`gmemd could not start ${node}: ${error.message}`)
  process.exit(EX_CONFIG)
})
child.on('exit', (code, signal) => {
  process.exitCode = code ?? 128 + (constants.signals[signal] ?? 0)
})
