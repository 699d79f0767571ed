/** vCPU models by QEMU's names, and the CPUID Fn0000_0001_EAX signature that ends in a VMSA (amd-sev-snp.md d.7). */
type Model = readonly [family: number, model: number, stepping: number]

export function cpuSignature(family: number, model: number, stepping: number): number {
  const extended = family > 15 ? family - 15 : 0
  const base = Math.min(family, 15)
  return (
    (((extended & 0xff) << 20) | (((model >> 4) & 15) << 16) | (base << 8) | ((model & 15) << 4) | (stepping & 15)) >>>
    0
  )
}

const NAPLES: Model = [23, 1, 2]
const ROME: Model = [23, 49, 0]
const MILAN: Model = [25, 1, 1]
const GENOA: Model = [25, 17, 0]
const TURIN: Model = [26, 0, 0]

const named = (name: string, model: Model, versions: number): [string, Model][] => [
  [name, model],
  ...Array.from({ length: versions }, (_, index): [string, Model] => [`${name}-v${index + 1}`, model]),
]

const MODELS = new Map<string, Model>([
  ...named('EPYC', NAPLES, 5),
  ['EPYC-IBPB', NAPLES],
  ...named('EPYC-Rome', ROME, 5),
  ...named('EPYC-Milan', MILAN, 3),
  ...named('EPYC-Genoa', GENOA, 2),
  ...named('EPYC-Turin', TURIN, 1),
])

export const VCPU_TYPES: readonly string[] = [...MODELS.keys()]

/** The signature of a model QEMU knows, or undefined. A model's versions share one signature. */
export function signatureOfType(name: string): number | undefined {
  const model = MODELS.get(name)
  return model && cpuSignature(...model)
}
