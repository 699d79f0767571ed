import { Readable } from 'node:stream'
import type { Engine } from '../domain/engine.ts'
import type { JournalEntry } from '../domain/journal.ts'
import { EVENT_QUEUE_BYTES, EVENT_REPLAY_ENTRIES, HEARTBEAT_MS } from './limits.ts'
import { presentEntry } from './schemas/journal-entry.ts'

export type EventFilter = { readonly vm?: string; readonly host?: string }

/**
 * The journal as server-sent events, from after `position` on and then as groups become durable: no gap, no duplicate,
 * no reordering. Replay waits for a slow reader; one that is slow once it is live is sent a `gap` and let go, and
 * comes back with the id of the last event it has seen.
 */
export class EventStream extends Readable {
  readonly #engine: Engine
  readonly #filter: EventFilter
  readonly #stop: () => void
  readonly #heartbeat: NodeJS.Timeout
  /** Everything up to here has been sent, or is not for this reader. */
  #position: number
  /** The newest entry known to be durable. */
  #newest: number
  #live = false
  #ended = false
  #wanted: (() => void) | undefined

  /** Without a `position` it begins now. */
  constructor(engine: Engine, filter: EventFilter, position: number | undefined) {
    super({ highWaterMark: EVENT_QUEUE_BYTES })
    this.#engine = engine
    this.#filter = filter
    this.#newest = engine.durableSeq
    this.#position = position ?? this.#newest
    this.#stop = engine.onDurable((entries) => this.#arrived(entries))
    this.#heartbeat = setInterval(() => this.#write(': heartbeat\n\n'), HEARTBEAT_MS).unref()
    this.#write('retry: 1000\n\n')
    this.#replay().catch((error: Error) => this.destroy(error))
  }

  /** Ends the stream in order; the client reconnects elsewhere or later. */
  finish(): void {
    if (this.#ended) return
    this.#ended = true
    this.#release()
    this.push(null)
  }

  override _read(): void {
    this.#wanted?.()
    this.#wanted = undefined
  }

  override _destroy(error: Error | null, callback: (error?: Error | null) => void): void {
    this.#ended = true
    this.#release()
    callback(error)
  }

  #release(): void {
    this.#stop()
    clearInterval(this.#heartbeat)
    this.#wanted?.()
  }

  /** Reads what was durable before, at the reader's pace, until nothing is left between it and the present. */
  async #replay(): Promise<void> {
    while (!this.#ended && this.#position < this.#newest) {
      const target = this.#newest
      const entries = await this.#engine.journal({
        ...this.#filter,
        after: this.#position,
        limit: EVENT_REPLAY_ENTRIES,
      })
      for (const entry of entries) {
        if (this.#ended) return
        if (!this.#write(textOf(entry))) await this.#drained()
        this.#position = entry.seq
      }
      if (entries.length < EVENT_REPLAY_ENTRIES) this.#position = Math.max(this.#position, target)
    }
    this.#live = true
  }

  #arrived(entries: readonly JournalEntry[]): void {
    const last = entries.at(-1)
    if (last !== undefined) this.#newest = last.seq
    if (!this.#live) return
    for (const entry of entries) {
      if (entry.seq > this.#position && this.#wants(entry) && !this.#send(entry)) return
      this.#position = Math.max(this.#position, entry.seq)
    }
  }

  #wants({ vm, host }: JournalEntry): boolean {
    return (this.#filter.vm ?? vm) === vm && (this.#filter.host ?? host) === host
  }

  /** Sends a live event; false when the reader was too slow for it. */
  #send(entry: JournalEntry): boolean {
    if (this.readableLength < EVENT_QUEUE_BYTES) {
      this.#write(textOf(entry))
      return true
    }
    this.#write(`event: gap\ndata: ${JSON.stringify({ after: this.#position })}\n\n`)
    this.finish()
    return false
  }

  #write(text: string): boolean {
    return this.#ended ? true : this.push(text)
  }

  #drained(): Promise<void> {
    return new Promise((resolve) => {
      this.#wanted = resolve
    })
  }
}

const textOf = (entry: JournalEntry): string =>
  `id: ${entry.seq}\nevent: ${entry.type}\ndata: ${JSON.stringify(presentEntry(entry))}\n\n`
