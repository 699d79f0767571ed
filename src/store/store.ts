import { Worker } from 'node:worker_threads'
import {
  type Group,
  type JournalEntry,
  type JournalPort,
  type JournalQuery,
  StorageError,
  type StoredState,
} from '../domain/journal.ts'
import type { StoreOptions } from './database.ts'
import type { Answer, CallName, Calls } from './protocol.ts'
import { packGroup, unpackCheckpoint, unpackEntries, unpackState } from './wire.ts'

export type { StoreOptions } from './database.ts'

type Waiting = {
  /** The epoch of a commit. */
  readonly epoch: number | undefined
  resolve(value: Calls[CallName]['answer']): void
  reject(error: StorageError): void
}

/**
 * The store as the domain sees it. SQLite runs in a thread, so that waiting for the disk never holds up the event loop;
 * calls are carried out in the order they are made, and commits may be made before earlier ones are done.
 */
export function openStore(options: StoreOptions): JournalPort {
  return new ThreadedStore(options)
}

class ThreadedStore implements JournalPort {
  readonly #options: StoreOptions
  readonly #waiting = new Map<number, Waiting>()
  #worker: Worker | undefined
  #calls = 0
  /** Failed commits that the caller has been told of. */
  #epoch = 0
  #closed = false

  constructor(options: StoreOptions) {
    this.#options = options
  }

  async open(): Promise<StoredState> {
    return unpackState(await this.#call('open', []))
  }

  async commit(group: Group): Promise<void> {
    const transfer: ArrayBuffer[] = []
    await this.#call('commit', [this.#epoch, packGroup(group, transfer)], transfer)
  }

  async reopen(): Promise<StoredState> {
    return unpackState(await this.#call('reopen', []))
  }

  async probe(): Promise<boolean> {
    return this.#call('probe', [])
  }

  async list(query: JournalQuery): Promise<JournalEntry[]> {
    return unpackEntries(await this.#call('list', [query]))
  }

  async touching(vm: string, gfn: number, limit: number): Promise<JournalEntry[]> {
    return unpackEntries(await this.#call('touching', [vm, gfn, limit]))
  }

  async history(host: string, upTo: number): ReturnType<JournalPort['history']> {
    const { checkpoint, entries } = await this.#call('history', [host, upTo])
    return {
      checkpoint: checkpoint === null ? null : unpackCheckpoint(checkpoint),
      entries: unpackEntries(entries),
    }
  }

  /** Writes the log back, gives up the directory and ends the thread. Closing twice is harmless. */
  async close(): Promise<void> {
    if (this.#closed) return
    const worker = this.#worker
    const closing = worker === undefined ? undefined : this.#call('close', [])
    this.#closed = true
    try {
      await closing
    } finally {
      await worker?.terminate()
    }
  }

  #call<K extends CallName>(
    call: K,
    args: Calls[K]['args'],
    transfer: ArrayBuffer[] = [],
  ): Promise<Calls[K]['answer']> {
    if (this.#closed) return Promise.reject(new StorageError('io', 'The store is closed.'))
    this.#worker ??= this.#start()
    const worker = this.#worker
    this.#calls += 1
    const id = this.#calls
    return new Promise((resolve, reject) => {
      // The name of the call decides the type of its answer.
      const epoch = call === 'commit' ? this.#epoch : undefined
      this.#waiting.set(id, { epoch, resolve: resolve as Waiting['resolve'], reject })
      if (this.#waiting.size === 1) worker.ref()
      worker.postMessage({ id, call, args }, transfer)
    })
  }

  /** An idle store does not keep the process alive; one that is asked something does. */
  #start(): Worker {
    const worker = new Worker(new URL('./worker.ts', import.meta.url), { workerData: this.#options, name: 'store' })
    worker.unref()
    worker.on('message', (answer: Answer) => this.#settle(worker, answer))
    worker.on('error', (error) => this.#lose(worker, error))
    worker.on('exit', () => this.#lose(worker, undefined))
    return worker
  }

  #settle(worker: Worker, answer: Answer): void {
    const waiting = this.#waiting.get(answer.id)
    this.#waiting.delete(answer.id)
    if (this.#waiting.size === 0) worker.unref()
    if (waiting === undefined) return
    if (answer.ok) {
      waiting.resolve(answer.value)
      return
    }
    if (waiting.epoch === this.#epoch) this.#epoch += 1
    waiting.reject(new StorageError(answer.failure.code, answer.failure.message))
  }

  /** The thread is gone: nobody knows what became of the groups it had. The next `reopen` starts another. */
  #lose(worker: Worker, cause: unknown): void {
    if (this.#worker !== worker) return
    this.#worker = undefined
    this.#epoch += 1
    const waiting = [...this.#waiting.values()]
    this.#waiting.clear()
    for (const { reject } of waiting) reject(new StorageError('io', 'The storage thread ended.', { cause }))
  }
}
