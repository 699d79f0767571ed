import { type Static, Type } from 'typebox'
import type { LaunchSchemas } from '../contract.ts'
import { HexAddress } from '../shared/address-schema.ts'
import { EXTENDS, ORDERS, VMMS, type Vmm } from './measurement/vmms.ts'

const word = (description: string, options: { readonly default: string }) =>
  Type.Optional(Type.Union(HexAddress.anyOf, { description, ...options }))
const digest = (description: string) =>
  Type.Optional(
    Type.String({ pattern: '^[0-9a-fA-F]{96}$', description: `${description}, 48 bytes in hex; zero by default.` }),
  )

/** SEPT_VE_DISABLE, without which Linux guests do not boot (intel-tdx.md d.2). */
export const DEFAULT_ATTRIBUTES = '0x10000000'
/** x87, SSE, AVX and AVX-512. */
export const DEFAULT_XFAM = '0xe7'
/** 1 GHz, in units of 25 MHz. */
export const DEFAULT_TSC_FREQUENCY = 40

export const configSchema = Type.Object(
  {
    attributes: word('TD attributes: SEPT_VE_DISABLE bit 28, PERFMON bit 63.', { default: DEFAULT_ATTRIBUTES }),
    xfam: word('Extended features the guest may use.', { default: DEFAULT_XFAM }),
    gpaw: Type.Optional(
      Type.Union([Type.Literal(48), Type.Literal(52)], {
        default: 48,
        description: 'Width of guest physical addresses; the highest bit makes an access shared.',
      }),
    ),
    flexiblePendingVe: Type.Optional(
      Type.Boolean({ default: false, description: 'The guest may choose between #VE and TD exit on pending pages.' }),
    ),
    maxVcpus: Type.Optional(
      Type.Integer({ minimum: 1, maximum: 4096, description: 'vCPUs at most; as many as there are by default.' }),
    ),
    tscFrequency: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 0xffff,
        default: DEFAULT_TSC_FREQUENCY,
        description: 'Virtual TSC in units of 25 MHz, 4 to 400.',
      }),
    ),
    mrconfigid: digest('Configuration of the guest'),
    mrowner: digest('Owner of the guest'),
    mrownerconfig: digest("Owner's configuration of the guest"),
    tdHob: Type.Optional(
      Type.Union(HexAddress.anyOf, {
        description: 'Initial RCX and R8 of the vCPUs: where the firmware finds its TD_HOB.',
      }),
    ),
    exitHypercall: Type.Optional(
      Type.Boolean({
        default: true,
        description: 'The VMM has enabled the exit that MapGPA needs (KVM_CAP_EXIT_HYPERCALL).',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ attributes: DEFAULT_ATTRIBUTES, gpaw: 48 }] },
)
export type Config = Static<typeof configSchema>

const updateSchema = Type.Object(
  {
    measure: Type.Optional(
      Type.Boolean({
        default: true,
        description: 'KVM_TDX_MEASURE_MEMORY_REGION: extends MRTD with the contents of each page it adds.',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ measure: true }] },
)
export type UpdateOptions = Static<typeof updateSchema>

const finishSchema = Type.Object(
  {
    tdHob: Type.Optional(
      Type.Union(HexAddress.anyOf, {
        description: 'Initial RCX and R8 of the vCPUs, instead of what the VM was made with.',
      }),
    ),
  },
  { additionalProperties: false, examples: [{}] },
)
export type FinishOptions = Static<typeof finishSchema>

const imageSchema = Type.Object(
  {
    vmm: Type.Optional(
      Type.Enum(Object.keys(VMMS) as Vmm[], { default: 'qemu', description: 'Whose calls, in whose order (f.2).' }),
    ),
    order: Type.Optional(
      Type.Enum([...ORDERS], { description: 'How pages are added and measured, instead of as the VMM does.' }),
    ),
    extend: Type.Optional(
      Type.Enum([...EXTENDS], { description: 'Which sections are measured, instead of as the VMM does.' }),
    ),
    tdHob: Type.Optional(
      Type.String({
        pattern: '^(?:[0-9a-fA-F]{2}){1,768}$',
        description: 'The TD_HOB that the VMM builds, in hex, for those that measure it.',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ vmm: 'qemu' }] },
)
export type ImageQuery = Static<typeof imageSchema>

export const launchSchemas: LaunchSchemas = { update: updateSchema, finish: finishSchema, image: imageSchema }
