import Type from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { BULK_BODY_BYTES } from './limits.ts'
import { mutation } from './mutation.ts'
import { vmRevision } from './reading.ts'
import { AddressInput } from './schemas/address.ts'
import { parseBytes64 } from './schemas/bytes64.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { VmParams } from './schemas/names.ts'
import { closed, mutated } from './schemas/output.ts'
import { mutationProblems } from './schemas/problem.ts'
import { SizeInput } from './schemas/size.ts'

const Attributes = closed(
  {
    gpa: AddressInput,
    length: SizeInput,
    attributes: Type.Array(Type.Literal('private'), { maxItems: 1, description: 'All that the range then has.' }),
  },
  { examples: [{ gpa: '0x100000', length: '2MiB', attributes: ['private'] }] },
)

/** KVM_SET_MEMORY_ATTRIBUTES. */
export function attributeRoutes(app: Routes, { engine }: Api): void {
  const set = mutation<CommandOf<'attributes.set'>>(engine, { revision: vmRevision })

  app.put(
    '/v1/vms/:vm/attributes',
    {
      bodyLimit: BULK_BODY_BYTES,
      schema: {
        operationId: 'setAttributes',
        tags: ['page states'],
        summary: 'Set the memory attributes of a range, as the VMM',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: Attributes,
        response: { 200: mutated({}, 'The attributes are set.'), ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const { gpa, attributes } = request.body
      const length = unwrap(parseBytes64(request.body.length, '/length'))
      const command = { type: 'attributes.set', vm, gpa, length, private: attributes.length > 0 } as const
      return set(request, reply, engine.hostOfVm(vm), command)
    },
  )
}
