import type { Status } from '../hw/contract.ts'
import { isSuccess } from '../hw/shared/status.ts'
import type { Accepted } from './applied.ts'
import type { Command } from './commands.ts'
import type { RequestOutcome } from './guest-requests.ts'
import type { JournalEntry } from './journal.ts'

/**
 * Commands and outcomes as journal text. Page-state changes come by the million and are written by hand, into a compact
 * form that is JSON all the same; everything else is plain JSON.
 */

const OPERATIONS = ['private', 'shared', 'psmash', 'unsmash'] as const

/** How an entry of one 4 KiB page ends: the usual one. */
const ONE_PAGE = { private: ',1,1,0', shared: ',1,1,1', psmash: ',1,1,2', unsmash: ',1,1,3' } as const

/** The command as JSON, without its attachment. */
export function encodeCommand(command: Command): string {
  if (command.type === 'page-states') {
    let text = `["${command.vm}",${command.vcpu},${command.accept ? 1 : 0}`
    for (const entry of command.entries) {
      text +=
        entry.pages === 1 && entry.span === 1
          ? `,${entry.gfn}${ONE_PAGE[entry.operation]}`
          : `,${entry.gfn},${entry.pages},${entry.span},${OPERATIONS.indexOf(entry.operation)}`
    }
    return `${text}]`
  }
  return 'attachment' in command ? JSON.stringify({ ...command, attachment: null }) : JSON.stringify(command)
}

const PAGE_STATES_HEADER = 3
const PAGE_STATES_ENTRY = 4

/** The command of a journal entry. */
export function decodeCommand(entry: Pick<JournalEntry, 'type' | 'command' | 'attachment'>): Command {
  const parsed: unknown = JSON.parse(entry.command)
  if (entry.type === 'page-states' && Array.isArray(parsed)) return decodePageStates(parsed)
  if (entry.attachment !== null) return { ...(parsed as object), attachment: entry.attachment } as Command
  return parsed as Command
}

function decodePageStates(parsed: unknown[]): Command {
  const entries = []
  for (let at = PAGE_STATES_HEADER; at < parsed.length; at += PAGE_STATES_ENTRY) {
    entries.push({
      gfn: Number(parsed[at]),
      pages: Number(parsed[at + 1]),
      span: Number(parsed[at + 2]),
      operation: OPERATIONS[Number(parsed[at + 3])] ?? 'private',
    })
  }
  return { type: 'page-states', vm: String(parsed[0]), vcpu: Number(parsed[1]), accept: parsed[2] === 1, entries }
}

/** One entry, one exit, success: what nearly every page-state change comes to. Undefined for all others. */
function usualText({ completed, exits, statuses, waiting }: RequestOutcome): string | undefined {
  const [status] = statuses
  const usual = completed === 1 && exits.length === 1 && waiting === undefined && statuses.length === 1
  if (!usual || status === undefined || !isSuccess(status)) return undefined
  return `{"completed":1,"exits":1,"statuses":["${status.name}",1]}`
}

const statusText = (status: Status | undefined): string =>
  status === undefined ? 'NOT_PROCESSED' : isSuccess(status) ? status.name : `${status.name} ${status.code}`

/** What came of a command, as JSON that a replay must arrive at again. */
export function encodeOutcome(command: Command, applied: Accepted): string {
  if (command.type === 'page-states' && applied.partial === undefined) {
    const outcome = applied.value as unknown as RequestOutcome
    const usual = usualText(outcome)
    if (usual !== undefined && applied.value.events === undefined && applied.value.hostCrashed === undefined)
      return usual
    let text = `{"completed":${outcome.completed},"exits":${outcome.exits.length + (outcome.omitted ?? 0)},"statuses":[`
    let previous = ''
    let count = 0
    for (const status of outcome.statuses) {
      const name = statusText(status)
      if (name === previous) {
        count++
        continue
      }
      if (count > 0) text += `"${previous}",${count},`
      previous = name
      count = 1
    }
    text += `"${previous}",${count}]`
    const { events, hostCrashed } = applied.value
    if (events !== undefined) text += `,"events":${JSON.stringify(events)}`
    if (hostCrashed !== undefined) text += `,"hostCrashed":${JSON.stringify(hostCrashed)}`
    return `${text}}`
  }
  return JSON.stringify(applied.partial === undefined ? applied.value : { ...applied.value, partial: applied.partial })
}

/** The journal entry of an accepted command. */
export function encodeEntry(host: string, seq: number, command: Command, applied: Accepted): JournalEntry {
  return {
    seq,
    host,
    vm: applied.vm,
    type: command.type,
    command: encodeCommand(command),
    outcome: encodeOutcome(command, applied),
    firstGfn: applied.firstGfn,
    endGfn: applied.endGfn,
    attachment: 'attachment' in command ? command.attachment : null,
  }
}
