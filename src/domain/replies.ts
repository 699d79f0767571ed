import type { StoredReply } from './journal.ts'

/** Replies kept for their Idempotency-Keys, newest last; the store prunes to the same number. */
const KEPT = 10_000

/** What was answered under which Idempotency-Key, and which requests are running. */
export class Replies {
  readonly #stored = new Map<string, StoredReply>()
  /** Key → fingerprint of a request whose effect is not durable yet. */
  readonly running = new Map<string, string>()

  load(replies: readonly StoredReply[]): void {
    this.#stored.clear()
    for (const reply of replies) this.add(reply)
  }

  add(reply: StoredReply): void {
    this.#stored.set(reply.key, reply)
    if (this.#stored.size <= KEPT) return
    const oldest = this.#stored.keys().next().value
    if (oldest !== undefined) this.#stored.delete(oldest)
  }

  find(key: string): StoredReply | undefined {
    return this.#stored.get(key)
  }
}
