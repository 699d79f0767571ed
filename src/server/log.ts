import { type Logger, pino } from 'pino'
import type { LogLevel } from './config.ts'

/** Log lines kept while the reader of the log is slow; later ones are dropped so that requests never wait for it. */
const BUFFERED_LOG_BYTES = 1 << 20

/** Fields that never reach the log, at any of the places where one may be logged. */
const SECRETS = ['authorization', 'cookie', 'set-cookie', 'secret', 'secrets', 'launchSecret', 'privateKey', 'token']

export const REDACTED_PATHS: readonly string[] = SECRETS.flatMap((name) => {
  const key = /^\w+$/.test(name) ? `.${name}` : `["${name}"]`
  return [`*${key}`, `*.*${key}`, `*.*.*${key}`, key.replace(/^\./, '')]
})

/**
 * The log goes to stderr as JSON lines; stdout has only the line that says where the service listens. The stream of
 * the process is used because it never blocks on a pipe: a reader that stops costs log lines, not requests.
 */
export function createLogger(level: LogLevel): Logger {
  let dropped = 0
  const write = (line: string) => {
    if (process.stderr.writableLength > BUFFERED_LOG_BYTES) {
      dropped++
      return
    }
    if (dropped > 0) {
      process.stderr.write(`${JSON.stringify({ level: 40, time: Date.now(), dropped, msg: 'log lines dropped' })}\n`)
      dropped = 0
    }
    process.stderr.write(line)
  }
  return pino({ level, base: null, redact: { paths: [...REDACTED_PATHS], censor: '[redacted]' } }, { write })
}
