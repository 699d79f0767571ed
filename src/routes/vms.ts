import Type, { type Static } from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { presentVm } from '../domain/present.ts'
import type { Api, Routes } from './api.ts'
import { listPage } from './listing.ts'
import { mutation } from './mutation.ts'
import { hostFor } from './placement.ts'
import { hostOfVm, read, vmOf, vmRevision } from './reading.ts'
import { checker, checksFirst } from './schemas/checked-later.ts'
import { formatEtag, GuardedMutationHeaders, MutationHeaders } from './schemas/headers.ts'
import { HostName, Name, VmId, VmParams } from './schemas/names.ts'
import { closed, mutated, nullable, openObject } from './schemas/output.ts'
import { listOf, pageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'

const tags = ['vms']
const config = openObject('What the technology itself wants to know.')
const conversion = Type.Enum(['auto', 'manual'], {
  description: 'Who converts when the guest asks: gmemd as VMM at once, or the client at the exit.',
})
const privacy = Type.Enum(['populated', 'attributes'], {
  description: 'What makes a page private: being populated in a memfile, or an attribute of its own.',
})

const NewVm = closed({
  name: Type.Optional(Name),
  technology: Type.String({ minLength: 1, examples: ['sw-protected'] }),
  host: Type.Optional(HostName),
  vcpus: Type.Optional(Type.Integer({ minimum: 1, maximum: 512, default: 1 })),
  conversion: Type.Optional(conversion),
  privacy: Type.Optional(privacy),
  config: Type.Optional(config),
})

const members = {
  id: VmId,
  name: nullable(Type.String()),
  technology: Type.String(),
  host: Type.String(),
  vcpus: Type.Integer(),
  conversion,
  privacy,
  config,
  state: Type.Enum(['launching', 'running', 'dead', 'crashed', 'deleted']),
  revision: Type.Integer(),
}
const Vm = closed(members, { description: 'A VM.' })
const VmReply = mutated(members, 'The VM.')
const DeletedVm = mutated({ ...members, state: Type.Literal('deleted') }, 'The VM as it was.')
const VmQuery = closed({ ...pageQuery, host: Type.Optional(HostName), technology: Type.Optional(Type.String()) })

/** Confidential VMs: made on a host, launched, torn down. */
export function vmRoutes(app: Routes, api: Api): void {
  const { engine, backends } = api
  const configs = new Map(
    [...backends].map(([name, { configSchema }]) => [
      name,
      checker(app, Type.Object({ config: Type.Optional(configSchema) })),
    ]),
  )
  const create = mutation<CommandOf<'vm.create'>>(engine, {
    status: () => 201,
    location: ({ id }) => `/v1/vms/${id}`,
  })
  const remove = mutation<CommandOf<'vm.delete'>>(engine, { revision: vmRevision })

  app.post(
    '/v1/vms',
    {
      validatorCompiler: checksFirst(app, 'body', NewVm),
      schema: {
        operationId: 'createVm',
        tags,
        summary: 'Create a VM of some technology',
        headers: MutationHeaders,
        body: documentedBody(api),
        response: { 201: VmReply, ...mutationProblems(404) },
      },
    },
    (request, reply) => {
      const { technology, host } = request.body
      const target = hostFor(api, technology, host)
      configs.get(technology)?.(request.body)
      return create(request, reply, target, createCommand(request.body))
    },
  )

  app.get(
    '/v1/vms',
    {
      schema: {
        operationId: 'listVms',
        tags,
        summary: 'List VMs',
        querystring: VmQuery,
        response: { 200: listOf(Vm, 'VMs in order of creation.') },
      },
    },
    ({ query }) =>
      read(engine, () => {
        const wanted = [...engine.hosts.values()].filter(
          ({ state }) =>
            (query.host ?? state.name) === state.name && (query.technology ?? state.technology) === state.technology,
        )
        const all = wanted.flatMap((host) => [...host.state.vms.values()].map((vm) => ({ host, vm })))
        return listPage(
          all,
          query,
          ({ vm }) => vm.id,
          ({ host, vm }) => presentVm(host, vm),
        )
      }),
  )

  app.get(
    '/v1/vms/:vm',
    {
      schema: {
        operationId: 'getVm',
        tags,
        summary: 'Read a VM',
        params: VmParams,
        response: { 200: Vm, ...problems(404) },
      },
    },
    ({ params }, reply) =>
      read(engine, () => {
        const host = hostOfVm(engine, params.vm)
        const vm = vmOf(host, params.vm)
        reply.header('etag', formatEtag(vm.revision))
        return presentVm(host, vm)
      }),
  )

  app.delete(
    '/v1/vms/:vm',
    {
      schema: {
        operationId: 'deleteVm',
        tags,
        summary: 'Tear a VM down; every page returns to the host',
        params: VmParams,
        headers: GuardedMutationHeaders,
        response: { 200: DeletedVm, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      return remove(request, reply, engine.hostOfVm(vm), { type: 'vm.delete', vm })
    },
  )
}

const createCommand = (body: Static<typeof NewVm>): CommandOf<'vm.create'> => ({
  type: 'vm.create',
  name: body.name ?? null,
  vcpus: body.vcpus ?? 1,
  conversion: body.conversion ?? 'auto',
  privacy: body.privacy ?? 'populated',
  config: body.config ?? {},
})

/** One form of the body for each technology, with its own `config`. */
function documentedBody({ backends }: Api) {
  const forms = [...backends.values()].map(({ technology, configSchema }) => {
    const own = { technology: Type.Literal(technology), config: Type.Optional(configSchema) }
    return closed({ ...NewVm.properties, ...own }, { title: technology, examples: [{ technology, vcpus: 2 }] })
  })
  return Type.Unsafe<Static<typeof NewVm>>({
    oneOf: forms,
    discriminator: { propertyName: 'technology' },
    examples: [{ technology: 'sw-protected', vcpus: 2 }],
  })
}
