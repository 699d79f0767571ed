import Type from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import type { Engine } from '../domain/engine.ts'
import { presentHost } from '../domain/present.ts'
import { conflict, invalid, notFound, type Result } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import { mutation } from './mutation.ts'
import { requireTechnology } from './placement.ts'
import { hostNamed, read } from './reading.ts'
import { MutationHeaders } from './schemas/headers.ts'
import { HostName, HostParams } from './schemas/names.ts'
import { closed, mutated, nullable } from './schemas/output.ts'
import { listOf, PageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'
import { parsePages, SizeInput } from './schemas/size.ts'

const tags = ['hosts']
/** Frame numbers have 31 bits; a machine below the minimum has no room for its own tables. */
const MAX_PAGES = 2 ** 31
const MIN_PAGES = 4096

const NewHost = closed(
  {
    name: HostName,
    technology: Type.String({ minLength: 1, examples: ['sw-protected'] }),
    memory: SizeInput,
    seed: Type.Optional(
      Type.String({ minLength: 1, maxLength: 128, description: 'Decides everything that is random on this machine.' }),
    ),
  },
  { examples: [{ name: 'lab-1', technology: 'sw-protected', memory: '64GiB' }] },
)

const members = {
  name: HostName,
  technology: Type.String(),
  memory: Type.Integer({ description: 'Bytes of physical memory.' }),
  capacity: Type.Integer({ description: "Bytes that are left beside the technology's own tables." }),
  use: closed({ private: Type.Integer(), shared: Type.Integer(), metadata: Type.Integer() }),
  keys: closed({ name: nullable(Type.String()), total: Type.Integer(), inUse: Type.Integer() }),
  vms: Type.Integer(),
  memfiles: Type.Integer(),
  state: Type.Enum(['up', 'crashed']),
  reason: nullable(Type.String({ description: 'Why it crashed.' })),
  revision: Type.Integer(),
}
const HostOutput = closed(members, { description: 'An emulated machine.' })
const HostReply = mutated(members, 'The machine.')

/** Emulated machines. */
export function hostRoutes(app: Routes, api: Api): void {
  const { engine, seed } = api
  const create = mutation<CommandOf<'host.create'>, string>(engine, {
    execute: (_engine, name, command, options) => {
      if (engine.hosts.has(name))
        return refuseLater(engine, conflict('host-exists', `There is a host "${name}" already.`))
      return engine.replaceHost(name, command, options, presentHost)
    },
    status: () => 201,
    location: ({ name }) => `/v1/hosts/${name}`,
  })
  const reboot = mutation<CommandOf<'host.reboot'>, string>(engine, {
    execute: (_engine, name, command, options) => {
      const refusal = whyNotRebooted(engine, name)
      if (refusal !== undefined) return refuseLater(engine, refusal)
      return engine.replaceHost(name, command, options, presentHost)
    },
  })

  app.post(
    '/v1/hosts',
    {
      schema: {
        operationId: 'createHost',
        tags,
        summary: 'Create an emulated machine',
        headers: MutationHeaders,
        body: NewHost,
        response: { 201: HostReply, ...mutationProblems() },
      },
    },
    (request, reply) => {
      const { name, technology, memory, seed: own = `${seed}/${name}` } = request.body
      requireTechnology(api, technology)
      const command = { type: 'host.create', technology, memory: parseMemory(memory), seed: own } as const
      return create(request, reply, name, command)
    },
  )

  app.get(
    '/v1/hosts',
    {
      schema: {
        operationId: 'listHosts',
        tags,
        summary: 'List hosts',
        querystring: PageQuery,
        response: { 200: listOf(HostOutput, 'Machines by name.') },
      },
    },
    ({ query }) => read(engine, () => listPage(engine.hosts.values(), query, ({ state }) => state.name, presentHost)),
  )

  app.get(
    '/v1/hosts/:host',
    {
      schema: {
        operationId: 'getHost',
        tags,
        summary: 'Read a host',
        params: HostParams,
        response: { 200: HostOutput, ...problems(404) },
      },
    },
    ({ params }) => read(engine, () => presentHost(hostNamed(engine, params.host))),
  )

  app.post(
    '/v1/hosts/:host/reboot',
    {
      schema: {
        operationId: 'rebootHost',
        tags,
        summary: 'Put a fresh machine in the place of one that crashed; its VMs and memfiles are gone',
        params: HostParams,
        headers: MutationHeaders,
        response: { 200: HostReply, ...mutationProblems(404) },
      },
    },
    (request, reply) => reboot(request, reply, request.params.host, { type: 'host.reboot' }),
  )
}

function parseMemory(memory: string | number): number {
  const pages = unwrap(parsePages(memory, '/memory'))
  if (pages >= MIN_PAGES && pages <= MAX_PAGES) return pages * 4096
  return unwrap(invalid('memory-out-of-range', 'A host has from 16 MiB to 8 TiB of memory.', '/memory'))
}

function whyNotRebooted(engine: Engine, name: string): Result<never> | undefined {
  const host = engine.hosts.get(name)
  if (host === undefined) return notFound('host', name)
  if (host.state.crashed !== null) return undefined
  const states = { currentState: 'up', allowedStates: ['crashed'] }
  return conflict('host-up', `Host "${name}" is up; only a crashed machine is put anew.`, states)
}

/** A refusal that rests on state is given once that state is durable. */
const refuseLater = (engine: Engine, refusal: Result<never>): Promise<Result<never>> =>
  engine.settled().then(() => refusal)
