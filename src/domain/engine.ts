import type { Backend } from '../hw/contract.ts'
import type { Accepted, Applied } from './applied.ts'
import type { HostCommand } from './apply.ts'
import { Changes } from './changes.ts'
import { encodeEntry } from './codec.ts'
import type { Command, CommandOf } from './commands.ts'
import type { Host } from './host.ts'
import type { Checkpoint, Group, JournalEntry, JournalPort, JournalQuery, StoredReply, StoredState } from './journal.ts'
import { StorageError } from './journal.ts'
import { createHost, rebootHost, recover, replayTo } from './recovery.ts'
import { type Refusal, type Result, refuse } from './refusal.ts'
import { Replies } from './replies.ts'
import { rowsOf } from './rows.ts'

/** Commands of one host after which its state is stored anew, so that a restart replays no more than these. */
const CHECKPOINT_EVERY = 4096

export type Executed = {
  readonly seq: number
  readonly value: Record<string, unknown>
  /** What stopped a request that had already changed something: the client's answer, while the change stays. */
  readonly partial?: Refusal
}

export type ExecuteOptions = {
  /** The reply to keep for an Idempotency-Key, made when the command is applied and stored with it. */
  readonly reply?: (executed: Executed) => StoredReply
}

/** What the engine reports of its work; times are the observer's to take. */
export interface Observer {
  command(type: string, outcome: 'accepted' | 'refused'): void
  failure(error: Error): void
}

type Waiter = { readonly resolve: () => void; readonly reject: (error: Error) => void }

/** Commands applied and not yet durable, and everyone who waits for them to be. */
class Pending {
  readonly entries: JournalEntry[] = []
  readonly replies: StoredReply[] = []
  readonly waiters: Waiter[] = []

  rejectAll(error: Error): void {
    for (const waiter of this.waiters) waiter.reject(error)
  }
}

/**
 * All hosts of one data directory and the way of every command: applied at once, answered when the group its record joined
 * is on disk. While one group is being written the next one gathers. When a group cannot be written, everybody in it
 * and behind it is told, and the hosts return to what is on disk.
 */
export class Engine {
  readonly hosts = new Map<string, Host>()
  readonly replies = new Replies()
  readonly #store: JournalPort
  readonly #backends: ReadonlyMap<string, Backend>
  readonly #observer: Observer
  readonly #listeners = new Set<(entries: readonly JournalEntry[]) => void>()
  readonly #changes = new Changes()
  readonly #sinceCheckpoint = new Map<string, number>()
  #lastSeq = 0
  #durableSeq = 0
  #pending = new Pending()
  #writing: Pending | undefined
  /** Resolves when the store has done with the group it was given last, whatever came of it. */
  #written: Promise<void> = Promise.resolve()
  #scheduled = false
  #closing = false
  /** Set while state on disk and in memory may differ, or writes fail: why the service is not ready. */
  #failure: Error | undefined
  #recovering: Promise<void> | undefined
  /** The store could not be opened again: there is no state to serve. */
  #lost = false

  private constructor(store: JournalPort, backends: ReadonlyMap<string, Backend>, observer: Observer) {
    this.#store = store
    this.#backends = backends
    this.#observer = observer
  }

  /** Recovers every host from the store. Rejects with a {@link StorageError} when what is stored cannot be trusted. */
  static async open(store: JournalPort, backends: ReadonlyMap<string, Backend>, observer: Observer): Promise<Engine> {
    const engine = new Engine(store, backends, observer)
    engine.#load(await store.open())
    return engine
  }

  /** Why the service cannot take writes now; undefined when it can. */
  get failure(): Error | undefined {
    return this.#failure
  }

  /** Throws why nothing can be read or written now: state is being read back from disk, or could not be. */
  assertServing(): void {
    const blocked = this.#blocked()
    if (blocked !== undefined) throw blocked
  }

  /** The sequence number of the last command applied. */
  get lastSeq(): number {
    return this.#lastSeq
  }

  /** The sequence number of the last command on disk; {@link Engine.onDurable} tells of those after it. */
  get durableSeq(): number {
    return this.#durableSeq
  }

  hostOfVm(vm: string): Host | undefined {
    for (const host of this.hosts.values()) if (host.state.vms.has(vm)) return host
    return undefined
  }

  hostOfMemfile(memfile: string): Host | undefined {
    for (const host of this.hosts.values()) if (host.state.memfiles.has(memfile)) return host
    return undefined
  }

