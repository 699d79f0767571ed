import Type, { type Static } from 'typebox'
import type { Engine } from '../domain/engine.ts'
import type { Host } from '../domain/host.ts'
import { pageRuns } from '../domain/present.ts'
import { notFound } from '../domain/refusal.ts'
import type { VmState } from '../domain/state.ts'
import type { Api, Routes } from './api.ts'
import { RefusalError, unwrap } from './errors.ts'
import { parseNumberPage } from './listing.ts'
import type { Json } from './mutation.ts'
import { hostOfVm, read, vmOf, whenServing } from './reading.ts'
import { AddressOutput } from './schemas/address.ts'
import { Bytes64Text, parseFrames } from './schemas/bytes64.ts'
import { VmParams } from './schemas/names.ts'
import { closed, openObject } from './schemas/output.ts'
import { formatCursor, listOf, pageQuery } from './schemas/pagination.ts'
import { problems } from './schemas/problem.ts'
import { DecimalText, parseDecimal } from './schemas/query.ts'

const Window = closed({
  ...pageQuery,
  gpa: Type.Optional(Bytes64Text),
  length: Type.Optional(Bytes64Text),
  at: Type.Optional(DecimalText),
})
type Window = Static<typeof Window>

export const runMembers = {
  gpa: AddressOutput,
  length: Type.Integer(),
  owner: Type.String({ description: '"guest", "host", "none", or the technology\'s own word.' }),
  visibility: Type.Enum(['private', 'shared']),
  backing: closed({ private: Type.Boolean(), shared: Type.Boolean() }),
  hardware: openObject("The technology's own words for its state."),
}

/** Who owns what of a VM's memory, now or at any point of its history. */
export function pageRunRoutes(app: Routes, { engine }: Api): void {
  app.get(
    '/v1/vms/:vm/page-states',
    {
      schema: {
        operationId: 'listPageStates',
        tags: ['page states'],
        summary: 'List runs of pages that agree, now or as of a journal sequence number',
        params: VmParams,
        querystring: Window,
        response: { 200: listOf(closed(runMembers), 'Runs in order of their gpa.'), ...problems(404) },
      },
    },
    ({ params, query }) => {
      if (query.at !== undefined) return runsAt(engine, params.vm, query, query.at)
      return read(engine, () => runs(hostOfVm(engine, params.vm), params.vm, query))
    },
  )
}

function runs(host: Host, id: string, query: Window): Json {
  const vm = vmOf(host, id)
  const { start, end } = windowOf(vm, query)
  const { limit, after } = parseNumberPage(query, end)
  const { items, next } = pageRuns(host, vm, Math.max(start, after), end, limit)
  return { items, nextCursor: next === null ? null : formatCursor(String(next)) }
}

async function runsAt(engine: Engine, vm: string, query: Window, at: string): Promise<Json> {
  await whenServing(engine)
  const seq = unwrap(parseDecimal(at, '/at', { maximum: engine.durableSeq }), 'query')
  const host = await hostOfEver(engine, vm)
  const past = await engine.at(host, seq)
  return past === undefined ? unwrap(notFound('vm', vm)) : runs(past, vm, query)
}

/** The host of a VM that is or once was: history does not end with its deletion. */
async function hostOfEver(engine: Engine, vm: string): Promise<Host> {
  const [first] = engine.hostOfVm(vm) === undefined ? await engine.journal({ vm, after: 0, limit: 1 }) : []
  return (first && engine.hosts.get(first.host)) ?? hostOfVm(engine, vm)
}

/** What the query names; by default everything up to the end of the last slot. */
function windowOf(vm: VmState, { gpa, length }: Window): { start: number; end: number } {
  const start = gpa === undefined ? 0 : unwrap(parseFrames(gpa, '/gpa'), 'query')
  if (length === undefined) {
    const last = vm.slots.at(-1)
    return { start, end: last === undefined ? start : Math.max(start, last.firstGfn + last.pages) }
  }
  const end = start + unwrap(parseFrames(length, '/length'), 'query')
  if (end > start && end <= 2 ** 40) return { start, end }
  const detail = end === start ? 'The length is 0.' : 'The range ends beyond 2^52.'
  throw new RefusalError({ kind: 'invalid', code: 'bad-range', detail, pointer: '/length' }, 'query')
}
