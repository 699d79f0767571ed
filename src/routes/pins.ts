import Type from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { presentPin } from '../domain/present.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import { mutation } from './mutation.ts'
import { hostOfVm, read, vmOf, vmRevision } from './reading.ts'
import { AddressInput, AddressOutput } from './schemas/address.ts'
import { parseBytes64 } from './schemas/bytes64.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { Name, PinParams, VmParams } from './schemas/names.ts'
import { closed, mutated } from './schemas/output.ts'
import { listOf, PageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'
import { SizeInput } from './schemas/size.ts'

const tags = ['accesses']
const NewPin = closed(
  {
    gpa: AddressInput,
    length: SizeInput,
    by: Type.Optional(Name),
  },
  { examples: [{ gpa: '0x100000', length: 4096, by: 'vfio' }] },
)
const members = {
  id: Type.String({ examples: ['pin-14'] }),
  gpa: AddressOutput,
  length: Type.Integer(),
  by: Type.String(),
}
const Pin = closed(members, { description: 'A long-term pin of guest memory.' })
const PinReply = mutated(members, 'The pin.')

/** Who holds guest memory in place. */
export function pinRoutes(app: Routes, { engine }: Api): void {
  const create = mutation<CommandOf<'pin.create'>>(engine, {
    revision: vmRevision,
    status: () => 201,
    location: ({ id }, { vm }) => `/v1/vms/${vm}/pins/${id}`,
  })
  const remove = mutation<CommandOf<'pin.delete'>>(engine, { revision: vmRevision })

  app.post(
    '/v1/vms/:vm/pins',
    {
      schema: {
        operationId: 'createPin',
        tags,
        summary: 'Pin shared memory for long: GUP, DMA, VFIO',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: NewPin,
        response: { 201: PinReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const { gpa, by = 'vfio' } = request.body
      const length = unwrap(parseBytes64(request.body.length, '/length'))
      return create(request, reply, engine.hostOfVm(vm), { type: 'pin.create', vm, gpa, length, by })
    },
  )

  app.get(
    '/v1/vms/:vm/pins',
    {
      schema: {
        operationId: 'listPins',
        tags,
        summary: 'List the pins of a VM',
        params: VmParams,
        querystring: PageQuery,
        response: { 200: listOf(Pin, 'Pins in order of creation.'), ...problems(404) },
      },
    },
    ({ params, query }) =>
      read(engine, () => {
        const { pins } = vmOf(hostOfVm(engine, params.vm), params.vm)
        return listPage(pins.values(), query, ({ id }) => id, presentPin)
      }),
  )

  app.delete(
    '/v1/vms/:vm/pins/:pin',
    {
      schema: {
        operationId: 'deletePin',
        tags,
        summary: 'Drop a pin',
        params: PinParams,
        headers: GuardedMutationHeaders,
        response: { 200: PinReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm, pin } = request.params
      return remove(request, reply, engine.hostOfVm(vm), { type: 'pin.delete', vm, pin })
    },
  )
}
