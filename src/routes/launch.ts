import Type, { type Static, type TProperties, type TSchema } from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { invalid } from '../domain/refusal.ts'
import type { Backend } from '../hw/contract.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { BULK_BODY_BYTES, LAUNCH_UPDATE_BYTES } from './limits.ts'
import { mutation } from './mutation.ts'
import { hostOfVm, read, vmOf, vmRevision } from './reading.ts'
import { AddressInput, AddressOutput } from './schemas/address.ts'
import { parseBytes64 } from './schemas/bytes64.ts'
import { checker, checksFirst } from './schemas/checked-later.ts'
import { DataInput, parseDataLength } from './schemas/data.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { VmParams } from './schemas/names.ts'
import { closed, mutated, nullable, openObject } from './schemas/output.ts'
import { mutationProblems, problems } from './schemas/problem.ts'
import { SizeInput } from './schemas/size.ts'

const tags = ['launch']
const neutral = {
  gpa: AddressInput,
  length: Type.Optional(SizeInput),
  data: Type.Optional(DataInput),
}
const AnyUpdate = Type.Object(neutral, { additionalProperties: true })
const AnyFinish = openObject('What the technology takes.')
type Update = Static<typeof AnyUpdate>

export const launchState = {
  state: Type.String({ examples: ['launching'] }),
  digest: nullable(Type.String({ description: 'The running digest, or the final one.' })),
}
const Log = closed(
  { ...launchState, steps: Type.Array(openObject('One step, with the digest after it.')) },
  { description: 'The launch so far: one line per step.' },
)
const Updated = mutated(
  {
    ...launchState,
    completed: Type.Integer({ description: 'Bytes that went in.' }),
    next: nullable(closed({ gpa: AddressOutput, length: Type.Integer() }, { description: 'What is left to do.' })),
    stopped: Type.Optional(openObject('What stopped it.', { errno: Type.Optional(Type.String()) })),
  },
  'How far the update went.',
)
const Finished = mutated(launchState, 'The launch is finished.')

/** Measured population of a VM, step by step. */
export function launchRoutes(app: Routes, { engine, backends }: Api): void {
  const update = mutation<CommandOf<'launch.update'>>(engine, { revision: vmRevision })
  const finish = mutation<CommandOf<'launch.finish'>>(engine, { revision: vmRevision })
  const all = [...backends.values()]
  const updates = new Map(all.map((one) => [one.technology, checker(app, updateBody(one))]))
  const finishes = new Map(all.map((one) => [one.technology, checker(app, one.launch.finish)]))

  app.get(
    '/v1/vms/:vm/launch',
    {
      schema: {
        operationId: 'getLaunch',
        tags,
        summary: 'Read the log of the launch, with the digest after every step',
        params: VmParams,
        response: { 200: Log, ...problems(404) },
      },
    },
    ({ params }) =>
      read(engine, () => {
        const host = hostOfVm(engine, params.vm)
        const log = host.hardware.launchLog(vmOf(host, params.vm).id)
        return { ...log, steps: [...log.steps] }
      }),
  )

  app.post(
    '/v1/vms/:vm/launch/update',
    {
      bodyLimit: BULK_BODY_BYTES,
      validatorCompiler: checksFirst(app, 'body', AnyUpdate),
      schema: {
        operationId: 'updateLaunch',
        tags,
        summary: 'Populate and measure a range',
        description: "The bytes are those of `data`, padded with zeros, or what the VMM's shared memory has there.",
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: anyOf<Update & Readonly<Record<string, unknown>>>(all.map(updateBody), { gpa: '0x0', length: 4096 }),
        response: { 200: Updated, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const host = engine.hostOfVm(vm)
      if (host !== undefined) updates.get(host.state.technology)?.(request.body)
      const { gpa, length, data, ...options } = request.body
      const command = { type: 'launch.update', vm, gpa, ...sourceOf(length, data), options } as const
      return update(request, reply, host, command)
    },
  )

  app.post(
    '/v1/vms/:vm/launch/finish',
    {
      validatorCompiler: checksFirst(app, 'body', AnyFinish),
      schema: {
        operationId: 'finishLaunch',
        tags,
        summary: 'Finish the launch: the digest is final, and the guest may run',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: anyOf<Readonly<Record<string, unknown>>>(
          all.map(({ technology, launch }) => ({ title: technology, ...launch.finish })),
          {},
        ),
        response: { 200: Finished, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const host = engine.hostOfVm(vm)
      if (host !== undefined) finishes.get(host.state.technology)?.(request.body)
      return finish(request, reply, host, { type: 'launch.finish', vm, options: request.body })
    },
  )
}

/** The neutral part of an update and the technology's own, side by side. */
function updateBody({ technology, launch }: Backend) {
  const own = 'properties' in launch.update ? (launch.update.properties as TProperties) : {}
  return closed({ ...neutral, ...own }, { title: technology })
}

const anyOf = <T>(forms: readonly TSchema[], example: object) => Type.Unsafe<T>({ anyOf: forms, examples: [example] })

/** How much is measured, and the bytes of it if they come along. */
function sourceOf(length: string | number | undefined, data: string | undefined) {
  const given = data === undefined ? undefined : unwrap(parseDataLength(data, '/data', BULK_BODY_BYTES))
  const bytes = length === undefined ? given : unwrap(parseBytes64(length, '/length'))
  if (bytes === undefined) return unwrap(invalid('length-required', 'Give a length, data, or both.', '/length'))
  if (BigInt(bytes) > BigInt(LAUNCH_UPDATE_BYTES)) {
    return unwrap(invalid('length-too-large', `At most ${LAUNCH_UPDATE_BYTES} bytes at once.`, '/length'))
  }
  if (BigInt(bytes) < BigInt(given ?? 0)) {
    return unwrap(invalid('length-mismatch', `The data has ${given} bytes, more than the length.`, '/length'))
  }
  return { length: bytes, data: data ?? null }
}
