import Type from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import type { MemfileState, NotifierFlags } from '../domain/state.ts'
import { addressOf } from '../hw/shared/address-schema.ts'
import * as pageMap from '../hw/shared/page-map.ts'
import * as translation from '../hw/shared/translation.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { parseNumberPage } from './listing.ts'
import { memfileMembers, showMemfile } from './memfiles.ts'
import { mutation } from './mutation.ts'
import { hostOfMemfile, memfileOf, memfileRevision, read } from './reading.ts'
import { AddressOutput } from './schemas/address.ts'
import { parseBytes64, SignedSizeInput } from './schemas/bytes64.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { MemfileParams, Name } from './schemas/names.ts'
import { closed, mutated } from './schemas/output.ts'
import { formatCursor, listOf, PageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'

const tags = ['memfiles']
const FLAGS = ['USER_INACCESSIBLE', 'UNMOVABLE', 'UNRECLAIMABLE'] as const
const Range = closed(
  { offset: SignedSizeInput, length: SignedSizeInput },
  { examples: [{ offset: 0, length: '2MiB' }] },
)
const NewConsumer = closed(
  {
    name: Name,
    flags: Type.Array(Type.Enum([...FLAGS]), {
      maxItems: FLAGS.length,
      uniqueItems: true,
      description: 'Every consumer of a memfile must give the same.',
    }),
  },
  { examples: [{ name: 'vfio', flags: [...FLAGS] }] },
)
const Extent = closed({ offset: Type.Integer(), length: Type.Integer(), hpa: AddressOutput })
const Populated = mutated({ ...memfileMembers, populatedBytes: Type.Integer() }, 'The memfile, and what was populated.')
const Freed = mutated({ ...memfileMembers, freedBytes: Type.Integer() }, 'The memfile, and what was freed.')
const Consumed = mutated(memfileMembers, 'The memfile with its consumers.')

/** What a memfile's pages are: populated, punched, listed, and who is told. */
export function memfileRangeRoutes(app: Routes, { engine }: Api): void {
  const fallocate = mutation<CommandOf<'memfile.fallocate'>>(engine, {
    present: showMemfile,
    revision: memfileRevision,
  })
  const punchHole = mutation<CommandOf<'memfile.punch-hole'>>(engine, {
    present: showMemfile,
    revision: memfileRevision,
  })
  const consume = mutation<CommandOf<'memfile.consume'>>(engine, {
    present: showMemfile,
    revision: memfileRevision,
    status: () => 201,
    location: ({ id }) => `/v1/memfiles/${id}`,
  })

  app.post(
    '/v1/memfiles/:memfile/fallocate',
    {
      schema: {
        operationId: 'fallocateMemfile',
        tags,
        summary: "Populate a range: private, in the technology's initial state",
        params: MemfileParams,
        headers: GuardedMutationHeaders,
        body: Range,
        response: { 200: Populated, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { memfile } = request.params
      const command = { type: 'memfile.fallocate', memfile, ...rangeOf(request.body) } as const
      return fallocate(request, reply, engine.hostOfMemfile(memfile), command)
    },
  )

  app.post(
    '/v1/memfiles/:memfile/punch-hole',
    {
      schema: {
        operationId: 'punchHole',
        tags,
        summary: 'Free a range: KVM is notified first, then the hardware',
        params: MemfileParams,
        headers: GuardedMutationHeaders,
        body: Range,
        response: { 200: Freed, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { memfile } = request.params
      const command = { type: 'memfile.punch-hole', memfile, ...rangeOf(request.body) } as const
      return punchHole(request, reply, engine.hostOfMemfile(memfile), command)
    },
  )

  app.get(
    '/v1/memfiles/:memfile/extents',
    {
      schema: {
        operationId: 'listExtents',
        tags,
        summary: 'List the runs of populated pages that lie together in host memory',
        params: MemfileParams,
        querystring: PageQuery,
        response: { 200: listOf(Extent, 'Extents in order of their offset.'), ...problems(404) },
      },
    },
    ({ params, query }) =>
      read(engine, () => extents(memfileOf(hostOfMemfile(engine, params.memfile), params.memfile), query)),
  )

  app.post(
    '/v1/memfiles/:memfile/consumers',
    {
      schema: {
        operationId: 'createConsumer',
        tags,
        summary: "Register another consumer with the memfile's notifier",
        params: MemfileParams,
        headers: GuardedMutationHeaders,
        body: NewConsumer,
        response: { 201: Consumed, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { memfile } = request.params
      const { name, flags } = request.body
      const command = { type: 'memfile.consume', memfile, name, flags: flagsOf(flags) } as const
      return consume(request, reply, engine.hostOfMemfile(memfile), command)
    },
  )
}

const rangeOf = ({ offset, length }: { offset: string | number; length: string | number }) => ({
  offset: unwrap(parseBytes64(offset, '/offset')),
  length: unwrap(parseBytes64(length, '/length')),
})

const flagsOf = (flags: readonly string[]): NotifierFlags => ({
  userInaccessible: flags.includes('USER_INACCESSIBLE'),
  unmovable: flags.includes('UNMOVABLE'),
  unreclaimable: flags.includes('UNRECLAIMABLE'),
})

/** One page of a memfile's extents; the cursor is the file page to go on at. */
function extents({ backing, pages }: MemfileState, query: { readonly limit?: string; readonly cursor?: string }) {
  const { limit, after } = parseNumberPage(query, pages)
  const items: { offset: number; length: number; hpa: string }[] = []
  let page = pageMap.nextNonZero(backing, after, pages)
  while (page < pages && items.length < limit) {
    const end = pageMap.nextRun(backing, page, pages)
    const frame = translation.target(page, pageMap.get(backing, page))
    items.push({ offset: page * 4096, length: (end - page) * 4096, hpa: addressOf(frame) })
    page = pageMap.nextNonZero(backing, end, pages)
  }
  return { items, nextCursor: page < pages ? formatCursor(String(page)) : null }
}
