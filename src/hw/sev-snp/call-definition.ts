import { type Static, type TSchema, Type } from 'typebox'
import type { Call, CallResult, GuestContext, GuestRequest, Hardware, Status } from '../contract.ts'
import { addressValue, frameOf, HexAddress, offsetInPage } from '../shared/address-schema.ts'
import { type Host, vmOf } from './data.ts'
import { BLOCK } from './rmp.ts'
import { GENERAL_PROTECTION, instructionStatus, UNDEFINED_OPCODE } from './status.ts'

/** The hardware of this backend, with the host its calls work on. */
export type SnpHardware = Hardware & { readonly host: Host }

type Definition<Schema extends TSchema> = {
  readonly name: string
  readonly by: 'guest' | 'host'
  readonly summary: string
  readonly schema: Schema
  readonly example: Readonly<Record<string, unknown>>
  /** The answer to the side that this call isn't for. */
  readonly wrongSide: CallResult
  run(host: Host, args: Static<Schema>, guest: GuestContext): CallResult
  outputs?(request: GuestRequest, args: Static<Schema>): Readonly<Record<string, unknown>>
}

/** Arguments were checked against the schema before, so they have its type. */
export const defineCall = <Schema extends TSchema>(definition: Definition<Schema>): Call => {
  const { name, by, summary, schema, example, wrongSide, outputs } = definition
  return {
    name,
    by,
    summary,
    schema,
    example,
    run: (hardware, args, guest) =>
      guest.by === by ? definition.run((hardware as SnpHardware).host, args as Static<Schema>, guest) : wrongSide,
    ...(outputs === undefined ? {} : { outputs: (request, args) => outputs(request, args as Static<Schema>) }),
  }
}

export const answer = (status: Status): CallResult => ({
  kind: 'done',
  status,
})
/** A host instruction inside a guest (amd-sev-snp.md b.4 step 1). */
export const NOT_HOST = answer(instructionStatus(2))
/** The firmware's mailbox isn't there for guests. */
export const NO_MAILBOX = answer(GENERAL_PROTECTION)
export const NO_INSTRUCTION = answer(UNDEFINED_OPCODE)

const described = (description: string) => Type.Union(HexAddress.anyOf, { description })
export const hpaArgument = described('Host physical address of the page.')
export const gpaArgument = described('Guest physical address of the page.')
export const destinationArgument = described('Host physical address of the target page.')
export const gctxArgument = Type.Optional(
  described("Host physical address of the guest context page; by default the VM's own."),
)
export const pageSizeArgument = Type.Optional(
  Type.Union([Type.Literal('4K'), Type.Literal('2M')], { default: '4K', description: 'Page size of the request.' }),
)
export const permissionsArgument = (description: string) => Type.Integer({ minimum: 0, maximum: 0xff, description })
export const vmplArgument = (description: string) => Type.Integer({ minimum: 0, maximum: 0xff, description })
export const number64 = described

export type Address = string | number
export const isLarge = (pageSize: '4K' | '2M' | undefined): boolean => pageSize === '2M'

/** Whether a firmware address has bits that its page doesn't (b.6: reserved bits or alignment → 16). */
export const isMisaligned = (address: Address, pageSize: '4K' | '2M' | undefined): boolean =>
  offsetInPage(address) !== 0 || (isLarge(pageSize) && frameOf(address) % BLOCK !== 0)

export const contextFrame = (host: Host, guest: GuestContext, gctx: Address | undefined): number =>
  gctx === undefined ? vmOf(host, guest.vm).context : frameOf(gctx)

export { addressValue, frameOf, offsetInPage }
