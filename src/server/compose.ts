import type { Logger } from 'pino'
import { hostUse } from '../domain/accounting.ts'
import { Engine } from '../domain/engine.ts'
import * as framePool from '../domain/frame-pool.ts'
import { presentHost } from '../domain/present.ts'
import { backends, measurers } from '../hw/registry.ts'
import { registerRoutes } from '../routes/index.ts'
import { openStore } from '../store/store.ts'
import { type App, buildApp } from './app.ts'
import type { Config } from './config.ts'
import { instrumentedStore } from './instrumented-store.ts'
import { parseJsonBody } from './json-body.ts'
import type { Lifecycle } from './lifecycle.ts'
import { Metrics, type PageCount } from './metrics.ts'
import type { CloseStep } from './shutdown.ts'

export type Composition = { readonly app: App; readonly steps: readonly CloseStep[] }

export type Surroundings = {
  readonly config: Config
  readonly lifecycle: Lifecycle
  readonly logger?: Logger
  readonly processMetrics?: boolean
}

/** Memory of the hosts that exist from the first start, in bytes: nothing of it is real until a page holds something. */
const DEFAULT_HOST_MEMORY = 2 ** 40
/** How often writing is tried again after a failure, without a client having to. */
const RETRY_MS = 1000

/** Puts the parts of the service together without listening. The steps close them again, in order. */
export async function compose({
  config,
  lifecycle,
  logger,
  processMetrics = true,
}: Surroundings): Promise<Composition> {
  const metrics = new Metrics({ processMetrics })
  const store = instrumentedStore(openStore({ directory: config.dataDirectory ?? ':memory:' }), metrics)
  const engine = await Engine.open(store, backends, {
    command: (type, outcome) => metrics.countCommand(type, outcome),
    failure: (error) => logger?.error({ err: error }, 'storage failed'),
  })
  await createDefaultHosts(engine, config.seed)
  metrics.setPagesSource(() => pageCounts(engine))
  const retry = setInterval(retrier(engine), RETRY_MS).unref()
  const api = { engine, backends, measurers, seed: config.seed, parseJson: parseJsonBody }
  const app = await buildApp({
    metrics,
    lifecycle,
    ...(logger === undefined ? {} : { logger }),
    registerRoutes: (routes) => registerRoutes(routes, api),
    health: {
      ready: () => (engine.failure === undefined ? { ok: true } : { ok: false, reason: engine.failure.message }),
    },
  })
  const close = async (): Promise<void> => {
    clearInterval(retry)
    await engine.close()
  }
  return { app, steps: [{ name: 'engine', close }] }
}

/** Tries again a whole turn after a failure was seen, so that whoever asks meanwhile is told of it. */
function retrier(engine: Engine): () => void {
  let seen: Error | undefined
  return () => {
    const { failure } = engine
    if (failure !== undefined && failure === seen) void engine.retry()
    seen = failure
  }
}

/** One host per technology, named like it, from the first start on. */
async function createDefaultHosts(engine: Engine, seed: string): Promise<void> {
  for (const technology of backends.keys()) {
    if ([...engine.hosts.values()].some((host) => host.state.technology === technology)) continue
    const command = {
      type: 'host.create',
      technology,
      memory: DEFAULT_HOST_MEMORY,
      seed: `${seed}/${technology}`,
    } as const
    await engine.replaceHost(technology, command, {}, presentHost)
  }
}

function* pageCounts(engine: Engine): Iterable<PageCount> {
  for (const [name, host] of engine.hosts) {
    const use = hostUse(host)
    yield { host: name, state: 'private', pages: use.private / 4096 }
    yield { host: name, state: 'shared', pages: use.shared / 4096 }
    yield { host: name, state: 'metadata', pages: use.metadata / 4096 }
    yield { host: name, state: 'free', pages: framePool.freeFrames(host.state.pool) }
  }
}
