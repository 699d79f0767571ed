export type Readiness = { readonly ok: true } | { readonly ok: false; readonly reason: string }

/** Where the process is between start and exit. Readiness and refusals of new work follow from it. */
export class Lifecycle {
  #state: 'running' | 'draining' | 'failed' = 'running'

  get draining(): boolean {
    return this.#state === 'draining'
  }

  drain(): void {
    if (this.#state === 'running') this.#state = 'draining'
  }

  fail(): void {
    this.#state = 'failed'
  }

  ready(): Readiness {
    if (this.#state === 'running') return { ok: true }
    return { ok: false, reason: this.#state === 'draining' ? 'the service is stopping' : 'the service failed' }
  }
}
