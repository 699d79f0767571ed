import { setTimeout as sleep } from 'node:timers/promises'
import type { Logger } from 'pino'
import { DRAIN_MS, STOP_MS } from '../routes/limits.ts'
import type { App } from './app.ts'
import type { Lifecycle } from './lifecycle.ts'

/** Process exit code for a fault of our own (EX_SOFTWARE of sysexits.h). */
export const EX_SOFTWARE = 70

const IDLE_CHECK_MS = 25
const LOG_FLUSH_MS = 100
/** Ctrl-C reaches a whole process group, and a launcher in it passes it on: one stop, though two signals. */
const SAME_SIGNAL_MS = 100

/** Something to close after the last request is answered. Steps run one after the other, in order. */
export type CloseStep = { readonly name: string; readonly close: () => void | Promise<void> }

export type ProcessOptions = {
  readonly app: App
  readonly lifecycle: Lifecycle
  readonly logger: Logger
  readonly steps: readonly CloseStep[]
}

/**
 * Ties the application to its process. SIGTERM and SIGINT stop it in order and exit 0; a second one exits at once.
 * An exception that nobody caught is logged and exits 70, after readiness is withdrawn.
 */
export function superviseProcess(options: ProcessOptions): void {
  const { lifecycle, logger } = options
  let stoppingSince: number | undefined
  const onSignal = (signal: NodeJS.Signals, number: number) => {
    if (stoppingSince !== undefined) {
      if (performance.now() - stoppingSince > SAME_SIGNAL_MS) process.exit(128 + number)
      return
    }
    stoppingSince = performance.now()
    logger.info({ signal }, 'stopping')
    stop(options).then(
      (clean) => exit(clean ? 0 : EX_SOFTWARE),
      (error: unknown) => {
        logger.fatal({ err: error }, 'the stop failed')
        exit(EX_SOFTWARE)
      },
    )
  }
  process.on('SIGTERM', onSignal)
  process.on('SIGINT', onSignal)

  const onFault = (error: unknown) => {
    lifecycle.fail()
    logger.fatal({ err: error }, 'uncaught error')
    exit(EX_SOFTWARE)
  }
  process.on('uncaughtException', onFault)
  process.on('unhandledRejection', onFault)

  ignoreClosedOutput()
}

/** A reader of our output that goes away is no reason to stop serving. */
export function ignoreClosedOutput(): void {
  process.on('SIGPIPE', () => {})
  process.stdout.on('error', () => {})
  process.stderr.on('error', () => {})
}

/** Drains and closes everything. False when something did not finish in time. */
export async function stop({ app, lifecycle, logger, steps }: ProcessOptions): Promise<boolean> {
  const deadline = AbortSignal.timeout(STOP_MS)
  const late = new Promise<false>((resolve) => {
    deadline.addEventListener('abort', () => {
      logger.error('the stop took too long')
      resolve(false)
    })
  })
  return Promise.race([late, drainAndClose({ app, lifecycle, logger, steps })])
}

async function drainAndClose({ app, lifecycle, steps }: ProcessOptions): Promise<true> {
  lifecycle.drain()
  // At once, not after the hooks that app.close() runs first: no new connection from here on.
  app.server.close()
  const closed = app.close()
  const drained = { done: false }
  await Promise.all([
    closed.then(() => {
      drained.done = true
    }),
    closeIdleConnections(app, drained),
  ])
  for (const step of steps) await step.close()
  return true
}

/** A connection whose last request began before the drain is kept alive by its client, and closed here. */
async function closeIdleConnections(app: App, drained: { done: boolean }): Promise<void> {
  const last = performance.now() + DRAIN_MS
  while (!drained.done) {
    if (performance.now() > last) app.server.closeAllConnections()
    else app.server.closeIdleConnections()
    await sleep(IDLE_CHECK_MS)
  }
}

/** Exits when the log is written, or soon when its reader does not take it. */
function exit(code: number): void {
  const leave = () => process.exit(code)
  setTimeout(leave, LOG_FLUSH_MS)
  process.stderr.write('', leave)
}
