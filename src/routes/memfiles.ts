import Type from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { presentMemfile } from '../domain/present.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import { bindingRevision, bindMemfile } from './memfile-binding.ts'
import { type Json, mutation } from './mutation.ts'
import { hostFor } from './placement.ts'
import { hostOfMemfile, memfileOf, memfileRevision, read } from './reading.ts'
import { AddressOutput } from './schemas/address.ts'
import { parseBytes64 } from './schemas/bytes64.ts'
import { formatEtag, GuardedMutationHeaders, MutationHeaders } from './schemas/headers.ts'
import { HostName, MemfileId, MemfileParams, Name, VmId } from './schemas/names.ts'
import { closed, mutated, nullable } from './schemas/output.ts'
import { listOf, pageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'
import { allDigits, FileBytes, SizeInput } from './schemas/size.ts'

const tags = ['memfiles']
/** 4 KiB pages in a folio of each size a memfile can be made of. */
const SPANS: Readonly<Record<number, number>> = { 4096: 1, 2097152: 512, 1073741824: 262144 }

const NewMemfile = closed(
  {
    name: Type.Optional(Name),
    size: SizeInput,
    host: Type.Optional(HostName),
    technology: Type.Optional(Type.String({ minLength: 1 })),
    pageSize: Type.Optional(
      Type.Union([Type.Literal(4096), Type.Literal(2097152), Type.Literal(1073741824)], { default: 4096 }),
    ),
  },
  { examples: [{ size: '64MiB' }, { size: '2GiB', technology: 'sw-protected', pageSize: 2097152 }] },
)
const Bind = closed({ vm: VmId }, { examples: [{ vm: 'vm-9' }] })

const flags = closed({ userInaccessible: Type.Boolean(), unmovable: Type.Boolean(), unreclaimable: Type.Boolean() })
export const memfileMembers = {
  id: MemfileId,
  name: nullable(Type.String()),
  host: Type.String(),
  technology: Type.String(),
  size: FileBytes,
  pageSize: Type.Integer(),
  state: Type.Enum(['unbound', 'bound', 'released']),
  vm: nullable(Type.String()),
  allocated: Type.Integer({ description: 'Bytes populated now.' }),
  slots: Type.Array(closed({ slot: Type.Integer(), gpa: AddressOutput, offset: FileBytes, size: Type.Integer() })),
  consumers: Type.Array(
    closed({ name: Type.String(), flags, populated: Type.Integer(), invalidated: Type.Integer() }),
    { description: 'Whoever is notified of population and invalidation.' },
  ),
  revision: Type.Integer(),
}
const Memfile = closed(memfileMembers, { description: 'A memfile.' })
const MemfileReply = mutated(memfileMembers, 'The memfile.')
const MemfileQuery = closed({
  ...pageQuery,
  host: Type.Optional(HostName),
  vm: Type.Optional(VmId),
  state: Type.Optional(Type.Enum(['unbound', 'bound', 'released'])),
})

type Slots = readonly Json[]
/** A memfile as it is written. */
export const showMemfile = (memfile: Json): Json => ({
  ...memfile,
  size: allDigits(memfile.size),
  slots: (memfile.slots as Slots).map((slot) => ({ ...slot, offset: allDigits(slot.offset) })),
})

/** Private backing stores: made unbound, bound once, released when their VM ends. */
export function memfileRoutes(app: Routes, api: Api): void {
  const { engine } = api
  const create = mutation<CommandOf<'memfile.create'>>(engine, {
    present: showMemfile,
    status: () => 201,
    location: ({ id }) => `/v1/memfiles/${id}`,
  })
  const bind = mutation<CommandOf<'memfile.bind'>>(engine, {
    execute: bindMemfile,
    present: showMemfile,
    revision: (_host, command) => bindingRevision(engine, command),
  })
  const remove = mutation<CommandOf<'memfile.delete'>>(engine, { present: showMemfile, revision: memfileRevision })

  app.post(
    '/v1/memfiles',
    {
      schema: {
        operationId: 'createMemfile',
        tags,
        summary: 'Create a memfile',
        description:
          'With `host` or `technology` it stays on that host. With neither it moves to the host of the VM it is bound to.',
        headers: MutationHeaders,
        body: NewMemfile,
        response: { 201: MemfileReply, ...mutationProblems(404) },
      },
    },
    (request, reply) => {
      const { name = null, size, host, technology, pageSize = 4096 } = request.body
      return create(request, reply, hostFor(api, technology, host), {
        type: 'memfile.create',
        name,
        size: unwrap(parseBytes64(size, '/size')),
        span: SPANS[pageSize] ?? 1,
        placed: host !== undefined || technology !== undefined,
      })
    },
  )

  app.get(
    '/v1/memfiles',
    {
      schema: {
        operationId: 'listMemfiles',
        tags,
        summary: 'List memfiles',
        querystring: MemfileQuery,
        response: { 200: listOf(Memfile, 'Memfiles in order of creation.') },
      },
    },
    ({ query }) =>
      read(engine, () => {
        const hosts = [...engine.hosts.values()].filter(({ state }) => (query.host ?? state.name) === state.name)
        const all = hosts
          .flatMap((host) => [...host.state.memfiles.values()].map((memfile) => ({ host, memfile })))
          .filter(({ memfile }) => query.vm === undefined || memfile.vm?.id === query.vm)
          .filter(({ memfile }) => query.state === undefined || memfile.state === query.state)
        return listPage(
          all,
          query,
          ({ memfile }) => memfile.id,
          ({ host, memfile }) => showMemfile(presentMemfile(host, memfile)),
        )
      }),
  )

  app.get(
    '/v1/memfiles/:memfile',
    {
      schema: {
        operationId: 'getMemfile',
        tags,
        summary: 'Read a memfile',
        params: MemfileParams,
        response: { 200: Memfile, ...problems(404) },
      },
    },
    ({ params }, reply) =>
      read(engine, () => {
        const host = hostOfMemfile(engine, params.memfile)
        const memfile = memfileOf(host, params.memfile)
        reply.header('etag', formatEtag(memfile.revision))
        return showMemfile(presentMemfile(host, memfile))
      }),
  )

  app.post(
    '/v1/memfiles/:memfile/bind',
    {
      schema: {
        operationId: 'bindMemfile',
        tags,
        summary: 'Bind a memfile to the VM that will use it; once',
        params: MemfileParams,
        headers: GuardedMutationHeaders,
        body: Bind,
        response: { 200: MemfileReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { memfile } = request.params
      const command = { type: 'memfile.bind', memfile, vm: request.body.vm, adopt: null } as const
      return bind(request, reply, engine.hostOfMemfile(memfile), command)
    },
  )

  app.delete(
    '/v1/memfiles/:memfile',
    {
      schema: {
        operationId: 'deleteMemfile',
        tags,
        summary: 'Close a memfile; its slots stay, unbacked',
        params: MemfileParams,
        headers: GuardedMutationHeaders,
        response: { 200: MemfileReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { memfile } = request.params
      return remove(request, reply, engine.hostOfMemfile(memfile), { type: 'memfile.delete', memfile })
    },
  )
}