  /** Applies a command to a host now, and resolves once it is durable. A refusal is durable as nothing changed. */
  execute(host: Host, command: HostCommand, options: ExecuteOptions = {}): Promise<Result<Executed>> {
    const blocked = this.#blocked() ?? this.#replaced(host)
    if (blocked !== undefined) return Promise.reject(blocked)
    const seq = this.#lastSeq + 1
    let applied: Applied
    try {
      applied = host.apply(command, seq)
    } catch (error) {
      // A bug of ours, and a host half changed: memory returns to what the journal says.
      void this.#recover(asError(error))
      return Promise.reject(error)
    }
    this.#observer.command(command.type, applied.accepted ? 'accepted' : 'refused')
    if (!applied.accepted) return this.settled().then(() => refuse(applied.refusal))
    return this.#accept(host.state.name, command, applied, options)
  }

  /** Binds a memfile to a VM of another host than it was made on: it moves there, in one group. */
  async move(
    from: Host,
    to: Host,
    command: CommandOf<'memfile.bind'>,
    options: ExecuteOptions,
  ): Promise<Result<Executed>> {
    const leave = { type: 'memfile.leave', memfile: command.memfile } as const
    if (from.state.crashed !== null) return this.execute(from, leave)
    const bound = this.execute(to, command, options)
    const moved = to.state.memfiles.has(command.memfile)
    if (moved) await Promise.all([bound, this.execute(from, leave)])
    return bound
  }

