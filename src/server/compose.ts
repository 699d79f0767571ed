import type { Logger } from 'pino'
import { type App, buildApp } from './app.ts'
import type { Config } from './config.ts'
import type { Lifecycle } from './lifecycle.ts'
import { Metrics } from './metrics.ts'
import type { CloseStep } from './shutdown.ts'

export type Composition = { readonly app: App; readonly steps: readonly CloseStep[] }

export type Surroundings = {
  readonly config: Config
  readonly lifecycle: Lifecycle
  readonly logger?: Logger
  readonly processMetrics?: boolean
}

/** Puts the parts of the service together without listening. The steps close them again, in order. */
export async function compose({ lifecycle, logger, processMetrics = true }: Surroundings): Promise<Composition> {
  const metrics = new Metrics({ processMetrics })
  const app = await buildApp({
    metrics,
    lifecycle,
    ...(logger === undefined ? {} : { logger }),
    registerRoutes: () => {},
    health: { ready: () => ({ ok: true }) },
  })
  return { app, steps: [] }
}
