import Type from 'typebox'
import type { Bytes64, CommandOf } from '../domain/commands.ts'
import type { Host } from '../domain/host.ts'
import { invalid, notFound } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { BULK_BODY_BYTES } from './limits.ts'
import { mutation } from './mutation.ts'
import { vmRevision } from './reading.ts'
import { AddressInput } from './schemas/address.ts'
import { AccessLength, DataInput, DataOutput, parseTransfer } from './schemas/data.ts'
import { Exit, Fault } from './schemas/exit.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { VcpuParams, VmParams } from './schemas/names.ts'
import { closed, mutated } from './schemas/output.ts'
import { mutationProblems } from './schemas/problem.ts'

const tags = ['accesses']
const completed = Type.Integer({ description: 'Bytes that went through before.' })

const Access = closed(
  {
    gpa: AddressInput,
    private: Type.Optional(
      Type.Boolean({ description: "The access's own kind (C-bit, shared bit); KVM's record where nothing is said." }),
    ),
    kind: Type.Enum(['read', 'write', 'execute']),
    length: Type.Optional(AccessLength),
    data: Type.Optional(DataInput),
    vmpl: Type.Optional(Type.Integer({ minimum: 0, maximum: 3, default: 0 })),
  },
  { examples: [{ gpa: '0x100000', kind: 'write', data: '3q2+7w==' }] },
)
const Accessed = mutated(
  {
    outcome: Type.Enum(['ok', 'exit', 'guest-fault']),
    data: Type.Optional(DataOutput),
    ciphertext: Type.Optional(Type.Boolean({ description: 'The guest read without its key what only its key opens.' })),
    exit: Type.Optional(Exit),
    fault: Type.Optional(Fault),
    completed: Type.Optional(completed),
    exits: Type.Optional(Type.Array(Exit, { description: 'Exits that the VMM has answered on the way.' })),
  },
  'What the guest and KVM see of the access.',
)

const HostAccess = closed(
  {
    as: Type.Enum(['user', 'kernel', 'device']),
    gpa: Type.Optional(AddressInput),
    hpa: Type.Optional(AddressInput),
    kind: Type.Enum(['read', 'write']),
    length: Type.Optional(AccessLength),
    data: Type.Optional(DataInput),
  },
  { examples: [{ as: 'user', gpa: '0x100000', kind: 'read', length: 16 }] },
)
const HostAccessed = mutated(
  {
    outcome: Type.Enum(['ok', 'fault', 'host-crash']),
    data: Type.Optional(DataOutput),
    ciphertext: Type.Optional(Type.Boolean({ description: 'The host saw or wrote ciphertext.' })),
    fault: Type.Optional(Fault),
    completed: Type.Optional(completed),
  },
  'What the host sees of the access.',
)

/** Guest and host touch memory. */
export function accessRoutes(app: Routes, { engine }: Api): void {
  const access = mutation<CommandOf<'access'>>(engine, { revision: vmRevision })
  const hostAccess = mutation<CommandOf<'host-access'>>(engine, { revision: vmRevision })

  app.post(
    '/v1/vms/:vm/vcpus/:vcpu/accesses',
    {
      bodyLimit: BULK_BODY_BYTES,
      schema: {
        operationId: 'accessAsGuest',
        tags,
        summary: 'Load, store or fetch, as the guest',
        params: VcpuParams,
        headers: GuardedMutationHeaders,
        body: Access,
        response: { 200: Accessed, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm, vcpu } = request.params
      const { gpa, kind, vmpl = 0, data, length } = request.body
      const host = engine.hostOfVm(vm)
      requireVcpu(host, vm, vcpu)
      const transfer = unwrap(parseTransfer(kind, data, length))
      const command = { type: 'access', vm, vcpu: Number(vcpu), gpa, kind, vmpl, ...transfer } as const
      return access(request, reply, host, { ...command, private: request.body.private ?? null })
    },
  )

  app.post(
    '/v1/vms/:vm/host-accesses',
    {
      bodyLimit: BULK_BODY_BYTES,
      schema: {
        operationId: 'accessAsHost',
        tags,
        summary: 'Touch guest memory as host userspace, kernel or device',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: HostAccess,
        response: { 200: HostAccessed, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const { as, kind, data, length } = request.body
      const transfer = unwrap(parseTransfer(kind, data, length))
      const command = { type: 'host-access', vm, as, kind, ...addressed(request.body), ...transfer } as const
      return hostAccess(request, reply, engine.hostOfVm(vm), command)
    },
  )
}

/** A vCPU is part of the path, so one that the VM does not have is nowhere. */
function requireVcpu(host: Host | undefined, vm: string, vcpu: string): void {
  const count = host?.state.vms.get(vm)?.vcpus.length ?? Number.POSITIVE_INFINITY
  if (Number(vcpu) >= count) unwrap(notFound('vcpu', vcpu))
}

/** Exactly one of `gpa` and `hpa` says where. */
function addressed({ gpa, hpa }: { gpa?: Bytes64; hpa?: Bytes64 }): { by: 'gpa' | 'hpa'; address: Bytes64 } {
  if (gpa !== undefined && hpa === undefined) return { by: 'gpa', address: gpa }
  if (hpa !== undefined && gpa === undefined) return { by: 'hpa', address: hpa }
  return unwrap(invalid('gpa-or-hpa', 'Exactly one of gpa and hpa says where the access goes.', '/gpa'))
}
