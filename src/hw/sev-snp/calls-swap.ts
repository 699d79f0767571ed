import { Type } from 'typebox'
import type { Call, GuestContext } from '../contract.ts'
import {
  type Address,
  addressValue,
  answer,
  contextFrame,
  defineCall,
  destinationArgument,
  frameOf,
  gctxArgument,
  hpaArgument,
  isLarge,
  isMisaligned,
  NO_MAILBOX,
  number64,
  offsetInPage,
  pageSizeArgument,
} from './call-definition.ts'
import type { Host } from './data.ts'
import { type Swap, swapIn, swapOut } from './firmware-swap.ts'
import { FW, firmwareStatus } from './status.ts'

const common = {
  gctx: gctxArgument,
  hpa: hpaArgument,
  destination: destinationArgument,
  pageSize: pageSizeArgument,
  pageType: Type.Optional(
    Type.Union([Type.Literal('data'), Type.Literal('metadata'), Type.Literal('vmsa')], {
      default: 'data',
      description: 'What kind of page is swapped.',
    }),
  ),
  metadata: number64('Host physical address of the 64-byte metadata entry, in a metadata page of the guest.'),
} as const
const closed = { additionalProperties: false } as const

type SwapArguments = {
  readonly gctx?: Address
  readonly hpa: Address
  readonly destination: Address
  readonly pageSize?: '4K' | '2M'
  readonly pageType?: 'data' | 'metadata' | 'vmsa'
  readonly metadata: Address
}

const swapOf = (host: Host, guest: GuestContext, args: SwapArguments): Swap => ({
  context: contextFrame(host, guest, args.gctx),
  source: frameOf(args.hpa),
  target: frameOf(args.destination),
  large: isLarge(args.pageSize),
  type: args.pageType ?? 'data',
  metadata: { frame: frameOf(args.metadata), offset: offsetInPage(args.metadata) },
})

const unaligned = ({ gctx, hpa, destination }: SwapArguments): boolean =>
  [gctx, hpa, destination].some((address) => address !== undefined && isMisaligned(address, '4K'))
const INVALID_PARAM = answer(firmwareStatus(FW.INVALID_PARAM))

const SWAP_OUT = defineCall({
  by: 'host',
  name: 'SNP_PAGE_SWAP_OUT',
  summary: 'Encrypts a page for storage outside and writes its metadata entry.',
  schema: Type.Object(
    { ...common, softwareData: Type.Optional(number64('64 bits of the host’s own, kept in the entry.')) },
    closed,
  ),
  example: { hpa: '0x200000', destination: '0x400000', metadata: '0x600040' },
  wrongSide: NO_MAILBOX,
  run: (host, args, guest) =>
    unaligned(args)
      ? INVALID_PARAM
      : answer(firmwareStatus(swapOut(host, swapOf(host, guest, args), addressValue(args.softwareData ?? 0)))),
})

const SWAP_IN = defineCall({
  by: 'host',
  name: 'SNP_PAGE_SWAP_IN',
  summary: 'Brings a swapped page back, once for each metadata entry.',
  schema: Type.Object({ ...common, inPlace: Type.Optional(Type.Boolean({ default: false })) }, closed),
  example: { hpa: '0x400000', destination: '0x200000', metadata: '0x600040' },
  wrongSide: NO_MAILBOX,
  run: (host, args, guest) =>
    unaligned(args)
      ? INVALID_PARAM
      : answer(firmwareStatus(swapIn(host, swapOf(host, guest, args), args.inPlace ?? false))),
})

export const SWAP_CALLS: readonly Call[] = [SWAP_OUT, SWAP_IN]
