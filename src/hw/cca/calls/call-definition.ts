import { type Static, type TSchema, Type } from 'typebox'
import type { Call, CallResult, GuestContext, GuestRequest, Hardware } from '../../contract.ts'
import { addressValue, HexAddress } from '../../shared/address-schema.ts'
import { type Host, realmOf } from '../data.ts'
import type { Answer } from '../rmm/answer.ts'
import type { RecExit } from '../rmm/exits.ts'
import { PAGE_BITS } from '../rmm/geometry.ts'
import { type GuestOutcome, runGuest } from '../rmm/guest.ts'
import type { Realm } from '../rmm/realm.ts'
import type { Rec } from '../rmm/rec.ts'
import { SMC_NOT_SUPPORTED } from '../status.ts'
import { outcomeResult } from './outcome.ts'

/** The hardware of this backend, with the host its calls work on. */
export type CcaHardware = Hardware & { readonly host: Host }

/**
 * KVM's side of an exit that a guest call of a vCPU came to. A call that names its `rec` is the bare REC's: nobody plays KVM
 * for it, and its answer is the exit itself. `outputs` is as in {@link Call}.
 */
export type ExitHandler = {
  handle(host: Host, realm: Realm, rec: Rec, exit: RecExit, guest: GuestContext): CallResult
  outputs?(request: GuestRequest, args: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>
}

type Definition<Schema extends TSchema, Run> = {
  readonly name: string
  readonly summary: string
  readonly schema: Schema
  readonly example: Readonly<Record<string, unknown>>
  readonly run: Run
}

/** RMI is the Normal world's and RSI a Realm's: the other side's SMC is unknown. */
const WRONG_SIDE: CallResult = { kind: 'done', status: SMC_NOT_SUPPORTED }

export const result = ({ status, outputs }: Answer): CallResult =>
  outputs === undefined ? { kind: 'done', status } : { kind: 'done', status, outputs }

/** A call by the host. Arguments were checked against the schema before, so they have its type. */
export const defineHostCall = <Schema extends TSchema>({
  run,
  ...definition
}: Definition<Schema, (host: Host, args: Static<Schema>, guest: GuestContext) => Answer>): Call => ({
  ...definition,
  by: 'host',
  run: (hardware, args, guest) =>
    guest.by === 'host' ? result(run((hardware as CcaHardware).host, args as Static<Schema>, guest)) : WRONG_SIDE,
})

/** A call by the guest of a REC: the one it names, or that of the call's vCPU. */
export type DefineGuestCall = <Schema extends TSchema>(
  definition: Definition<Schema, (host: Host, realm: Realm, rec: Rec, args: Static<Schema>) => GuestOutcome>,
) => Call

export const guestCallDefiner =
  ({ handle, outputs }: ExitHandler): DefineGuestCall =>
  ({ run, ...definition }) => ({
    ...definition,
    by: 'guest',
    run(hardware, args, guest) {
      if (guest.by !== 'guest') return WRONG_SIDE
      const { host } = hardware as CcaHardware
      const bare = args.rec !== undefined
      const done = runGuest(host, recWord(host, guest, args.rec as Word | undefined), (inside, realm, rec) =>
        run(inside, realm, rec, args as never),
      )
      const { outcome, entered } = done
      if (!bare && outcome.kind === 'exit' && entered !== undefined)
        return handle(host, entered.realm, entered.rec, outcome.exit, guest)
      return outcomeResult(done)
    },
    ...(outputs === undefined ? {} : { outputs }),
  })

export const closed = { additionalProperties: false } as const
export type Word = string | number

export const word = (description: string) => Type.Union(HexAddress.anyOf, { description })
export const optionalWord = (description: string) => Type.Optional(word(description))
export const addressArgument = (description: string) => word(`Physical address of ${description}.`)

export const rdArgument = optionalWord("Physical address of the RD; by default the VM's own Realm's.")
export const recArgument = optionalWord("Physical address of the REC; by default that of the call's vCPU.")
export const guestRecArgument = optionalWord(
  "Physical address of the REC that makes the call, bare, without KVM; by default the call's vCPU makes it under KVM.",
)
export const ipaArgument = word('Intermediate physical address, with all of its bits.')

/** A level is signed: -1 with LPA2. */
export const levelArgument = Type.Union([...HexAddress.anyOf, Type.Integer({ minimum: -1, maximum: 0xff })], {
  description: 'Level of the entries: 3 4K, 2 2M, 1 1G, 0 512G, -1 with LPA2.',
})
export const levelValue = (level: Word): number => Number(BigInt.asIntN(64, BigInt(level)))

export { addressValue }

/** No page's address: what a VM has for a Realm, or a vCPU for a REC, that doesn't exist. */
const NO_PAGE = 2n ** 64n - 1n
const bytesOf = (frame: number): bigint => BigInt(frame) << BigInt(PAGE_BITS)

export function rdWord(host: Host, guest: GuestContext, rd: Word | undefined): bigint {
  if (rd !== undefined) return addressValue(rd)
  const realm = realmOf(host.data, guest.vm)
  return realm === undefined ? NO_PAGE : bytesOf(realm.rd)
}

export function recWord(host: Host, guest: GuestContext, rec: Word | undefined): bigint {
  if (rec !== undefined) return addressValue(rec)
  const frame = realmOf(host.data, guest.vm)?.recs[guest.vcpu] ?? -1
  return frame < 0 ? NO_PAGE : bytesOf(frame)
}
