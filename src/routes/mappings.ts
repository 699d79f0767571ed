import Type from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { presentMapping } from '../domain/present.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import { mutation } from './mutation.ts'
import { hostOfVm, read, vmOf, vmRevision } from './reading.ts'
import { AddressInput, AddressOutput } from './schemas/address.ts'
import { parseBytes64 } from './schemas/bytes64.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { MappingParams, VmParams } from './schemas/names.ts'
import { closed, mutated } from './schemas/output.ts'
import { listOf, PageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'
import { SizeInput } from './schemas/size.ts'

const tags = ['accesses']
const NewMapping = closed(
  {
    gpa: AddressInput,
    length: SizeInput,
    memory: Type.Optional(Type.Enum(['shared', 'private'], { default: 'shared', description: 'Which of the two.' })),
  },
  { examples: [{ gpa: '0x100000', length: 4096 }] },
)
const members = { id: Type.String({ examples: ['mapping-13'] }), gpa: AddressOutput, length: Type.Integer() }
const Mapping = closed(members, { description: 'An mmap of guest memory in host userspace.' })
const MappingReply = mutated(members, 'The mapping.')

/** What host userspace has mapped of a guest's memory. */
export function mappingRoutes(app: Routes, { engine }: Api): void {
  const create = mutation<CommandOf<'mapping.create'>>(engine, {
    revision: vmRevision,
    status: () => 201,
    location: ({ id }, { vm }) => `/v1/vms/${vm}/mappings/${id}`,
  })
  const remove = mutation<CommandOf<'mapping.delete'>>(engine, { revision: vmRevision })

  app.post(
    '/v1/vms/:vm/mappings',
    {
      schema: {
        operationId: 'createMapping',
        tags,
        summary: 'Map guest memory in host userspace',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: NewMapping,
        response: { 201: MappingReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const { gpa, memory = 'shared' } = request.body
      const length = unwrap(parseBytes64(request.body.length, '/length'))
      return create(request, reply, engine.hostOfVm(vm), { type: 'mapping.create', vm, gpa, length, memory })
    },
  )

  app.get(
    '/v1/vms/:vm/mappings',
    {
      schema: {
        operationId: 'listMappings',
        tags,
        summary: 'List the mappings of a VM',
        params: VmParams,
        querystring: PageQuery,
        response: { 200: listOf(Mapping, 'Mappings in order of creation.'), ...problems(404) },
      },
    },
    ({ params, query }) =>
      read(engine, () => {
        const { mappings } = vmOf(hostOfVm(engine, params.vm), params.vm)
        return listPage(mappings.values(), query, ({ id }) => id, presentMapping)
      }),
  )

  app.delete(
    '/v1/vms/:vm/mappings/:mapping',
    {
      schema: {
        operationId: 'deleteMapping',
        tags,
        summary: 'Unmap guest memory',
        params: MappingParams,
        headers: GuardedMutationHeaders,
        response: { 200: MappingReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm, mapping } = request.params
      return remove(request, reply, engine.hostOfVm(vm), { type: 'mapping.delete', vm, mapping })
    },
  )
}
