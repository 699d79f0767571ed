import type { TestContext } from 'node:test'
import { type App, type AppOptions, buildApp } from '../../src/server/app.ts'
import { Metrics } from '../../src/server/metrics.ts'
import { strictResponses } from './strict-responses.ts'

/** An application with the given routes and strict replies, closed when the test ends. */
export async function testApp(t: TestContext, options: Partial<AppOptions> = {}): Promise<App> {
  const strict = strictResponses()
  const app = await buildApp({
    metrics: new Metrics({ processMetrics: false }),
    registerRoutes: () => {},
    health: { ready: () => ({ ok: true }) },
    instrument: strict.instrument,
    ...options,
  })
  t.after(async () => {
    await app.close()
    strict.verify()
  })
  return app
}

/** The members of a schema that every route must have. */
export const documented = (operationId: string) => ({ operationId, summary: operationId, tags: ['test'] })
