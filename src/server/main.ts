import { StorageError } from '../domain/journal.ts'
import { compose } from './compose.ts'
import { EX_CONFIG, readConfig } from './config.ts'
import { Lifecycle } from './lifecycle.ts'
import { ListenError, listen } from './listen.ts'
import { createLogger } from './log.ts'
import { superviseProcess } from './shutdown.ts'

const read = readConfig(process.env)
if (!read.ok) {
  for (const problem of read.problems) process.stderr.write(`${problem}\n`)
  process.exit(EX_CONFIG)
}
const { config } = read
const logger = createLogger(config.logLevel)
const lifecycle = new Lifecycle()
const composed = await compose({ config, logger, lifecycle }).catch((error: unknown) => {
  if (!(error instanceof StorageError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exit(EX_CONFIG)
})
const { app, steps } = composed
superviseProcess({ app, lifecycle, logger, steps })
try {
  const address = await listen(app, config.listen)
  process.stdout.write(`gmemd listening on ${address}\n`)
} catch (error) {
  if (!(error instanceof ListenError)) throw error
  process.stderr.write(`${error.message}\n`)
  process.exit(EX_CONFIG)
}
