import { Type } from 'typebox'
import type { Call, CallResult } from '../contract.ts'
import { hexOf } from '../shared/hex.ts'
import {
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
  offsetInPage,
  pageSizeArgument,
  permissionsArgument,
} from './call-definition.ts'
import { dbgDecrypt, dbgEncrypt } from './firmware-debug.ts'
import { contextAt } from './firmware-guest.ts'
import { launchFinish, launchUpdate } from './firmware-launch.ts'
import { mdInit, pageMove, pageReclaim, pageSetState, pageUnsmash } from './firmware-pages.ts'
import { FW, firmwareStatus } from './status.ts'

const closed = { additionalProperties: false } as const
const firmware = { by: 'host', wrongSide: NO_MAILBOX } as const
const status = (code: number): CallResult => answer(firmwareStatus(code))
const INVALID_PARAM = status(FW.INVALID_PARAM)
const unaligned = (...addresses: (string | number | undefined)[]): boolean =>
  addresses.some((address) => address !== undefined && isMisaligned(address, '4K'))

const LAUNCH_UPDATE = defineCall({
  ...firmware,
  name: 'SNP_LAUNCH_UPDATE',
  summary: 'Measures a Pre-Guest page in place and makes it Guest-Valid.',
  schema: Type.Object(
    {
      gctx: gctxArgument,
      hpa: hpaArgument,
      pageSize: pageSizeArgument,
      pageType: Type.Integer({
        minimum: 0,
        maximum: 7,
        description: '1 NORMAL, 2 VMSA, 3 ZERO, 4 UNMEASURED, 5 SECRETS, 6 CPUID; 0 and 7 are reserved.',
      }),
      imiPage: Type.Optional(Type.Boolean({ default: false })),
      permissions: Type.Optional(
        Type.Object(
          {
            vmpl1: Type.Optional(permissionsArgument('Permissions of VMPL1.')),
            vmpl2: Type.Optional(permissionsArgument('Permissions of VMPL2.')),
            vmpl3: Type.Optional(permissionsArgument('Permissions of VMPL3.')),
          },
          closed,
        ),
      ),
    },
    closed,
  ),
  example: { hpa: '0x200000', pageType: 1 },
  run(host, { gctx, hpa, pageSize, pageType, imiPage = false, permissions }, guest) {
    if (unaligned(gctx, hpa)) return INVALID_PARAM
    const levels = [permissions?.vmpl1 ?? 0, permissions?.vmpl2 ?? 0, permissions?.vmpl3 ?? 0] as const
    if (levels.some((mask) => mask > 0x1f)) return INVALID_PARAM
    const context = contextFrame(host, guest, gctx)
    const extras = {
      ...(imiPage ? { imi: true } : {}),
      ...(permissions === undefined ? {} : { vmplPermissions: levels }),
    }
    const code = launchUpdate(host, { context, frame: frameOf(hpa), large: isLarge(pageSize), type: pageType, extras })
    const record = contextAt(host, context)
    if (code !== FW.SUCCESS || record === undefined) return status(code)
    return { kind: 'done', status: firmwareStatus(code), outputs: { launchDigest: hexOf(record.digest) } }
  },
})

const LAUNCH_FINISH = defineCall({
  ...firmware,
  name: 'SNP_LAUNCH_FINISH',
  summary: 'Ends the launch without ID block; VMSAs must have been measured before.',
  schema: Type.Object(
    {
      gctx: gctxArgument,
      hostData: Type.Optional(Type.String({ pattern: '^(?:[0-9a-fA-F]{2}){32}$', description: '32 bytes of hex.' })),
    },
    closed,
  ),
  example: {},
  run(host, { gctx, hostData }, guest) {
    if (unaligned(gctx)) return INVALID_PARAM
    const finish = {
      idBlock: undefined,
      idAuth: undefined,
      authorKeyEnabled: false,
      hostData: hostData === undefined ? new Uint8Array(32) : new Uint8Array(Buffer.from(hostData, 'hex')),
    }
    return status(launchFinish(host, contextFrame(host, guest, gctx), finish).code)
  },
})

const PAGE_RECLAIM = defineCall({
  ...firmware,
  name: 'SNP_PAGE_RECLAIM',
  summary:
    'Takes immutable from a page: Firmware and Metadata → Reclaim, Pre-Guest → Guest-Invalid, Pre-Swap → Guest-Valid.',
  schema: Type.Object({ hpa: hpaArgument, pageSize: pageSizeArgument }, closed),
  example: { hpa: '0x200000', pageSize: '4K' },
  run: (host, { hpa, pageSize }) =>
    unaligned(hpa) ? INVALID_PARAM : status(pageReclaim(host, frameOf(hpa), isLarge(pageSize))),
})

