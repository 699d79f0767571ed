import type {
  Checkpoint,
  Group,
  JournalEntry,
  JournalPort,
  JournalQuery,
  StorageError,
  StoredReply,
  StoredState,
} from '../../src/domain/journal.ts'

/** A journal that keeps everything in memory, and fails or waits when a test says so. */
export class MemoryJournal implements JournalPort {
  readonly entries: JournalEntry[] = []
  readonly replies: StoredReply[] = []
  readonly checkpoints: Checkpoint[] = []
  groups = 0
  /** The next commit fails with it. */
  failure: StorageError | undefined
  /** Commits wait for it; a test that sets it decides when a group becomes durable. */
  gate: Promise<void> | undefined

  async open(): Promise<StoredState> {
    return this.#state()
  }

  async commit({ entries, replies, checkpoints }: Group): Promise<void> {
    await this.gate
    const { failure } = this
    this.failure = undefined
    if (failure !== undefined) throw failure
    this.groups++
    this.entries.push(...entries)
    this.replies.push(...replies)
    this.checkpoints.push(...checkpoints)
  }

  async reopen(): Promise<StoredState> {
    return this.#state()
  }

  async probe(): Promise<boolean> {
    return this.failure === undefined
  }

  async list({ vm, host, after, limit }: JournalQuery): Promise<readonly JournalEntry[]> {
    return this.entries
      .filter((entry) => entry.seq > after && (vm ?? entry.vm) === entry.vm && (host ?? entry.host) === entry.host)
      .slice(0, limit)
  }

  async touching(vm: string, gfn: number, limit: number): Promise<readonly JournalEntry[]> {
    return this.entries
      .filter(({ firstGfn, endGfn }) => firstGfn !== null && endGfn !== null && gfn >= firstGfn && gfn < endGfn)
      .filter((entry) => entry.vm === vm)
      .reverse()
      .slice(0, limit)
  }

  async history(host: string, upTo: number): ReturnType<JournalPort['history']> {
    const checkpoint = this.checkpoints.findLast((one) => one.host === host && one.seq <= upTo) ?? null
    const after = checkpoint?.seq ?? 0
    const entries = this.entries.filter((entry) => entry.host === host && entry.seq > after && entry.seq <= upTo)
    return { checkpoint, entries }
  }

  async close(): Promise<void> {}

  #state(): StoredState {
    const newest = new Map(this.checkpoints.map((checkpoint) => [checkpoint.host, checkpoint]))
    const entries = this.entries.filter(({ host, seq }) => seq > (newest.get(host)?.seq ?? 0))
    const lastSeq = this.entries.at(-1)?.seq ?? 0
    return { lastSeq, checkpoints: [...newest.values()], entries, replies: this.replies }
  }
}
