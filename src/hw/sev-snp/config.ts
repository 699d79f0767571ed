import { type Static, Type } from 'typebox'
import { VCPU_TYPES } from '../amd/cpu.ts'
import { PAGE_TYPE } from '../amd/launch-digest.ts'
import { VMMS, VMSA_REGISTERS } from '../amd/vmsa.ts'
import type { LaunchSchemas } from '../contract.ts'
import { HexAddress } from '../shared/address-schema.ts'

/** A number or address with a description of its own. */
export const hex = (options: {
  readonly description: string
  readonly default?: string
  readonly examples?: string[]
}) => Type.Union(HexAddress.anyOf, options)

/** SMT allowed, reserved bit 17: QEMU's default policy (amd-sev-snp.md d.1). */
export const DEFAULT_POLICY = '0x30000'

export const configSchema = Type.Object(
  {
    policy: Type.Optional(
      hex({
        description: 'Launch policy of SNP_LAUNCH_START, 64 bits.',
        default: DEFAULT_POLICY,
        examples: ['0x30000', '0xb0000'],
      }),
    ),
    freshPages: Type.Optional(
      Type.Union([Type.Literal('zero'), Type.Literal('scrambled')], {
        default: 'zero',
        description:
          'What the guest finds in a page it validates for the first time: zeros, or garbage as on real hardware.',
      }),
    ),
    pageStateHints: Type.Optional(
      Type.Union([Type.Literal('honour'), Type.Literal('kvm')], {
        default: 'honour',
        description: 'Whether psmash and unsmash hints are followed, or passed over as KVM does.',
      }),
    ),
  },
  { additionalProperties: false, description: 'SEV-SNP guest', examples: [{ policy: '0x30000' }] },
)
export type Config = Static<typeof configSchema>

/** The longest base64 of a page and a block. */
const base64 = (bytes: number, description: string) =>
  Type.String({ pattern: '^[A-Za-z0-9+/]*={0,2}$', maxLength: Math.ceil(bytes / 3) * 4, description })
const literals = (names: readonly string[], options: { readonly default: string; readonly description: string }) =>
  Type.Union(
    names.map((name) => Type.Literal(name)),
    options,
  )

/** Types that SNP_LAUNCH_UPDATE of KVM knows; VMSA is here to be refused with EINVAL, as KVM does (d.4). */
const updateSchema = Type.Object(
  {
    pageType: Type.Optional(
      literals(Object.keys(PAGE_TYPE), { default: 'NORMAL', description: 'Page type of SNP_LAUNCH_UPDATE.' }),
    ),
  },
  { additionalProperties: false, examples: [{ pageType: 'ZERO' }] },
)

const processor = {
  vmm: Type.Optional(literals(VMMS, { default: 'qemu', description: 'Whose initial register state.' })),
  vcpuType: Type.Optional(literals(VCPU_TYPES, { default: 'EPYC-v4', description: "The guest's processor model." })),
}

const finishSchema = Type.Object(
  {
    ...processor,
    vcpuSignature: Type.Optional(hex({ description: 'CPUID 1 EAX, instead of vcpuType.' })),
    guestFeatures: Type.Optional(hex({ default: '0x1', description: 'sev_features of the VMSAs.' })),
    resetEip: Type.Optional(
      hex({ description: "Start address of application processors: the image's SEV-ES reset block." }),
    ),
    vmsaOverride: Type.Optional(
      Type.Object(Object.fromEntries(Object.keys(VMSA_REGISTERS).map((name) => [name, Type.Optional(HexAddress)])), {
        additionalProperties: false,
        description: 'Registers that differ from what the VMM sets.',
      }),
    ),
    idBlock: Type.Optional(base64(96, 'ID block, 96 bytes.')),
    idAuth: Type.Optional(base64(4096, 'ID authentication information, 4096 bytes.')),
    authorKeyEnabled: Type.Optional(
      Type.Boolean({ default: false, description: 'The ID key is signed by an author.' }),
    ),
    hostData: Type.Optional(base64(32, 'Host data, up to 32 bytes.')),
  },
  { additionalProperties: false, examples: [{ vmm: 'qemu', vcpuType: 'EPYC-Genoa' }] },
)
export type FinishOptions = Static<typeof finishSchema>

/** Query strings have no numbers. */
const queryNumber = (description: string) =>
  Type.Optional(Type.String({ pattern: '^(?:0x[0-9a-fA-F]{1,16}|[0-9]{1,15})$', description }))
const sha256 = (description: string) => Type.Optional(Type.String({ pattern: '^[0-9a-fA-F]{64}$', description }))

const imageSchema = Type.Object(
  {
    ...processor,
    vcpuSignature: queryNumber('CPUID 1 EAX, instead of vcpuType.'),
    guestFeatures: queryNumber('sev_features of the VMSAs; 1 by default.'),
    kernelHash: sha256('SHA-256 of the kernel file: turns kernel hashes on.'),
    initrdHash: sha256('SHA-256 of the initrd; that of nothing by default.'),
    cmdline: Type.Optional(Type.String({ maxLength: 4096, description: 'Kernel command line.' })),
  },
  { additionalProperties: false, examples: [{ vmm: 'qemu', vcpuType: 'EPYC-v4' }] },
)
export type ImageQuery = Static<typeof imageSchema>

export const launchSchemas: LaunchSchemas = { update: updateSchema, finish: finishSchema, image: imageSchema }
