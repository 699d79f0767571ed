import { parentPort, workerData } from 'node:worker_threads'
import { StoreDatabase, type StoreOptions } from './database.ts'
import { toStorageError } from './errors.ts'
import type { Answer, CallName, Calls, Request } from './protocol.ts'
import { packCheckpoint, packEntries, packState, unpackGroup } from './wire.ts'

const options = workerData as StoreOptions
let database: StoreDatabase | undefined

/** Requests are answered one by one, in the order they came. */
function answer(request: Request, transfer: ArrayBuffer[]): Calls[CallName]['answer'] {
  database ??= new StoreDatabase(options)
  switch (request.call) {
    case 'open':
      return packState(database.open(), transfer)
    case 'reopen':
      return packState(database.reopen(), transfer)
    case 'commit':
      database.commit(request.args[0], unpackGroup(request.args[1]))
      return null
    case 'probe':
      return database.probe()
    case 'list':
      return packEntries(database.list(...request.args), transfer)
    case 'touching':
      return packEntries(database.touching(...request.args), transfer)
    case 'history': {
      const { checkpoint, entries } = database.history(...request.args)
      return {
        checkpoint: checkpoint === null ? null : packCheckpoint(checkpoint, transfer),
        entries: packEntries(entries, transfer),
      }
    }
    case 'close':
      database.close()
      return null
  }
}

parentPort?.on('message', (request: Request) => {
  const transfer: ArrayBuffer[] = []
  let reply: Answer
  try {
    reply = { id: request.id, ok: true, value: answer(request, transfer) }
  } catch (error) {
    const { code, message } = toStorageError(error, options.directory)
    reply = { id: request.id, ok: false, failure: { code, message } }
  }
  parentPort?.postMessage(reply, transfer)
  if (request.call === 'commit') database?.maintain()
})
