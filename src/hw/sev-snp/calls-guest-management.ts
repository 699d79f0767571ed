import { Type } from 'typebox'
import type { Call, CallResult, Status } from '../contract.ts'
import { hexOf, toHex } from '../shared/hex.ts'
import { asidsInUse, dataFabricFlush, TOTAL_ASIDS, writeBackCaches } from './asids.ts'
import {
  addressValue,
  answer,
  contextFrame,
  defineCall,
  frameOf,
  gctxArgument,
  hpaArgument,
  isMisaligned,
  NO_MAILBOX,
  number64,
} from './call-definition.ts'
import type { GuestContextRecord, Host } from './data.ts'
import { ABI, activate, contextAt, decommission, gctxCreate, launchStart } from './firmware-guest.ts'
import { FW, firmwareStatus } from './status.ts'

const closed = { additionalProperties: false } as const
const firmware = { by: 'host', wrongSide: NO_MAILBOX } as const
const INVALID_PARAM = answer(firmwareStatus(FW.INVALID_PARAM))

const GCTX_CREATE = defineCall({
  ...firmware,
  name: 'SNP_GCTX_CREATE',
  summary: 'Makes a Firmware page a guest context.',
  schema: Type.Object({ hpa: hpaArgument }, closed),
  example: { hpa: '0x200000' },
  run: (host, { hpa }) =>
    isMisaligned(hpa, '4K') ? INVALID_PARAM : answer(firmwareStatus(gctxCreate(host, frameOf(hpa)))),
})

const LAUNCH_START = defineCall({
  ...firmware,
  name: 'SNP_LAUNCH_START',
  summary: 'Starts the launch of a guest context in state INIT.',
  schema: Type.Object({ gctx: gctxArgument, policy: number64('Launch policy.') }, closed),
  example: { gctx: '0x200000', policy: '0x30000' },
  run: (host, { gctx, policy }, guest) =>
    gctx !== undefined && isMisaligned(gctx, '4K')
      ? INVALID_PARAM
      : answer(firmwareStatus(launchStart(host, contextFrame(host, guest, gctx), addressValue(policy)))),
})

const ACTIVATE = defineCall({
  ...firmware,
  name: 'SNP_ACTIVATE',
  summary: 'Gives a guest its ASID.',
  schema: Type.Object(
    { gctx: gctxArgument, asid: Type.Integer({ minimum: 0, maximum: 0xffffffff, description: 'ASID for the guest.' }) },
    closed,
  ),
  example: { gctx: '0x200000', asid: 9 },
  run: (host, { gctx, asid }, guest) =>
    gctx !== undefined && isMisaligned(gctx, '4K')
      ? INVALID_PARAM
      : answer(firmwareStatus(activate(host, contextFrame(host, guest, gctx), asid))),
})

const DECOMMISSION = defineCall({
  ...firmware,
  name: 'SNP_DECOMMISSION',
  summary: 'Ends a guest: its context page becomes Firmware, its ASID is given up.',
  schema: Type.Object({ gctx: gctxArgument }, closed),
  example: { gctx: '0x200000' },
  run: (host, { gctx }, guest) =>
    gctx !== undefined && isMisaligned(gctx, '4K')
      ? INVALID_PARAM
      : answer(firmwareStatus(decommission(host, contextFrame(host, guest, gctx)))),
})

const nothing = Type.Object({}, closed)

const DF_FLUSH = defineCall({
  ...firmware,
  name: 'SNP_DF_FLUSH',
  summary: 'Flushes the data fabric, so that ASIDs given up can be used again.',
  schema: nothing,
  example: {},
  run: ({ data }) => answer(firmwareStatus(dataFabricFlush(data.asids) ? FW.SUCCESS : FW.WBINVD_REQUIRED)),
})

const WBINVD = defineCall({
  ...firmware,
  name: 'WBINVD',
  summary: 'Writes back and invalidates the caches of every core.',
  schema: nothing,
  example: {},
  run({ data }) {
    writeBackCaches(data.asids)
    return answer(firmwareStatus(FW.SUCCESS))
  },
})

const GUEST_STATUS = defineCall({
  ...firmware,
  name: 'SNP_GUEST_STATUS',
  summary: "A guest's policy, ASID and state.",
  schema: Type.Object({ gctx: gctxArgument }, closed),
  example: {},
  run(host, { gctx }, guest) {
    const record = contextAt(host, contextFrame(host, guest, gctx))
    if (record === undefined) return answer(firmwareStatus(FW.INVALID_GUEST))
    return withOutputs(firmwareStatus(FW.SUCCESS), guestOutputs(record))
  },
})

const withOutputs = (status: Status, outputs: Readonly<Record<string, unknown>>): CallResult => ({
  kind: 'done',
  status,
  outputs,
})

const STATE_NUMBER = { INIT: 0, LAUNCH: 1, RUNNING: 2 } as const
const guestOutputs = ({ policy, asid, state, digest }: GuestContextRecord): Readonly<Record<string, unknown>> => ({
  policy: toHex(policy),
  asid,
  state: { name: state, code: STATE_NUMBER[state] },
  launchDigest: hexOf(digest),
})

const PLATFORM_STATUS = defineCall({
  ...firmware,
  name: 'SNP_PLATFORM_STATUS',
  summary: "The firmware's version, state and number of guests.",
  schema: nothing,
  example: {},
  run: (host) => withOutputs(firmwareStatus(FW.SUCCESS), platformOutputs(host)),
})

const platformOutputs = ({ data }: Host): Readonly<Record<string, unknown>> => ({
  apiMajor: ABI.major,
  apiMinor: ABI.minor,
  state: { name: 'INIT', code: 1 },
  rmpInitialized: true,
  guestCount: data.contexts.size,
  asids: { total: TOTAL_ASIDS, snp: data.asids.limit, inUse: asidsInUse(data.asids) },
})

export const GUEST_MANAGEMENT_CALLS: readonly Call[] = [
  GCTX_CREATE,
  LAUNCH_START,
  ACTIVATE,
  DECOMMISSION,
  DF_FLUSH,
  WBINVD,
  GUEST_STATUS,
  PLATFORM_STATUS,
]
