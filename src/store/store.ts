import type { JournalPort } from '../domain/journal.ts'
import { StoreDatabase, type StoreOptions } from './database.ts'

export type { StoreOptions } from './database.ts'

/**
 * The store as the domain sees it. SQLite runs in the thread that serves requests: what a group costs is its own work and
 * one flush, and every handing over to another thread would cost more than the flush takes on a disk made for databases.
 * Requests that come in meanwhile wait in their sockets, and all go into the next group.
 */
export function openStore(options: StoreOptions): JournalPort {
  const database = new StoreDatabase(options)
  return {
    open: async () => database.open(),
    async commit(group) {
      database.commit(group)
      // Once everybody who waited for the group has been answered.
      setImmediate(() => database.maintain())
    },
    reopen: async () => database.reopen(),
    probe: async () => database.probe(),
    list: async (query) => database.list(query),
    touching: async (vm, gfn, limit) => database.touching(vm, gfn, limit),
    history: async (host, upTo) => database.history(host, upTo),
    close: async () => database.close(),
  }
}