const PAGE_UNSMASH = defineCall({
  ...firmware,
  name: 'SNP_PAGE_UNSMASH',
  summary: 'Joins 512 immutable 4K entries into one of 2M.',
  schema: Type.Object({ hpa: hpaArgument }, closed),
  example: { hpa: '0x200000' },
  run: (host, { hpa }) => (unaligned(hpa) ? INVALID_PARAM : status(pageUnsmash(host, frameOf(hpa)))),
})

const PAGE_MD_INIT = defineCall({
  ...firmware,
  name: 'SNP_PAGE_MD_INIT',
  summary: 'Makes a Firmware page a metadata page of a guest.',
  schema: Type.Object({ gctx: gctxArgument, hpa: hpaArgument }, closed),
  example: { hpa: '0x200000' },
  run: (host, { gctx, hpa }, guest) =>
    unaligned(gctx, hpa) ? INVALID_PARAM : status(mdInit(host, contextFrame(host, guest, gctx), frameOf(hpa))),
})

const MAX_RANGES = 256
const PAGE_SET_STATE = defineCall({
  ...firmware,
  name: 'SNP_PAGE_SET_STATE',
  summary: 'Makes ranges of Firmware pages HV-Fixed, all or none.',
  schema: Type.Object(
    {
      ranges: Type.Array(
        Type.Object(
          { hpa: hpaArgument, pages: Type.Integer({ minimum: 1, maximum: 0xffffffff, description: '4K pages.' }) },
          closed,
        ),
        { minItems: 1, maxItems: MAX_RANGES },
      ),
      length: Type.Optional(
        Type.Integer({ minimum: 0, maximum: 0xffffffff, default: 16, description: "The command structure's length." }),
      ),
    },
    closed,
  ),
  example: { ranges: [{ hpa: '0x200000', pages: 1 }] },
  run(host, { ranges, length = 16 }) {
    if (length !== 16) return status(FW.INVALID_LENGTH)
    if (ranges.some(({ hpa }) => offsetInPage(hpa) !== 0)) return status(FW.INVALID_ADDRESS)
    return status(
      pageSetState(
        host,
        ranges.map(({ hpa, pages }) => ({ frame: frameOf(hpa), pages })),
      ),
    )
  },
})

const PAGE_MOVE = defineCall({
  ...firmware,
  name: 'SNP_PAGE_MOVE',
  summary: 'Moves a Pre-Swap or Pre-Guest page to a Pre-Guest page, or a metadata page to a Firmware page.',
  schema: Type.Object(
    { gctx: gctxArgument, hpa: hpaArgument, destination: destinationArgument, pageSize: pageSizeArgument },
    closed,
  ),
  example: { hpa: '0x200000', destination: '0x400000' },
  run(host, { gctx, hpa, destination, pageSize }, guest) {
    if (unaligned(gctx, hpa, destination)) return INVALID_PARAM
    const context = contextFrame(host, guest, gctx)
    return status(pageMove(host, context, frameOf(hpa), frameOf(destination), isLarge(pageSize)))
  },
})

const debugSchema = Type.Object({ gctx: gctxArgument, hpa: hpaArgument, destination: destinationArgument }, closed)

const DBG_DECRYPT = defineCall({
  ...firmware,
  name: 'SNP_DBG_DECRYPT',
  summary: "Copies 4 KiB of a guest's page in plain into a Firmware page, if the policy allows debugging.",
  schema: debugSchema,
  example: { hpa: '0x200000', destination: '0x400000' },
  run: (host, { gctx, hpa, destination }, guest) =>
    unaligned(gctx, hpa, destination)
      ? INVALID_PARAM
      : status(dbgDecrypt(host, contextFrame(host, guest, gctx), frameOf(hpa), frameOf(destination))),
})

const DBG_ENCRYPT = defineCall({
  ...firmware,
  name: 'SNP_DBG_ENCRYPT',
  summary: 'Copies 4 KiB of plain bytes into a Pre-Guest or Pre-Swap page, if the policy allows debugging.',
  schema: debugSchema,
  example: { hpa: '0x400000', destination: '0x200000' },
  run: (host, { gctx, hpa, destination }, guest) =>
    unaligned(gctx, hpa, destination)
      ? INVALID_PARAM
      : status(dbgEncrypt(host, contextFrame(host, guest, gctx), frameOf(hpa), frameOf(destination))),
})

export const PAGE_CALLS: readonly Call[] = [
  LAUNCH_UPDATE,
  LAUNCH_FINISH,
  PAGE_RECLAIM,
  PAGE_UNSMASH,
  PAGE_MOVE,
  PAGE_MD_INIT,
  PAGE_SET_STATE,
  DBG_DECRYPT,
  DBG_ENCRYPT,
]
