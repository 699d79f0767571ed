import type { JournalQuery, StorageError } from '../domain/journal.ts'
import type { PackedEntries, PackedGroup, PackedHistory, PackedState } from './wire.ts'

/** What the thread can be asked, and what it answers. */
export type Calls = {
  open: { args: []; answer: PackedState }
  reopen: { args: []; answer: PackedState }
  commit: { args: [epoch: number, group: PackedGroup]; answer: null }
  probe: { args: []; answer: boolean }
  list: { args: [JournalQuery]; answer: PackedEntries }
  touching: { args: [vm: string, gfn: number, limit: number]; answer: PackedEntries }
  history: { args: [host: string, upTo: number]; answer: PackedHistory }
  close: { args: []; answer: null }
}

export type CallName = keyof Calls
export type Request = {
  [K in CallName]: { readonly id: number; readonly call: K; readonly args: Calls[K]['args'] }
}[CallName]
export type Failure = { readonly code: StorageError['code']; readonly message: string }
export type Answer = { readonly id: number } & (
  | { readonly ok: true; readonly value: Calls[CallName]['answer'] }
  | { readonly ok: false; readonly failure: Failure }
)
