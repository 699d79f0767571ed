import type { Checkpoint, Group, JournalEntry, OwnershipRun, RunWindow, StoredState } from '../domain/journal.ts'

/**
 * How groups and states travel between threads. The structured clone spends most of its time on property names, so
 * whatever comes in hundreds goes as one flat list; bytes are copied once, into buffers that are then handed over.
 */
type Field = string | number | null

export type PackedEntries = { readonly fields: readonly Field[]; readonly attachments: readonly Uint8Array[] }
type PackedCheckpoint = {
  readonly host: string
  readonly seq: number
  readonly state: Uint8Array
  readonly frames: Float64Array
  readonly lengths: Float64Array
  readonly bytes: Uint8Array
}
export type PackedGroup = Omit<Group, 'entries' | 'rows' | 'checkpoints'> & {
  readonly entries: PackedEntries
  readonly rows: Omit<Group['rows'], 'windows'>
  readonly windows: readonly Field[]
  readonly checkpoints: readonly PackedCheckpoint[]
}
export type PackedState = Omit<StoredState, 'entries' | 'checkpoints'> & {
  readonly entries: PackedEntries
  readonly checkpoints: readonly PackedCheckpoint[]
}

const ENTRY_FIELDS = 9
const RUN_FIELDS = 5

/** A copy that may be handed over: the original may be part of a larger buffer, or still in use. */
function copy(bytes: Uint8Array, transfer: ArrayBuffer[]): Uint8Array {
  const copied = new Uint8Array(bytes)
  transfer.push(copied.buffer)
  return copied
}

export function packEntries(entries: readonly JournalEntry[], transfer: ArrayBuffer[]): PackedEntries {
  const fields: Field[] = []
  const attachments: Uint8Array[] = []
  const places = new Map<Uint8Array, number>()
  for (const { seq, host, vm, type, command, outcome, firstGfn, endGfn, attachment } of entries) {
    let place: number | null = null
    if (attachment !== null) {
      place = places.get(attachment) ?? attachments.push(copy(attachment, transfer)) - 1
      places.set(attachment, place)
    }
    fields.push(seq, host, vm, type, command, outcome, firstGfn, endGfn, place)
  }
  return { fields, attachments }
}

export function unpackEntries({ fields, attachments }: PackedEntries): JournalEntry[] {
  const entries: JournalEntry[] = []
  for (let i = 0; i < fields.length; i += ENTRY_FIELDS) {
    const place = fields[i + 8]
    entries.push({
      seq: fields[i] as number,
      host: fields[i + 1] as string,
      vm: fields[i + 2] as string | null,
      type: fields[i + 3] as string,
      command: fields[i + 4] as string,
      outcome: fields[i + 5] as string,
      firstGfn: fields[i + 6] as number | null,
      endGfn: fields[i + 7] as number | null,
      attachment: typeof place === 'number' ? (attachments[place] ?? null) : null,
    })
  }
  return entries
}

function packWindows(windows: readonly RunWindow[]): Field[] {
  const fields: Field[] = []
  for (const { vm, start, end, runs } of windows) {
    fields.push(vm, start, end, runs.length)
    for (const run of runs) fields.push(run.start, run.count, run.owner, run.visibility, run.hardware)
  }
  return fields
}

function unpackWindows(fields: readonly Field[]): RunWindow[] {
  const windows: RunWindow[] = []
  for (let i = 0; i < fields.length; ) {
    const [vm, start, end, length] = fields.slice(i, i + 4) as [string, number, number, number]
    const runs: OwnershipRun[] = []
    i += 4
    for (const after = i + length * RUN_FIELDS; i < after; i += RUN_FIELDS) {
      runs.push({
        start: fields[i] as number,
        count: fields[i + 1] as number,
        owner: fields[i + 2] as string,
        visibility: fields[i + 3] as string,
        hardware: fields[i + 4] as string,
      })
    }
    windows.push({ vm, start, end, runs })
  }
  return windows
}

export function packCheckpoint({ host, seq, state, contents }: Checkpoint, transfer: ArrayBuffer[]): PackedCheckpoint {
  const pages = [...contents.values()]
  const frames = Float64Array.from(contents.keys())
  const lengths = Float64Array.from(pages, (page) => page.length)
  const bytes = new Uint8Array(lengths.reduce((total, length) => total + length, 0))
  let at = 0
  for (const page of pages) {
    bytes.set(page, at)
    at += page.length
  }
  transfer.push(frames.buffer, lengths.buffer, bytes.buffer)
  return { host, seq, state: copy(state, transfer), frames, lengths, bytes }
}

export function unpackCheckpoint({ host, seq, state, frames, lengths, bytes }: PackedCheckpoint): Checkpoint {
  const contents = new Map<number, Uint8Array>()
  let at = 0
  for (const [i, frame] of frames.entries()) {
    const end = at + (lengths[i] ?? 0)
    contents.set(frame, bytes.subarray(at, end))
    at = end
  }
  return { host, seq, state, contents }
}

export function packGroup({ entries, rows, replies, checkpoints }: Group, transfer: ArrayBuffer[]): PackedGroup {
  const { windows, ...others } = rows
  return {
    entries: packEntries(entries, transfer),
    rows: others,
    windows: packWindows(windows),
    replies,
    checkpoints: checkpoints.map((checkpoint) => packCheckpoint(checkpoint, transfer)),
  }
}

export const unpackGroup = ({ entries, rows, windows, replies, checkpoints }: PackedGroup): Group => ({
  entries: unpackEntries(entries),
  rows: { ...rows, windows: unpackWindows(windows) },
  replies,
  checkpoints: checkpoints.map(unpackCheckpoint),
})

export const packState = ({ entries, checkpoints, ...rest }: StoredState, transfer: ArrayBuffer[]): PackedState => ({
  ...rest,
  entries: packEntries(entries, transfer),
  checkpoints: checkpoints.map((checkpoint) => packCheckpoint(checkpoint, transfer)),
})

export const unpackState = ({ entries, checkpoints, ...rest }: PackedState): StoredState => ({
  ...rest,
  entries: unpackEntries(entries),
  checkpoints: checkpoints.map(unpackCheckpoint),
})

export type PackedHistory = { readonly checkpoint: PackedCheckpoint | null; readonly entries: PackedEntries }
