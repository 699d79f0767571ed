import Type from 'typebox'
import { decodeCommand } from '../../domain/codec.ts'
import type { JournalEntry } from '../../domain/journal.ts'
import { addressOf } from '../../hw/shared/address-schema.ts'
import { AddressOutput } from './address.ts'
import { closed, nullable, openObject } from './output.ts'

type Json = Record<string, unknown>

/** A journal entry as clients see it. */
export const Entry = closed(
  {
    seq: Type.Integer(),
    host: Type.String(),
    vm: nullable(Type.String()),
    type: Type.String({ examples: ['page-states'] }),
    gpa: nullable(AddressOutput),
    length: nullable(Type.Integer({ description: 'Bytes of guest memory it was about, from `gpa`.' })),
    command: openObject('What was asked. Contents of memory are not shown.'),
    outcome: openObject('What came of it.'),
  },
  { description: 'One command that a host accepted.' },
)

export function presentEntry(entry: JournalEntry): Json {
  const { seq, host, vm, type, firstGfn, endGfn } = entry
  const { type: _, ...command } = decodeCommand(entry)
  return {
    seq,
    host,
    vm,
    type,
    gpa: firstGfn === null ? null : addressOf(firstGfn),
    length: firstGfn === null || endGfn === null ? null : (endGfn - firstGfn) * 4096,
    command: withoutContents(command),
    outcome: withoutContents(JSON.parse(entry.outcome)),
  }
}

/** Members that hold bytes of memory or secrets: history says that they were there, not what they were. */
const CONTENTS: ReadonlySet<string> = new Set(['data', 'secret', 'contents', 'packet', 'page'])

function withoutContents(value: unknown): unknown {
  if (value instanceof Uint8Array) return `(${value.length} bytes)`
  if (Array.isArray(value)) return value.map(withoutContents)
  if (typeof value !== 'object' || value === null) return value
  const shown = Object.entries(value).map(([name, member]) => {
    const hidden = typeof member === 'string' && CONTENTS.has(name)
    return [name, hidden ? `(${Buffer.byteLength(member, 'base64')} bytes)` : withoutContents(member)]
  })
  return Object.fromEntries(shown)
}
