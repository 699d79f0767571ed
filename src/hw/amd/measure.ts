import { parseBytes, toHex } from '../shared/hex.ts'
import type { Refused } from './fault.ts'
import { refused } from './fault.ts'
import { DIGEST_BYTES, PAGE } from './launch-digest.ts'
import { planSnpLaunch, VMSA_GPA } from './launch-plan.ts'
import {
  cpuSignatureOf,
  kernelFiles,
  type LaunchInputs,
  notFor,
  registers,
  SESSION,
  sessionMeasurement,
  u64,
  vcpuCount,
} from './measure-inputs.ts'
import { measurePart, type PartInputs, type PartMeasurement } from './measure-part.ts'
import { parseFirmware } from './ovmf.ts'
import { planSevLaunch } from './sev-plan.ts'
import { measureSevUpdates, measureUpdates, type SevStep, type SnpStep } from './transcript.ts'

export type SnpMeasurement = {
  readonly ok: true
  readonly launchDigest: string
  readonly startDigest: string
  readonly steps: readonly SnpStep[]
  /** What a real launch would stumble over although the digest can be computed. */
  readonly warnings: readonly string[]
}
export type SevMeasurement = {
  readonly ok: true
  readonly launchDigest: string
  readonly steps: readonly SevStep[]
  /** LAUNCH_MEASURE's HMAC and output, where the session's fields were given. */
  readonly measurement?: string
  readonly blobHex?: string
}
export type Measurement = SnpMeasurement | SevMeasurement | PartMeasurement | Refused
export type MeasureInputs = LaunchInputs | PartInputs

const SNP_MODES = [
  'snp',
  'snp-ovmf-hash',
  'snp-svsm',
  'pages',
  'vmsa-page',
  'kernel-hash-table',
  'cpu-signature',
  'id-block',
]
const SEV_ES_MODES = ['seves', 'launch-measure', 'vmsa-page', 'kernel-hash-table', 'cpu-signature']
const SEV_MODES = ['sev', 'launch-measure', 'kernel-hash-table']

export const measureSevSnp = (inputs: MeasureInputs): Measurement => measureAs('sev-snp', SNP_MODES, inputs)
export const measureSevEs = (inputs: MeasureInputs): Measurement => measureAs('sev-es', SEV_ES_MODES, inputs)
export const measureSev = (inputs: MeasureInputs): Measurement => measureAs('sev', SEV_MODES, inputs)

function measureAs(technology: string, modes: readonly string[], inputs: MeasureInputs): Measurement {
  if (!modes.includes(inputs.mode))
    return refused('measure-mode', `${technology} has no mode "${inputs.mode}"; it has ${modes.join(', ')}.`, '/mode')
  switch (inputs.mode) {
    case 'snp':
    case 'snp-svsm':
      return measureSnp(inputs)
    case 'snp-ovmf-hash':
      return measureOvmfOnly(inputs)
    case 'seves':
    case 'sev':
      return measureLegacy(inputs)
    default:
      return measurePart(inputs)
  }
}

