import { Buffer } from 'node:buffer'
import { type Static, Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { DEFAULT_TSC_FREQUENCY, DEFAULT_XFAM } from '../config.ts'
import { freeKeyId } from '../module/kot.ts'
import { mrFinalize } from '../module/mem-content.ts'
import { mngAddcx, mngCreate, mngInit, mngKeyConfig } from '../module/mng.ts'
import { encodeTdParams, eptpControlsFor, TD_PARAMS_BYTES } from '../module/td-params.ts'
import { mngKeyFreeId, mngVpFlushDone } from '../module/teardown.ts'
import {
  addressValue,
  closed,
  defineSeamcall,
  optionalWord,
  packageArgument,
  pageArgument,
  tdrArgument,
  tdrWord,
} from './call-definition.ts'

const ofTd = Type.Object({ tdr: tdrArgument }, closed)

const CREATE = defineSeamcall({
  name: 'TDH.MNG.CREATE',
  summary: 'Makes a free page the TDR of a new TD under a private key.',
  schema: Type.Object(
    {
      page: pageArgument('the free page, RCX'),
      hkid: Type.Optional(
        Type.Integer({ minimum: 0, maximum: 0xffff, description: 'Key id, RDX; by default the lowest free one.' }),
      ),
    },
    closed,
  ),
  example: { page: '0x8000000' },
  run: (host, { page, hkid = freeKeyId(host.data.kot) }) => mngCreate(host, addressValue(page), hkid),
})

const KEY_CONFIG = defineSeamcall({
  name: 'TDH.MNG.KEY.CONFIG',
  summary: "Configures a TD's key on one package.",
  schema: Type.Object({ tdr: tdrArgument, package: packageArgument }, closed),
  example: { tdr: '0x8000000', package: 0 },
  run: (host, { tdr, package: onPackage = 0 }, guest) => mngKeyConfig(host, tdrWord(host, guest, tdr), onPackage),
})

const ADDCX = defineSeamcall({
  name: 'TDH.MNG.ADDCX',
  summary: "Gives a TD one more page for the module's records of it.",
  schema: Type.Object({ page: pageArgument('the free page, RCX'), tdr: tdrArgument }, closed),
  example: { page: '0x8001000', tdr: '0x8000000' },
  run: (host, { page, tdr }, guest) => mngAddcx(host, addressValue(page), tdrWord(host, guest, tdr)),
})

const digest = (what: string) =>
  Type.Optional(Type.String({ pattern: '^[0-9a-fA-F]{96}$', description: `${what}: 48 bytes in hex.` }))
const uint = (maximum: number, value: number, description: string) =>
  Type.Optional(Type.Integer({ minimum: 0, maximum, default: value, description }))

const fields = Type.Object(
  {
    attributes: optionalWord('ATTRIBUTES; SEPT_VE_DISABLE (bit 28) by default.'),
    xfam: optionalWord('XFAM; x87, SSE, AVX and AVX-512 by default.'),
    maxVcpus: uint(0xffff, 512, 'MAX_VCPUS.'),
    l2Vms: uint(0xff, 0, 'NUM_L2_VMS.'),
    configFlags: uint(0xffffffff, 0, 'CONFIG_FLAGS: bit 0 GPAW 52, bit 1 FLEXIBLE_PENDING_VE, bit 2 NO_RBP_MOD.'),
    eptpControls: Type.Optional(
      Type.Integer({ minimum: 0, maximum: 0xffffffff, description: 'EPTP_CONTROLS; by default as GPAW needs it.' }),
    ),
    tscFrequency: uint(0xffff, DEFAULT_TSC_FREQUENCY, 'TSC_FREQUENCY in units of 25 MHz.'),
    mrconfigid: digest('MRCONFIGID'),
    mrowner: digest('MROWNER'),
    mrownerconfig: digest('MROWNERCONFIG'),
  },
  closed,
)

const paramBytes = Type.String({
  pattern: '^[A-Za-z0-9+/]{1366}==$',
  description: `TD_PARAMS as it is in memory: ${TD_PARAMS_BYTES} bytes in base64.`,
})

const DEFAULT_ATTRIBUTES = '0x10000000'
const NO_DIGEST = '00'.repeat(48)

function encodeFields(given: Static<typeof fields>): Uint8Array {
  const { configFlags = 0, mrconfigid = NO_DIGEST, mrowner = NO_DIGEST, mrownerconfig = NO_DIGEST } = given
  return encodeTdParams({
    attributes: addressValue(given.attributes ?? DEFAULT_ATTRIBUTES),
    xfam: addressValue(given.xfam ?? DEFAULT_XFAM),
    maxVcpus: given.maxVcpus ?? 512,
    l2Vms: given.l2Vms ?? 0,
    configFlags,
    eptpControls: given.eptpControls ?? eptpControlsFor((configFlags & 1) !== 0),
    tscFrequency: given.tscFrequency ?? DEFAULT_TSC_FREQUENCY,
    mrconfigid: Buffer.from(mrconfigid, 'hex'),
    mrowner: Buffer.from(mrowner, 'hex'),
    mrownerconfig: Buffer.from(mrownerconfig, 'hex'),
  })
}

const INIT = defineSeamcall({
  name: 'TDH.MNG.INIT',
  summary: 'Initialises a TD from TD_PARAMS, and starts its measurement.',
  schema: Type.Object({ tdr: tdrArgument, params: Type.Union([fields, paramBytes]) }, closed),
  example: { tdr: '0x8000000', params: { attributes: '0x10000000', xfam: '0x7', maxVcpus: 4 } },
  run: (host, { tdr, params }, guest) =>
    mngInit(
      host,
      tdrWord(host, guest, tdr),
      typeof params === 'string' ? Buffer.from(params, 'base64') : encodeFields(params),
    ),
})

const FINALIZE = defineSeamcall({
  name: 'TDH.MR.FINALIZE',
  summary: "Ends a TD's measurement: it may run from now on.",
  schema: ofTd,
  example: { tdr: '0x8000000' },
  run: (host, { tdr }, guest) => mrFinalize(host, tdrWord(host, guest, tdr)),
})

const VPFLUSHDONE = defineSeamcall({
  name: 'TDH.MNG.VPFLUSHDONE',
  summary: "Blocks a TD whose vCPUs are all flushed; its key's caches are to be written back.",
  schema: ofTd,
  example: { tdr: '0x8000000' },
  run: (host, { tdr }, guest) => mngVpFlushDone(host, tdrWord(host, guest, tdr)),
})

const KEY_FREEID = defineSeamcall({
  name: 'TDH.MNG.KEY.FREEID',
  summary: 'Frees the key of a blocked TD, whose pages may then be reclaimed.',
  schema: ofTd,
  example: { tdr: '0x8000000' },
  run: (host, { tdr }, guest) => mngKeyFreeId(host, tdrWord(host, guest, tdr)),
})

export const MANAGEMENT_CALLS: readonly Call[] = [CREATE, KEY_CONFIG, ADDCX, INIT, FINALIZE, VPFLUSHDONE, KEY_FREEID]
