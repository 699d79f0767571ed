import type { Group, JournalPort } from '../domain/journal.ts'
import type { Metrics } from './metrics.ts'

/** A store whose commits are counted and timed. The domain has no clock, so its flushes are timed here. */
export function instrumentedStore(store: JournalPort, metrics: Metrics): JournalPort {
  const commit = async (group: Group): Promise<void> => {
    const start = process.hrtime.bigint()
    await store.commit(group)
    metrics.observeGroup(group.entries.length, Number(process.hrtime.bigint() - start) / 1e9)
  }
  return {
    open: () => store.open(),
    commit,
    reopen: () => store.reopen(),
    probe: () => store.probe(),
    list: (query) => store.list(query),
    touching: (vm, gfn, limit) => store.touching(vm, gfn, limit),
    history: (host, upTo) => store.history(host, upTo),
    close: () => store.close(),
  }
}