function measureSnp(inputs: LaunchInputs): SnpMeasurement | Refused {
  const svsmMode = inputs.mode === 'snp-svsm'
  const strangers = notFor(inputs, svsmMode ? [...SESSION, 'ovmfHash'] : [...SESSION, 'svsm', 'ovmfVarsSize'])
  if (strangers !== undefined) return strangers
  if (svsmMode && inputs.svsm === undefined) return refused('svsm-missing', 'snp-svsm needs an SVSM image.', '/svsm')
  const kernel = kernelFiles(inputs)
  if (!kernel.ok) return kernel
  if (svsmMode && kernel.files !== null)
    return refused('kernel-hashes-unsupported', 'COCONUT-SVSM launches measure no kernel hashes.', '/kernel')
  const signature = cpuSignatureOf(inputs)
  if (!signature.ok) return signature
  const features = u64(inputs.guestFeatures ?? 1, '/guestFeatures')
  if (!features.ok) return features
  if (svsmMode && features.value !== 1n)
    return refused('guest-features', 'COCONUT-SVSM starts its vCPUs with sev_features 1.', '/guestFeatures')
  const gpa = u64(inputs.vmsaGpa ?? VMSA_GPA, '/vmsaGpa')
  if (!gpa.ok) return gpa
  if (gpa.value >= 1n << 52n || gpa.value % BigInt(PAGE) !== 0n)
    return refused('vmsa-gpa', 'The VMSA address is not a page below 2^52.', '/vmsaGpa')
  const vcpus = vcpuCount(inputs.vcpus)
  if (!vcpus.ok) return vcpus
  const override = registers(inputs.vmsaOverride)
  if (!override.ok) return override
  const start = inputs.ovmfHash === undefined ? undefined : parseBytes(inputs.ovmfHash, DIGEST_BYTES)
  if (inputs.ovmfHash !== undefined && start === undefined)
    return refused('ovmf-hash', 'The OVMF hash is not 48 bytes of hex.', '/ovmfHash')
  const plan = planSnpLaunch({
    image: inputs.image,
    vmm: inputs.vmm ?? 'qemu',
    vcpus: vcpus.value,
    cpuSignature: signature.value,
    sevFeatures: features.value,
    kernel: kernel.files,
    vmsaOverride: override.registers,
    vmsaGpa: Number(gpa.value),
    svsm: inputs.svsm && { image: inputs.svsm, varsSize: inputs.ovmfVarsSize ?? 0 },
  })
  if (!plan.ok) return plan
  const updates = start === undefined ? plan.updates : plan.updates.filter(({ source }) => source !== 'firmware')
  const warnings = plan.overlaps.map(
    (at) => `${toHex(at)} is given twice: KVM refuses the second update of a page with EIO.`,
  )
  return { ok: true, ...measureUpdates(updates, start), warnings }
}

function measureOvmfOnly(inputs: LaunchInputs): SnpMeasurement | Refused {
  const strangers = notFor(inputs, [...SESSION, 'svsm', 'ovmfVarsSize', 'ovmfHash'])
  if (strangers !== undefined) return strangers
  const parsed = parseFirmware(inputs.image)
  if (!parsed.ok) return parsed
  const { data, gpa } = parsed.firmware
  const pages = data.length / PAGE
  return {
    ok: true,
    ...measureUpdates([{ pageType: 'NORMAL', gpa, pages, contents: data, source: 'firmware' }]),
    warnings: [],
  }
}

function measureLegacy(inputs: LaunchInputs): SevMeasurement | Refused {
  const es = inputs.mode === 'seves'
  const strangers = notFor(inputs, ['svsm', 'ovmfVarsSize', 'ovmfHash', 'vmsaGpa', ...(es ? [] : ['vmsaOverride'])])
  if (strangers !== undefined) return strangers
  const features = u64(inputs.guestFeatures ?? 0, '/guestFeatures')
  if (!features.ok) return features
  if (features.value !== 0n)
    return refused('guest-features', `Mode ${inputs.mode} has sev_features 0.`, '/guestFeatures')
  const kernel = kernelFiles(inputs)
  if (!kernel.ok) return kernel
  const vcpus = vcpuCount(inputs.vcpus)
  if (!vcpus.ok) return vcpus
  const override = registers(inputs.vmsaOverride)
  if (!override.ok) return override
  const signature = es ? cpuSignatureOf(inputs) : ({ ok: true, value: 0 } as const)
  if (!signature.ok) return signature
  const plan = planSevLaunch({
    image: inputs.image,
    kernel: kernel.files,
    es: es
      ? {
          vmm: inputs.vmm ?? 'qemu',
          vcpus: vcpus.value,
          cpuSignature: signature.value,
          vmsaOverride: override.registers,
        }
      : undefined,
  })
  if (!plan.ok) return plan
  const measured = measureSevUpdates(plan.updates)
  const session = sessionMeasurement(inputs, measured.launchDigest)
  return session.ok ? { ...session, ...measured } : session
}
