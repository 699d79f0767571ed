import { setImmediate as turn } from 'node:timers/promises'
import type { Backend } from '../hw/contract.ts'
import type { HostCommand } from './apply.ts'
import { Changes } from './changes.ts'
import { decodeCommand, encodeOutcome } from './codec.ts'
import type { Command, CommandOf } from './commands.ts'
import { Host } from './host.ts'
import { type Checkpoint, type JournalEntry, StorageError, type StoredState } from './journal.ts'

type Backends = ReadonlyMap<string, Backend>

/** Entries replayed between two turns of the event loop. */
const STRETCH = 1000

export function createHost(
  backends: Backends,
  name: string,
  command: CommandOf<'host.create'>,
  seq: number,
  changes: Changes,
): Host {
  const options = { name, frames: command.memory / 4096, seed: command.seed, seq }
  return Host.create(backendOf(backends, command.technology), options, changes)
}

/** A fresh machine in the place of an old one: its VMs and memfiles are gone. */
export function rebootHost(old: Host, seq: number, changes: Changes): Host {
  const { name, frames, seed, vms, memfiles } = old.state
  for (const [id, vm] of vms) {
    changes.vm(id)
    for (const slot of vm.slots) changes.memslots.add(`${id}/${slot.slot}`)
  }
  for (const id of memfiles.keys()) changes.memfile(id)
  return Host.create(old.backend, { name, frames, seed, seq }, changes)
}

/** Every host from what is stored. A replay that comes to another outcome than was answered is damage. */
export function recover(backends: Backends, stored: StoredState, changes: Changes): Map<string, Host> {
  const hosts = new Map<string, Host>()
  for (const checkpoint of stored.checkpoints) hosts.set(checkpoint.host, restore(backends, checkpoint, changes))
  for (const entry of stored.entries) replay(backends, hosts, entry, changes)
  return hosts
}

function restore(backends: Backends, checkpoint: Checkpoint, changes: Changes): Host {
  return Host.restore((technology) => backendOf(backends, technology), checkpoint, changes)
}

function backendOf(backends: Backends, technology: string): Backend {
  const backend = backends.get(technology)
  if (backend === undefined) {
    throw new StorageError('newer', `This gmemd has no backend for technology "${technology}", which the data needs.`)
  }
  return backend
}

function replay(backends: Backends, hosts: Map<string, Host>, entry: JournalEntry, changes: Changes): void {
  const command: Command = decodeCommand(entry)
  if (command.type === 'host.create') {
    hosts.set(entry.host, createHost(backends, entry.host, command, entry.seq, changes))
    return
  }
  const host = hosts.get(entry.host)
  if (host === undefined) throw new StorageError('damaged', `Journal entry ${entry.seq} is of an unknown host.`)
  if (command.type === 'host.reboot') hosts.set(entry.host, rebootHost(host, entry.seq, changes))
  else replayCommand(host, entry, command)
}

function replayCommand(host: Host, entry: JournalEntry, command: HostCommand): void {
  const applied = host.apply(command, entry.seq)
  if (applied.accepted && encodeOutcome(command, applied) === entry.outcome) return
  throw new StorageError(
    'damaged',
    `Journal entry ${entry.seq} (${entry.type}) replays to another outcome than was answered; ` +
      'it was written by another version of gmemd: start that one once and stop it cleanly.',
  )
}

/** The host at the end of `history`, or undefined when it did not exist by then. */
export async function replayTo(
  backends: Backends,
  history: { readonly checkpoint: Checkpoint | null; readonly entries: readonly JournalEntry[] },
): Promise<Host | undefined> {
  const changes = new Changes()
  const hosts = new Map<string, Host>()
  const { checkpoint } = history
  if (checkpoint !== null) hosts.set(checkpoint.host, restore(backends, checkpoint, changes))
  let replayed = 0
  for (const entry of history.entries) {
    replay(backends, hosts, entry, changes)
    changes.clear()
    if (++replayed % STRETCH === 0) await turn()
  }
  return hosts.values().next().value
}
