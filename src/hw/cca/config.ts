import { type Static, Type } from 'typebox'
import type { LaunchSchemas } from '../contract.ts'
import { HexAddress } from '../shared/address-schema.ts'
import { VMMS, type Vmm } from './measurement/vmms.ts'

const word = (description: string) => Type.Optional(Type.Union(HexAddress.anyOf, { description }))
const field = (description: string, bounds: { readonly maximum: number; readonly default: number }) =>
  Type.Optional(Type.Integer({ minimum: 0, description, ...bounds }))

export const DEFAULTS = { s2sz: 41, numBps: 5, numWps: 5 } as const

/** Fields of RmiRealmParams (arm-cca.md 1, 3). */
export const configSchema = Type.Object(
  {
    s2sz: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 255,
        default: DEFAULTS.s2sz,
        description: 'Width of an IPA in bits; the highest bit makes an access unprotected.',
      }),
    ),
    rttLevelStart: Type.Optional(
      Type.Integer({
        minimum: -1,
        maximum: 3,
        description: 'Level of the root tables; by default the deepest that 16 concatenated tables allow.',
      }),
    ),
    hash: Type.Optional(
      Type.Enum(['sha-256', 'sha-512'], { default: 'sha-256', description: 'Algorithm of the measurements.' }),
    ),
    rpv: Type.Optional(
      Type.String({
        pattern: '^(?:[0-9a-fA-F]{2}){0,64}$',
        description: 'Realm personalization value in hex, up to 64 bytes; zero by default.',
      }),
    ),
    lpa2: Type.Optional(Type.Boolean({ default: false, description: 'Addresses of more than 48 bits.' })),
    sveVl: Type.Optional(
      Type.Integer({
        minimum: 0,
        maximum: 255,
        description: 'SVE with this vector length in units of 128 bits, less one.',
      }),
    ),
    numBps: field('Breakpoints, less one.', { maximum: 255, default: DEFAULTS.numBps }),
    numWps: field('Watchpoints, less one.', { maximum: 255, default: DEFAULTS.numWps }),
    pmuNumCtrs: Type.Optional(Type.Integer({ minimum: 0, maximum: 255, description: 'A PMU with so many counters.' })),
  },
  { additionalProperties: false, examples: [{ s2sz: 41, hash: 'sha-256' }] },
)
export type Config = Static<typeof configSchema>

const updateSchema = Type.Object(
  {
    measure: Type.Optional(
      Type.Boolean({
        default: true,
        description:
          'MEASURE_CONTENT: the contents count for the RIM. An unmeasured page still extends it with its IPA.',
      }),
    ),
  },
  { additionalProperties: false, examples: [{ measure: true }] },
)
export type UpdateOptions = Static<typeof updateSchema>

const finishSchema = Type.Object(
  {
    entry: word('PC of the boot REC, where no REC has been created yet; 0 by default.'),
    x0: word('X0 of the boot REC: the device tree. 0 by default.'),
    ripas: Type.Optional(
      Type.Array(
        Type.Object(
          { gpa: Type.Union(HexAddress.anyOf), length: Type.Union(HexAddress.anyOf) },
          { additionalProperties: false },
        ),
        { maxItems: 64, description: 'Ranges that become RAM first, each with RTT_INIT_RIPAS.' },
      ),
    ),
  },
  {
    additionalProperties: false,
    examples: [{ entry: '0x80000000', ripas: [{ gpa: '0x80000000', length: '0x20000000' }] }],
  },
)
export type FinishOptions = Static<typeof finishSchema>

const decimal = (description: string) =>
  Type.Optional(Type.String({ pattern: '^(?:0x[0-9a-fA-F]{1,12}|[0-9]{1,15})$', description }))

const imageSchema = Type.Object(
  {
    vmm: Type.Optional(
      Type.Enum(Object.keys(VMMS) as Vmm[], { default: 'qemu', description: 'Whose commands, in whose order (9).' }),
    ),
    ramSize: decimal('Bytes of RAM; 512 MiB by default.'),
    base: decimal("IPA of the image; for qemu 0, where its firmware lies, else RAM's start."),
    entry: decimal('PC of the boot REC; the start of the image by default.'),
    x0: decimal('X0 of the boot REC: the device tree, where there is one; 0 by default.'),
  },
  { additionalProperties: false, examples: [{ vmm: 'kvmtool', ramSize: '536870912' }] },
)
export type ImageQuery = Static<typeof imageSchema>

export const launchSchemas: LaunchSchemas = { update: updateSchema, finish: finishSchema, image: imageSchema }