  /** Makes a host, or puts a fresh one in the place of one that crashed. */
  replaceHost(
    name: string,
    command: CommandOf<'host.create' | 'host.reboot'>,
    options: ExecuteOptions,
    present: (host: Host) => Record<string, unknown>,
  ): Promise<Result<Executed>> {
    const blocked = this.#blocked()
    if (blocked !== undefined) return Promise.reject(blocked)
    const seq = this.#lastSeq + 1
    const old = this.hosts.get(name)
    const host =
      command.type === 'host.create'
        ? createHost(this.#backends, name, command, seq, this.#changes)
        : old && rebootHost(old, seq, this.#changes)
    if (host === undefined) throw new Error(`host "${name}" cannot be made`)
    this.hosts.set(name, host)
    this.#observer.command(command.type, 'accepted')
    const applied: Accepted = { accepted: true, value: present(host), vm: null, firstGfn: null, endGfn: null }
    return this.#accept(name, command, applied, options)
  }

  /** Resolves when everything applied so far is durable: a read never shows a state that is not. */
  settled(): Promise<void> {
    if (this.#recovering !== undefined) return this.#recovering
    const last = this.#pending.entries.length > 0 ? this.#pending : this.#writing
    if (last === undefined) return Promise.resolve()
    return new Promise((resolve, reject) => last.waiters.push({ resolve, reject }))
  }

  /** Calls `listener` with the entries of each group once it is durable. Returns how to stop. */
  onDurable(listener: (entries: readonly JournalEntry[]) => void): () => void {
    this.#listeners.add(listener)
    return () => this.#listeners.delete(listener)
  }

  /** Durable entries, oldest first. */
  journal(query: JournalQuery): Promise<readonly JournalEntry[]> {
    this.assertServing()
    return this.#store.list(query)
  }

  /** The newest durable entries that touched guest frame `gfn` of a VM, newest first. */
  touching(vm: string, gfn: number, limit: number): Promise<readonly JournalEntry[]> {
    this.assertServing()
    return this.#store.touching(vm, gfn, limit)
  }

  /** The host as it was at `seq`, rebuilt from the journal. Yields to others between stretches of replay. */
  async at(host: Host, seq: number): Promise<Host | undefined> {
    await this.settled()
    const history = await this.#store.history(host.state.name, seq)
    return replayTo(this.#backends, history)
  }

  /** Takes no more commands, writes what is pending with a checkpoint of every host, and closes the store. */
  async close(): Promise<void> {
    this.#closing = true
    await this.settled().catch(() => undefined)
    try {
      if (this.#failure === undefined) await this.#checkpointAll()
    } finally {
      await this.#store.close()
    }
  }

  async #checkpointAll(): Promise<void> {
    const checkpoints = [...this.#sinceCheckpoint.keys()].flatMap((name) => this.#checkpoint(name))
    if (checkpoints.length === 0) return
    await this.#store.commit(groupOf(new Pending(), rowsOf(this.hosts, this.#changes), checkpoints))
  }

  /** Tries to write again after a failure, so that the service becomes ready without traffic. */
  async retry(): Promise<void> {
    if (this.#failure === undefined || this.#recovering !== undefined || this.#closing) return
    if (this.#lost) await this.#recover(this.#failure)
    else if (await this.#store.probe()) this.#failure = undefined
  }

  #blocked(): Error | undefined {
    if (this.#closing) return new StorageError('io', 'gmemd is shutting down.')
    if (this.#recovering === undefined && !this.#lost) return undefined
    return this.#failure ?? new StorageError('io', 'State is being read back from disk.')
  }

  /** A host that was found before its state was read back from disk, or before it was rebooted, is not the host any more. */
  #replaced(host: Host): Error | undefined {
    if (this.hosts.get(host.state.name) === host) return undefined
    return new StorageError('io', `The state of host "${host.state.name}" has been replaced meanwhile; try again.`)
  }

  #accept(host: string, command: Command, applied: Accepted, options: ExecuteOptions): Promise<Result<Executed>> {
    const seq = ++this.#lastSeq
    const { value, partial } = applied
    const executed: Executed = partial === undefined ? { seq, value } : { seq, value, partial }
    const pending = this.#pending
    pending.entries.push(encodeEntry(host, seq, command, applied))
    this.#sinceCheckpoint.set(host, (this.#sinceCheckpoint.get(host) ?? 0) + 1)
    if (options.reply !== undefined) {
      const reply = options.reply(executed)
      pending.replies.push(reply)
      this.replies.add(reply)
    }
    this.#schedule()
    return new Promise((resolve, reject) =>
      pending.waiters.push({ resolve: () => resolve({ ok: true, value: executed }), reject }),
    )
  }

  /** Groups are sealed once a turn of the event loop, so that all requests read in a turn share one flush. */
  #schedule(): void {
    if (this.#scheduled || this.#writing !== undefined) return
    this.#scheduled = true
    setImmediate(() => {
      this.#scheduled = false
      void this.#flush()
    })
  }

  async #flush(): Promise<void> {
    const group = this.#pending
    if (group.entries.length === 0) return
    this.#pending = new Pending()
    this.#writing = group
    const rows = rowsOf(this.hosts, this.#changes)
    this.#changes.clear()
    const due = [...this.#sinceCheckpoint].filter(([, count]) => count >= CHECKPOINT_EVERY)
    const checkpoints = due.flatMap(([name]) => this.#checkpoint(name))
    const written = this.#store.commit(groupOf(group, rows, checkpoints))
    this.#written = written.catch(() => undefined)
    try {
      await written
    } catch (error) {
      if (this.#recovering === undefined) await this.#recover(asError(error), group)
      else group.rejectAll(asError(error))
      return
    }
    if (this.#recovering === undefined) this.#failure = undefined
    this.#writing = undefined
    this.#durableSeq = group.entries.at(-1)?.seq ?? this.#durableSeq
    for (const waiter of group.waiters) waiter.resolve()
    for (const listener of this.#listeners) listener(group.entries)
    if (this.#pending.entries.length > 0) this.#schedule()
  }

  #checkpoint(name: string): Checkpoint[] {
    const host = this.hosts.get(name)
    this.#sinceCheckpoint.delete(name)
    if (host === undefined) return []
    return [{ host: name, seq: this.#lastSeq, state: host.snapshot(), contents: new Map(host.memory.contents) }]
  }

  /** A group was not written: everybody waiting is told, and memory returns to what is on disk. */
  async #recover(cause: Error, failed?: Pending): Promise<void> {
    this.#failure = cause
    this.#observer.failure(cause)
    const behind = this.#pending
    this.#pending = new Pending()
    const reopened = this.#written.then(() => this.#store.reopen()).then((stored) => this.#load(stored))
    const done = reopened.then(
      () => {
        this.#lost = false
      },
      (error) => {
        this.#lost = true
        this.#failure = asError(error)
      },
    )
    this.#recovering = done
    failed?.rejectAll(cause)
    behind.rejectAll(cause)
    await done
    this.#recovering = undefined
    this.#writing = undefined
  }

  #load(stored: StoredState): void {
    this.#changes.clear()
    this.#sinceCheckpoint.clear()
    this.hosts.clear()
    const hosts = recover(this.#backends, stored, this.#changes)
    for (const [name, host] of hosts) this.hosts.set(name, host)
    this.#changes.clear()
    this.replies.load(stored.replies)
    for (const entry of stored.entries) {
      this.#sinceCheckpoint.set(entry.host, (this.#sinceCheckpoint.get(entry.host) ?? 0) + 1)
    }
    this.#lastSeq = stored.lastSeq
    this.#durableSeq = stored.lastSeq
  }
}

const asError = (error: unknown): Error => (error instanceof Error ? error : new Error(String(error)))

const groupOf = (pending: Pending, rows: Group['rows'], checkpoints: readonly Checkpoint[]): Group => ({
  entries: pending.entries,
  rows,
  replies: pending.replies,
  checkpoints,
})
