import { deserialize, serialize } from 'node:v8'
import type { Backend } from '../hw/contract.ts'
import { type Accepted, type Applied, refused } from './applied.ts'
import { applyCommand, type HostCommand } from './apply.ts'
import type { Changes } from './changes.ts'
import type { HostContext } from './context.ts'
import * as framePool from './frame-pool.ts'
import type { Checkpoint } from './journal.ts'
import { PhysicalMemory } from './memory.ts'
import { conflict } from './refusal.ts'
import type { Contents, HostState } from './state.ts'

export type HostOptions = {
  readonly name: string
  readonly frames: number
  readonly seed: string
  readonly seq: number
}

/** One emulated machine: a deterministic state machine over {@link HostState}. */
export class Host implements HostContext {
  readonly backend: Backend
  readonly state: HostState
  readonly hardware: HostContext['hardware']
  readonly memory: PhysicalMemory
  readonly changes: Changes
  seq: number

  private constructor(backend: Backend, state: HostState, contents: Contents, changes: Changes, seq: number) {
    this.backend = backend
    this.state = state
    this.changes = changes
    this.seq = seq
    this.memory = new PhysicalMemory(state, contents)
    this.hardware = backend.open(state.hardware, this.memory)
  }

  static create(backend: Backend, options: HostOptions, changes: Changes): Host {
    const state: HostState = {
      name: options.name,
      technology: backend.technology,
      frames: options.frames,
      seed: options.seed,
      revision: options.seq,
      crashed: null,
      // Frame 0 is never given away, as on any real machine.
      pool: framePool.create(options.frames, 1),
      hardware: backend.createData({ frames: options.frames, seed: options.seed }),
      vms: new Map(),
      memfiles: new Map(),
      pinned: new Map(),
      orphans: new Set(),
    }
    const host = new Host(backend, state, new Map(), changes, options.seq)
    const metadataFrames = Math.ceil(host.hardware.metadataBytes / 4096)
    if (metadataFrames > 0) framePool.claim(state.pool, options.frames - metadataFrames, metadataFrames)
    changes.hosts.add(options.name)
    return host
  }

  /** A host from a checkpoint; `backendOf` finds the backend of its technology. */
  static restore(backendOf: (technology: string) => Backend, checkpoint: Checkpoint, changes: Changes): Host {
    // A copy, because deserialize makes typed arrays that are windows into the bytes it reads.
    const state = deserialize(Buffer.from(checkpoint.state)) as HostState
    return new Host(backendOf(state.technology), state, new Map(checkpoint.contents), changes, checkpoint.seq)
  }

  /** The whole state but for page contents, as bytes for {@link Host.restore}. */
  snapshot(): Uint8Array {
    return serialize(this.state)
  }

  /** Applies a command. A refused command has changed nothing. */
  apply(command: HostCommand, seq: number): Applied {
    if (this.state.crashed !== null) {
      const detail = `Host "${this.state.name}" has crashed: ${this.state.crashed.reason}`
      const states = { currentState: 'crashed', allowedStates: ['up'] }
      const crashed = conflict('host-crashed', detail, states)
      if (!crashed.ok) return refused(crashed.refusal)
    }
    this.seq = seq
    const applied = this.#keepIfCrashed(applyCommand(this, command), command)
    if (!applied.accepted) {
      this.memory.events = []
      return applied
    }
    this.state.revision = seq
    return this.#finish(applied)
  }

  /** A command that killed the host has happened, whatever it would have been answered otherwise. */
  #keepIfCrashed(applied: Applied, command: HostCommand): Applied {
    if (applied.accepted || this.memory.crashReason === undefined) return applied
    const vm = 'vm' in command ? command.vm : null
    return { accepted: true, value: {}, vm, firstGfn: null, endGfn: null, partial: applied.refusal }
  }

  /** Adds what the host did by itself, and what became of it. */
  #finish(applied: Accepted): Accepted {
    const { memory } = this
    if (memory.events.length > 0) {
      const events = memory.events
      memory.events = []
      applied.value.events = events
    }
    if (memory.crashReason !== undefined) {
      this.state.crashed = { reason: memory.crashReason, seq: this.seq }
      applied.value.hostCrashed = memory.crashReason
      memory.crashReason = undefined
      this.changes.hosts.add(this.state.name)
    }
    return applied
  }
}
