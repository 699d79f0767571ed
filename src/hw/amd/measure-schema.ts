import { type TSchema, Type } from 'typebox'
import { closed, FileInput, HexOrInteger } from '../shared/input-schema.ts'
import { MAX_VCPUS } from './launch-plan.ts'
import { MAX_PAGES } from './measure-part.ts'
import { VMMS, VMSA_REGISTERS } from './vmsa.ts'

const U8 = 0xff
const U32 = 0xffffffff
const MAX_PAGE_RUNS = 4096
const MAX_CMDLINE = 65536

const nullable = <T extends TSchema>(schema: T) => Type.Union([schema, Type.Null()])
const hexBytes = (length: number) =>
  Type.String({ pattern: `^[0-9a-fA-F]{${length * 2}}$`, minLength: length * 2, maxLength: length * 2 })
const names = <T extends string>(values: readonly T[]) => Type.Union(values.map((value) => Type.Literal(value)))

const vmm = names(VMMS)
const vcpuType = Type.String({ minLength: 1, maxLength: 64 })
const cmdline = nullable(Type.String({ maxLength: MAX_CMDLINE }))
const vmsaOverride = closed(
  Object.fromEntries(Object.keys(VMSA_REGISTERS).map((name) => [name, Type.Optional(HexOrInteger)])),
)

/** LAUNCH_MEASURE's fields; all six or none (amd-sev-snp.md a.3). */
const session = {
  tik: Type.Optional(hexBytes(16)),
  mnonce: Type.Optional(hexBytes(16)),
  apiMajor: Type.Optional(Type.Integer({ minimum: 0, maximum: U8 })),
  apiMinor: Type.Optional(Type.Integer({ minimum: 0, maximum: U8 })),
  buildId: Type.Optional(Type.Integer({ minimum: 0, maximum: U8 })),
  policy: Type.Optional(HexOrInteger),
}

const launchFields = {
  image: FileInput,
  vcpus: Type.Optional(Type.Integer({ minimum: 1, maximum: MAX_VCPUS })),
  vmm: Type.Optional(vmm),
  vcpuType: Type.Optional(vcpuType),
  vcpuSignature: Type.Optional(HexOrInteger),
  guestFeatures: Type.Optional(HexOrInteger),
  kernel: Type.Optional(nullable(FileInput)),
  initrd: Type.Optional(nullable(FileInput)),
  cmdline: Type.Optional(cmdline),
  vmsaOverride: Type.Optional(vmsaOverride),
}

const SnpLaunch = closed({
  mode: names(['snp', 'snp-ovmf-hash', 'snp-svsm']),
  ...launchFields,
  ovmfHash: Type.Optional(hexBytes(48)),
  vmsaGpa: Type.Optional(HexOrInteger),
  svsm: Type.Optional(FileInput),
  ovmfVarsSize: Type.Optional(Type.Integer({ minimum: 0, maximum: U32 })),
})
const SevEsLaunch = closed({ mode: Type.Literal('seves'), ...launchFields, ...session })
const SevLaunch = closed({ mode: Type.Literal('sev'), ...launchFields, ...session })

const pageType = names(['NORMAL', 'VMSA', 'ZERO', 'UNMEASURED', 'SECRETS', 'CPUID'])
const Pages = closed({
  mode: Type.Literal('pages'),
  startDigest: Type.Optional(hexBytes(48)),
  pages: Type.Array(
    closed({
      pageType,
      gpa: HexOrInteger,
      count: Type.Integer({ minimum: 1, maximum: MAX_PAGES }),
      fillByte: Type.Optional(HexOrInteger),
      contents: Type.Optional(FileInput),
    }),
    { maxItems: MAX_PAGE_RUNS },
  ),
})
const VmsaPage = closed({
  mode: Type.Literal('vmsa-page'),
  vmm,
  role: names(['BSP', 'AP']),
  resetEip: Type.Optional(HexOrInteger),
  sevFeatures: Type.Optional(HexOrInteger),
  vcpuType: Type.Optional(vcpuType),
  vcpuSignature: Type.Optional(HexOrInteger),
  vmsaOverride: Type.Optional(vmsaOverride),
})
const KernelHashTable = closed({
  mode: Type.Literal('kernel-hash-table'),
  kernel: FileInput,
  initrd: Type.Optional(nullable(FileInput)),
  cmdline: Type.Optional(cmdline),
})
const CpuSignature = closed({
  mode: Type.Literal('cpu-signature'),
  family: Type.Integer({ minimum: 0, maximum: 270 }),
  model: Type.Integer({ minimum: 0, maximum: U8 }),
  stepping: Type.Integer({ minimum: 0, maximum: 15 }),
})
const LaunchMeasure = closed({ mode: Type.Literal('launch-measure'), launchDigest: hexBytes(32), ...session })
const Key = closed({ qx: hexBytes(48), qy: hexBytes(48) })
const IdBlock = closed({
  mode: Type.Literal('id-block'),
  launchDigest: hexBytes(48),
  familyId: hexBytes(16),
  imageId: hexBytes(16),
  version: Type.Optional(Type.Integer({ minimum: 0, maximum: U32 })),
  guestSvn: Type.Integer({ minimum: 0, maximum: U32 }),
  policy: HexOrInteger,
  idKey: Key,
  authorKey: Type.Optional(Key),
})

/** `inputs` of `POST /v1/measurements`, by technology. Each is a union told apart by `mode`. */
export const SevSnpInputs = Type.Union([SnpLaunch, Pages, VmsaPage, KernelHashTable, CpuSignature, IdBlock])
export const SevEsInputs = Type.Union([SevEsLaunch, LaunchMeasure, VmsaPage, KernelHashTable, CpuSignature])
export const SevInputs = Type.Union([SevLaunch, LaunchMeasure, KernelHashTable])
