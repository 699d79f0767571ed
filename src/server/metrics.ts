import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client'
import { RequestTimings } from './request-timings.ts'

export type PageCount = { readonly host: string; readonly state: string; readonly pages: number }

/** What `/metrics` shows. Recording is cheap; the work is done when somebody reads. */
export class Metrics {
  readonly #registry = new Registry()
  readonly #requests = new RequestTimings()
  readonly #commands = new Map<string, Map<string, number>>()
  readonly #groupRecords: Histogram
  readonly #flushSeconds: Histogram
  #pages: () => Iterable<PageCount> = () => []

  constructor({ processMetrics = true }: { readonly processMetrics?: boolean } = {}) {
    const registers = [this.#registry]
    if (processMetrics) collectDefaultMetrics({ register: this.#registry })
    const commands = this.#commands
    new Counter({
      name: 'gmemd_commands_total',
      help: 'Commands applied to hosts, by outcome.',
      labelNames: ['type', 'outcome'],
      registers,
      collect() {
        this.reset()
        for (const [type, outcomes] of commands) {
          for (const [outcome, count] of outcomes) this.inc({ type, outcome }, count)
        }
      },
    })
    this.#groupRecords = new Histogram({
      name: 'gmemd_journal_group_records',
      help: 'Journal records written together with one flush.',
      buckets: [1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024],
      registers,
    })
    this.#flushSeconds = new Histogram({
      name: 'gmemd_journal_flush_seconds',
      help: 'Time to make one group of journal records durable.',
      buckets: [0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.5, 1],
      registers,
    })
    const pages = () => this.#pages()
    new Gauge({
      name: 'gmemd_pages',
      help: 'Physical 4 KiB pages of each host by state.',
      labelNames: ['host', 'state'],
      registers,
      collect() {
        this.reset()
        for (const { host, state, pages: count } of pages()) this.set({ host, state }, count)
      },
    })
  }

  /** The observer of one route's replies. */
  requestObserver(route: string, method: string): (status: number, seconds: number) => void {
    return this.#requests.observer(route, method)
  }

  /** One command was applied: `outcome` is `accepted` or the refusal's code. */
  countCommand(type: string, outcome: string): void {
    let outcomes = this.#commands.get(type)
    if (outcomes === undefined) {
      outcomes = new Map()
      this.#commands.set(type, outcomes)
    }
    outcomes.set(outcome, (outcomes.get(outcome) ?? 0) + 1)
  }

  /** One group of journal records became durable. */
  observeGroup(records: number, flushSeconds: number): void {
    this.#groupRecords.observe(records)
    this.#flushSeconds.observe(flushSeconds)
  }

  /** Where the page counts come from; asked at every reading. */
  setPagesSource(source: () => Iterable<PageCount>): void {
    this.#pages = source
  }

  get contentType(): string {
    return this.#registry.contentType
  }

  async text(): Promise<string> {
    return `${await this.#registry.metrics()}\n${this.#requests.text()}`
  }
}
