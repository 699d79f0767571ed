import Type, { type Static } from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { presentRequest, type RequestOutcome } from '../domain/guest-requests.ts'
import { invalid } from '../domain/refusal.ts'
import { PAGES_IN, type RequestEntry } from '../hw/contract.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { BATCH_ENTRIES, BATCH_PAGES, BULK_BODY_BYTES } from './limits.ts'
import { type Json, mutation } from './mutation.ts'
import { vmRevision } from './reading.ts'
import { AddressInput, parseFrame } from './schemas/address.ts'
import { Exit, Status } from './schemas/exit.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { VmParams } from './schemas/names.ts'
import { closed, mutated } from './schemas/output.ts'
import { mutationProblems } from './schemas/problem.ts'

/** Guest-physical addresses end at 2^52. */
const GFN_LIMIT = 2 ** 40

const Entry = closed({
  gpa: AddressInput,
  pages: Type.Optional(
    Type.Integer({ minimum: 1, maximum: BATCH_PAGES, default: 1, description: 'Pages of `pageSize`.' }),
  ),
  pageSize: Type.Optional(Type.Enum(['4K', '2M', '1G'], { default: '4K' })),
  operation: Type.Enum(['private', 'shared', 'psmash', 'unsmash']),
})
type Entry = Static<typeof Entry>

const Change = closed(
  {
    vcpu: Type.Optional(Type.Integer({ minimum: 0, maximum: 511, default: 0 })),
    accept: Type.Optional(
      Type.Boolean({
        default: false,
        description: "Also perform the guest's acceptance where the technology has one.",
      }),
    ),
    entries: Type.Array(Entry, { minItems: 1, maxItems: BATCH_ENTRIES }),
  },
  { examples: [{ entries: [{ gpa: '0x100000', pages: 16, operation: 'shared' }] }] },
)

const Changed = mutated(
  {
    completed: Type.Integer({ description: 'Entries that are done.' }),
    entries: Type.Array(closed({ status: Status })),
    exits: Type.Array(Exit, { description: 'Exits that happened on the way, and how the VMM answered them.' }),
    exitsOmitted: Type.Optional(
      Type.Integer({ description: 'Exits that followed, where there were too many to list.' }),
    ),
    waiting: Type.Optional(Exit),
  },
  'What came of each entry.',
)

/** The guest asks for memory to become private or shared, in its technology's own way. */
export function pageStateRoutes(app: Routes, { engine }: Api): void {
  const change = mutation<CommandOf<'page-states'>>(engine, { revision: vmRevision, present })

  app.post(
    '/v1/vms/:vm/page-states',
    {
      bodyLimit: BULK_BODY_BYTES,
      schema: {
        operationId: 'changePageStates',
        tags: ['page states'],
        summary: 'Change page states, as the guest',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: Change,
        response: { 200: Changed, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const { vcpu = 0, accept = false, entries } = request.body
      const command = { type: 'page-states', vm, vcpu, accept, entries: parseEntries(entries) } as const
      return change(request, reply, engine.hostOfVm(vm), command)
    },
  )
}

function parseEntries(entries: readonly Entry[]): RequestEntry[] {
  let total = 0
  return entries.map((entry, index) => {
    total += entry.pages ?? 1
    if (total <= BATCH_PAGES) return parseEntry(entry, index)
    return unwrap(invalid('too-many-pages', `A batch names at most ${BATCH_PAGES} pages.`, `/entries/${index}/pages`))
  })
}

function parseEntry(entry: Entry, index: number): RequestEntry {
  const parsed = parseFrame(entry.gpa, '')
  if (!parsed.ok) return unwrap(invalid(parsed.refusal.code, parsed.refusal.detail, `/entries/${index}/gpa`))
  const gfn = parsed.value
  const pages = entry.pages ?? 1
  const span = entry.pageSize === undefined ? 1 : PAGES_IN[entry.pageSize]
  if (gfn + pages * span > GFN_LIMIT) {
    const field = gfn < GFN_LIMIT ? 'pages' : 'gpa'
    unwrap(invalid('gpa-beyond-limit', 'The entry ends beyond 2^52.', `/entries/${index}/${field}`))
  }
  return { gfn, pages, span, operation: entry.operation }
}

function present(value: Json): Json {
  const body = presentRequest(value as unknown as RequestOutcome)
  if (value.events !== undefined) body.events = value.events
  if (value.hostCrashed !== undefined) body.hostCrashed = value.hostCrashed
  return body
}
