import Type, { type Static } from 'typebox'
import type { Bytes64, CommandOf } from '../domain/commands.ts'
import type { Host } from '../domain/host.ts'
import { presentSlot } from '../domain/present.ts'
import { invalid, notFound } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import { type Json, mutation } from './mutation.ts'
import { hostOfVm, read, vmOf } from './reading.ts'
import { AddressInput, AddressOutput } from './schemas/address.ts'
import { parseBytes64 } from './schemas/bytes64.ts'
import { formatEtag, GuardedMutationHeaders } from './schemas/headers.ts'
import { MemfileId, SlotParams, VmParams } from './schemas/names.ts'
import { closed, mutated, nullable } from './schemas/output.ts'
import { listOf, PageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'
import { allDigits, FileBytes, SizeInput } from './schemas/size.ts'

const tags = ['memslots']

const SlotBody = closed(
  {
    gpa: AddressInput,
    size: SizeInput,
    memfile: Type.Optional(MemfileId),
    memfileOffset: Type.Optional(SizeInput),
    shared: Type.Optional(
      Type.Union([closed({ hva: Type.Optional(AddressInput) }), Type.Null()], {
        description:
          "The shared part: at `hva` of the VMM's address space, wherever gmemd maps it, or (null) nowhere at all.",
      }),
    ),
    readOnly: Type.Optional(Type.Boolean({ default: false })),
    dirtyLog: Type.Optional(Type.Boolean({ default: false })),
  },
  { examples: [{ gpa: '0x0', size: '64MiB', memfile: 'memfile-10' }] },
)

const members = {
  slot: Type.Integer(),
  gpa: AddressOutput,
  size: Type.Integer(),
  memfile: nullable(Type.String()),
  memfileOffset: nullable(FileBytes),
  shared: nullable(closed({ hva: AddressOutput })),
  readOnly: Type.Boolean(),
  dirtyLog: Type.Boolean(),
  revision: Type.Integer(),
}
const Slot = closed(members, { description: 'A memslot.' })
const change = Type.Enum(['created', 'changed', 'unchanged', 'deleted'])
const SlotReply = mutated({ ...members, change }, 'The memslot, and what became of it.')

type SlotCommand = CommandOf<'memslot.set'> | CommandOf<'memslot.delete'>
const slotRevision = (host: Host, { vm, slot }: SlotCommand): number | undefined =>
  host.state.vms.get(vm)?.slots.find((one) => one.slot === slot)?.revision

const showSlot = (slot: Json): Json => ({ ...slot, memfileOffset: allDigits(slot.memfileOffset) })

/** Guest-physical ranges and what backs them: KVM_SET_USER_MEMORY_REGION2. */
export function memslotRoutes(app: Routes, { engine }: Api): void {
  const set = mutation<CommandOf<'memslot.set'>>(engine, {
    present: showSlot,
    revision: slotRevision,
    status: (value) => (value.change === 'created' ? 201 : 200),
    location: ({ slot }, { vm }) => `/v1/vms/${vm}/memslots/${slot}`,
  })
  const remove = mutation<CommandOf<'memslot.delete'>>(engine, { present: showSlot, revision: slotRevision })

  app.put(
    '/v1/vms/:vm/memslots/:slot',
    {
      schema: {
        operationId: 'setMemslot',
        tags,
        summary: 'Bind a memslot: create, change, move or (size 0) delete it',
        params: SlotParams,
        headers: GuardedMutationHeaders,
        body: SlotBody,
        response: { 200: SlotReply, 201: SlotReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm, slot } = request.params
      return set(request, reply, engine.hostOfVm(vm), slotCommand(vm, Number(slot), request.body))
    },
  )

  app.get(
    '/v1/vms/:vm/memslots',
    {
      schema: {
        operationId: 'listMemslots',
        tags,
        summary: 'List the memslots of a VM',
        params: VmParams,
        querystring: PageQuery,
        response: { 200: listOf(Slot, 'Memslots in order of their ids.'), ...problems(404) },
      },
    },
    ({ params, query }) =>
      read(engine, () => {
        const { slots } = vmOf(hostOfVm(engine, params.vm), params.vm)
        return listPage(
          slots,
          query,
          ({ slot }) => String(slot),
          (slot) => showSlot(presentSlot(slot)),
        )
      }),
  )

  app.get(
    '/v1/vms/:vm/memslots/:slot',
    {
      schema: {
        operationId: 'getMemslot',
        tags,
        summary: 'Read a memslot',
        params: SlotParams,
        response: { 200: Slot, ...problems(404) },
      },
    },
    ({ params }, reply) =>
      read(engine, () => {
        const { slots } = vmOf(hostOfVm(engine, params.vm), params.vm)
        const slot = slots.find((one) => one.slot === Number(params.slot)) ?? unwrap(notFound('memslot', params.slot))
        reply.header('etag', formatEtag(slot.revision))
        return showSlot(presentSlot(slot))
      }),
  )

  app.delete(
    '/v1/vms/:vm/memslots/:slot',
    {
      schema: {
        operationId: 'deleteMemslot',
        tags,
        summary: 'Delete a memslot; its memfile keeps the contents',
        params: SlotParams,
        headers: GuardedMutationHeaders,
        response: { 200: SlotReply, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm, slot } = request.params
      return remove(request, reply, engine.hostOfVm(vm), { type: 'memslot.delete', vm, slot: Number(slot) })
    },
  )
}

function slotCommand(vm: string, slot: number, body: Static<typeof SlotBody>): CommandOf<'memslot.set'> {
  const { gpa, size, memfile = null, memfileOffset, shared, readOnly = false, dirtyLog = false } = body
  if (memfile === null && memfileOffset !== undefined) {
    unwrap(invalid('offset-without-memfile', 'An offset says nothing without a memfile.', '/memfileOffset'))
  }
  return {
    type: 'memslot.set',
    vm,
    slot,
    gpa,
    size: unwrap(parseBytes64(size, '/size')),
    memfile,
    memfileOffset: unwrap(parseBytes64(memfileOffset ?? 0, '/memfileOffset')),
    hva: hvaOf(shared),
    readOnly,
    dirtyLog,
  }
}

const hvaOf = (shared: { hva?: Bytes64 } | null | undefined): Bytes64 | 'auto' | 'none' =>
  shared === null ? 'none' : (shared?.hva ?? 'auto')
