// Tells what gmemd does, over HTTP alone, and checks every word of it:
//   npm run example                                    against a running gmemd, http://127.0.0.1:7070 or GMEMD
//   npm run example -- --technology tdx                cca or sw-protected; sev-snp where nothing is said
//   npm run example -- --firmware OVMF.fd              launches your image
//   npm run example -- --kill                          starts a gmemd of its own, kills it and starts it again
import { readFileSync } from 'node:fs'
import { parseArgs } from 'node:util'
import { Gmemd } from './client.ts'
import { tellKill } from './kill-story.ts'
import { end, NotAsTold } from './narrator.ts'
import { STORIES } from './stories.ts'

const USAGE = `usage: story.ts [--technology ${[...STORIES.keys()].join('|')}] [--firmware FILE] [--kill]`
const options = {
  technology: { type: 'string', default: 'sev-snp' },
  firmware: { type: 'string' },
  kill: { type: 'boolean', default: false },
} as const

try {
  const { values } = parseArgs({ options })
  const { technology, firmware, kill } = values
  const gmemd = new Gmemd(process.env.GMEMD ?? 'http://127.0.0.1:7070')
  const story = STORIES.get(technology)
  if (story === undefined) throw new Error(USAGE)
  if (firmware !== undefined && (kill || !story.launches)) throw new Error(USAGE)
  if (kill) await tellKill(technology)
  else await story.tell(gmemd, firmware === undefined ? undefined : readFileSync(firmware))
  end()
} catch (error) {
  console.error(`\n${messageOf(error)}`)
  process.exitCode = 1
}

function messageOf(error: unknown): string {
  if (!(error instanceof Error)) return String(error)
  if (error instanceof NotAsTold || !(error.cause instanceof Error)) return error.message
  return `${error.message}: ${error.cause.message}\nIs gmemd running? "npm start" starts it.`
}
