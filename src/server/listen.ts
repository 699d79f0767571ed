import { chmodSync, lstatSync, unlinkSync } from 'node:fs'
import { connect } from 'node:net'
import type { App } from './app.ts'
import type { ListenAddress } from './config.ts'

/** The address cannot be listened on; the message is one sentence for the operator. */
export class ListenError extends Error {}

/** Listens, and gives the address in the words of the ready line. */
export async function listen(app: App, address: ListenAddress): Promise<string> {
  try {
    if (address.kind === 'unix') return await listenOnSocket(app, address.path)
    await app.listen({ host: address.host, port: address.port })
    const bound = app.server.address()
    const port = typeof bound === 'object' && bound !== null ? bound.port : address.port
    return `http://${address.host.includes(':') ? `[${address.host}]` : address.host}:${port}`
  } catch (error) {
    if (error instanceof ListenError) throw error
    const reason = error instanceof Error ? error.message : String(error)
    throw new ListenError(`gmemd cannot listen on ${nameOf(address)}: ${reason}.`, { cause: error })
  }
}

const nameOf = (address: ListenAddress): string =>
  address.kind === 'unix' ? address.path : `${address.host}:${address.port}`

async function listenOnSocket(app: App, path: string): Promise<string> {
  await removeStaleSocket(path)
  // The socket is only this user's from its first moment, not from a later chmod on.
  const mask = process.umask(0o177)
  try {
    await app.listen({ path })
  } finally {
    process.umask(mask)
  }
  chmodSync(path, 0o600)
  return `unix:${path}`
}

/** Removes what a killed process left behind, and nothing else. */
async function removeStaleSocket(path: string): Promise<void> {
  const found = lstatSync(path, { throwIfNoEntry: false })
  if (found === undefined) return
  if (!found.isSocket()) throw new ListenError(`gmemd cannot listen on ${path}: it exists and is not a socket.`)
  if (await someoneListens(path))
    throw new ListenError(`gmemd cannot listen on ${path}: another process listens there.`)
  unlinkSync(path)
}

function someoneListens(path: string): Promise<boolean> {
  return new Promise((resolve) => {
    const socket = connect(path)
    socket.once('connect', () => {
      socket.destroy()
      resolve(true)
    })
    // Only a refused connection proves that nobody is there.
    socket.once('error', (error: NodeJS.ErrnoException) => resolve(error.code !== 'ECONNREFUSED'))
  })
}
