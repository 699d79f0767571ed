/**
 * The journal port: what the domain asks of durable storage. A store implements it; the domain never sees SQL.
 *
 * One {@link Group} is one transaction. When `commit` resolves the whole group is on disk; when it rejects with a
 * {@link StorageError} the outcome of the group is unknown until `reopen` has read back what is really there.
 */
export type JournalEntry = {
  readonly seq: number
  readonly host: string
  readonly vm: string | null
  readonly type: string
  /** The command as JSON, without its attachment. */
  readonly command: string
  /** What came of it, as JSON. Replay must arrive at the same text. */
  readonly outcome: string
  /** Guest frames the command touched: first and one past the last; null when it touched none. */
  readonly firstGfn: number | null
  readonly endGfn: number | null
  /** Bytes the command carries beside its JSON (a firmware image); null when none. */
  readonly attachment: Uint8Array | null
}

/** A maximal run of guest pages that agree, as people query it. `hardware` is JSON. */
export type OwnershipRun = {
  readonly start: number
  readonly count: number
  readonly owner: string
  readonly visibility: string
  readonly hardware: string
}

/** Replaces every stored run of `vm` inside [start, end) by `runs`; neighbours that then agree are merged. */
export type RunWindow = {
  readonly vm: string
  readonly start: number
  readonly end: number
  readonly runs: readonly OwnershipRun[]
}

export type HostRow = {
  readonly name: string
  readonly technology: string
  readonly memoryBytes: number
  readonly state: string
  readonly revision: number
}

export type VmRow = {
  readonly id: string
  readonly name: string | null
  readonly host: string
  readonly technology: string
  readonly state: string
  readonly privacy: string
  readonly conversion: string
  readonly vcpus: number
  readonly revision: number
}

export type MemfileRow = {
  readonly id: string
  readonly name: string | null
  readonly host: string
  readonly vm: string | null
  readonly state: string
  readonly pages: number
  readonly allocatedPages: number
  readonly revision: number
}

export type MemslotRow = {
  readonly vm: string
  readonly slot: number
  readonly firstGfn: number
  readonly pages: number
  readonly memfile: string | null
  readonly memfileFirstPage: number
  /** Host user frame number of the shared part; null when it has none. */
  readonly sharedHvaFrame: number | null
  readonly readOnly: boolean
  readonly dirtyLog: boolean
  readonly revision: number
}

/** Rows that people can query, changed by a group; `null` rows are deletions. */
export type Rows = {
  readonly hosts: ReadonlyMap<string, HostRow | null>
  readonly vms: ReadonlyMap<string, VmRow | null>
  readonly memfiles: ReadonlyMap<string, MemfileRow | null>
  /** Keyed `${vm}/${slot}`. */
  readonly memslots: ReadonlyMap<string, MemslotRow | null>
  /** Applied after the rows above; the runs of a deleted VM go with it. */
  readonly windows: readonly RunWindow[]
}

/** The stored answer to a request that carried an Idempotency-Key. */
export type StoredReply = {
  readonly key: string
  readonly fingerprint: string
  readonly seq: number
  readonly status: number
  readonly headers: string
  readonly body: string
}

/** A host's whole state at `seq`, from which recovery starts. Contents of pages are kept apart, one row a frame. */
export type Checkpoint = {
  readonly host: string
  readonly seq: number
  readonly state: Uint8Array
  readonly contents: ReadonlyMap<number, Uint8Array>
}

export type Group = {
  readonly entries: readonly JournalEntry[]
  readonly rows: Rows
  readonly replies: readonly StoredReply[]
  readonly checkpoints: readonly Checkpoint[]
}

/** What is on disk: per host the newest checkpoint, and every later entry in order of `seq`, over all hosts. */
export type StoredState = {
  readonly lastSeq: number
  readonly checkpoints: readonly Checkpoint[]
  readonly entries: readonly JournalEntry[]
  /** The newest stored replies, oldest first. */
  readonly replies: readonly StoredReply[]
}

export type JournalQuery = {
  readonly vm?: string
  readonly host?: string
  /** Entries with a greater `seq` only. */
  readonly after: number
  readonly limit: number
}

export interface JournalPort {
  /** Opens what is there, verifies it, and returns the state to recover from. */
  open(): Promise<StoredState>
  commit(group: Group): Promise<void>
  /** After a failed commit: closes the database, opens it anew and reads back what is really on disk. */
  reopen(): Promise<StoredState>
  /** Whether a write would reach the disk now; used to become ready again after a failure. */
  probe(): Promise<boolean>
  list(query: JournalQuery): Promise<readonly JournalEntry[]>
  /** The newest entries that touched guest frame `gfn` of `vm`, newest first. */
  touching(vm: string, gfn: number, limit: number): Promise<readonly JournalEntry[]>
  /** What rebuilds `host` as of `upTo`: the newest checkpoint not after it, and the entries from there to it. */
  history(host: string, upTo: number): Promise<{ checkpoint: Checkpoint | null; entries: readonly JournalEntry[] }>
  close(): Promise<void>
}

/**
 * Why storage failed. `full`: no space, nothing of the group was kept. `io`: the group's outcome is unknown until
 * `reopen`. `damaged`: what is stored is not what was written; nothing was changed. `locked`: another process has it.
 * `newer`: written by a newer program. `unusable`: the place cannot be used (read-only, not a directory, foreign file).
 */
export class StorageError extends Error {
  readonly code: 'full' | 'io' | 'damaged' | 'locked' | 'newer' | 'unusable'

  constructor(code: StorageError['code'], message: string, options?: ErrorOptions) {
    super(message, options)
    this.name = 'StorageError'
    this.code = code
  }
}
