import Type from 'typebox'
import { AddressOutput } from './address.ts'
import { closed, nullable } from './output.ts'

/** Integers, or hex strings where a technology's codes are 64-bit words. */
export const StatusCode = Type.Unsafe<number | string>({
  type: ['integer', 'string'],
  description: 'An integer, or a hex string in technologies whose codes are 64-bit words.',
  examples: [0],
})

/** A fault as the architecture names it. */
export const Fault = closed(
  {
    name: Type.String({ examples: ['#VC'] }),
    code: StatusCode,
    errorCode: Type.Optional(Type.String()),
    detail: Type.String(),
  },
  { description: 'A fault as the architecture names it.' },
)

/** What the hardware or KVM answered. */
export const Status = closed(
  { name: Type.String({ examples: ['SUCCESS'] }), code: StatusCode },
  { description: 'What was answered: data, never an HTTP error.' },
)

/** What KVM hands to the VMM when it cannot go on alone. */
export const Exit = closed(
  {
    id: nullable(Type.String({ description: 'Set when the exit waits for the client, as VMM.' })),
    vcpu: Type.Integer(),
    reason: Type.Enum(['KVM_EXIT_MEMORY_FAULT', 'KVM_EXIT_HYPERCALL', 'KVM_EXIT_MMIO', 'KVM_EXIT_INTERNAL_ERROR']),
    number: Type.Integer({ description: "`exit_reason` of KVM's run structure.", examples: [39] }),
    flags: Type.Optional(
      Type.Integer({ description: 'KVM_EXIT_MEMORY_FAULT: 8 when the access was private.', examples: [8] }),
    ),
    gpa: AddressOutput,
    length: Type.Integer(),
    private: Type.Boolean(),
    errno: Type.Optional(Type.String()),
    hypercall: Type.Optional(closed({ nr: Type.Integer(), args: Type.Array(Type.String()) })),
    fault: Type.Optional(Fault),
    detail: Type.Optional(Type.String()),
    ret: Type.Optional(Type.Integer({ description: "The VMM's answer: 0 or a negative errno." })),
  },
  { description: 'What KVM hands to the VMM when it cannot go on alone.' },
)
