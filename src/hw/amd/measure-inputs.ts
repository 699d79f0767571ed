import { type HexOrInteger, hexOf, parseBytes, parseU64, toHex } from '../shared/hex.ts'
import { signatureOfType, VCPU_TYPES } from './cpu.ts'
import { type Refused, refused } from './fault.ts'
import type { KernelFiles } from './kernel-hashes.ts'
import { launchMeasure } from './launch-digest.ts'
import { MAX_VCPUS } from './launch-plan.ts'
import type { Vmm, VmsaRegister, VmsaRegisters } from './vmsa.ts'

type Maybe<T> = T | null | undefined

/** The `inputs` of a launch measurement with its files already read. Field by field as in measure-schema.ts. */
export type LaunchInputs = {
  readonly mode: 'snp' | 'snp-ovmf-hash' | 'snp-svsm' | 'seves' | 'sev'
  readonly image: Uint8Array
  readonly vcpus?: number | undefined
  readonly vmm?: Vmm | undefined
  readonly vcpuType?: string | undefined
  readonly vcpuSignature?: HexOrInteger | undefined
  readonly guestFeatures?: HexOrInteger | undefined
  readonly kernel?: Maybe<Uint8Array>
  readonly initrd?: Maybe<Uint8Array>
  readonly cmdline?: Maybe<string>
  readonly ovmfHash?: string | undefined
  readonly vmsaGpa?: HexOrInteger | undefined
  readonly vmsaOverride?: { readonly [name in VmsaRegister]?: HexOrInteger | undefined } | undefined
  readonly svsm?: Uint8Array | undefined
  readonly ovmfVarsSize?: number | undefined
  readonly tik?: string | undefined
  readonly mnonce?: string | undefined
  readonly apiMajor?: number | undefined
  readonly apiMinor?: number | undefined
  readonly buildId?: number | undefined
  readonly policy?: HexOrInteger | undefined
}

export const SESSION = ['tik', 'mnonce', 'apiMajor', 'apiMinor', 'buildId', 'policy'] as const

/** LAUNCH_MEASURE over a digest, once all six fields of the session are given (amd-sev-snp.md a.3). */
export function sessionMeasurement(
  inputs: Pick<LaunchInputs, (typeof SESSION)[number]>,
  launchDigest: string,
): { readonly ok: true; readonly measurement?: string; readonly blobHex?: string } | Refused {
  const { tik, mnonce, apiMajor, apiMinor, buildId, policy } = inputs
  if (SESSION.every((name) => inputs[name] === undefined)) return { ok: true }
  const missing = SESSION.find((name) => inputs[name] === undefined)
  if (missing !== undefined)
    return refused('session-incomplete', `LAUNCH_MEASURE needs ${SESSION.join(', ')} together.`, `/${missing}`)
  const key = parseBytes(tik ?? '', 16)
  if (key === undefined) return refused('session-field', 'The TIK is not 16 bytes of hex.', '/tik')
  const nonce = parseBytes(mnonce ?? '', 16)
  if (nonce === undefined) return refused('session-field', 'The nonce is not 16 bytes of hex.', '/mnonce')
  const digest = parseBytes(launchDigest, 32)
  if (digest === undefined)
    return refused('session-field', 'The launch digest is not 32 bytes of hex.', '/launchDigest')
  const bits = u64(policy ?? 0, '/policy')
  if (!bits.ok) return bits
  if (bits.value > 0xffffffffn) return refused('session-field', 'A SEV policy has 32 bits.', '/policy')
  const measurement = launchMeasure({
    tik: key,
    mnonce: nonce,
    apiMajor: apiMajor ?? 0,
    apiMinor: apiMinor ?? 0,
    buildId: buildId ?? 0,
    policy: Number(bits.value),
    launchDigest: digest,
  })
  return { ok: true, measurement: hexOf(measurement), blobHex: hexOf(measurement) + hexOf(nonce) }
}

/** A field that says nothing in this mode is refused, so that no answer depends on less than was asked. */
export function notFor(inputs: LaunchInputs, names: readonly string[]): Refused | undefined {
  const given = names.find((name) => inputs[name as keyof LaunchInputs] !== undefined)
  return given === undefined
    ? undefined
    : refused('field-not-applicable', `"${given}" says nothing in mode ${inputs.mode}.`, `/${given}`)
}

export function kernelFiles(inputs: LaunchInputs): { readonly ok: true; readonly files: KernelFiles | null } | Refused {
  const { kernel, initrd, cmdline } = inputs
  if (kernel != null) return { ok: true, files: { kernel, initrd: initrd ?? null, cmdline: cmdline ?? null } }
  if (initrd != null) return refused('kernel-missing', 'An initrd is measured only with a kernel.', '/initrd')
  if (cmdline) return refused('kernel-missing', 'A command line is measured only with a kernel.', '/cmdline')
  return { ok: true, files: null }
}

export type Resolved<T> = { readonly ok: true; readonly value: T } | Refused

export function u64(value: HexOrInteger, pointer: string): Resolved<bigint> {
  const parsed = parseU64(value)
  return parsed === undefined
    ? refused('number', 'Not an unsigned number of at most 64 bits.', pointer)
    : { ok: true, value: parsed }
}

export type CpuInputs = Pick<LaunchInputs, 'vmm' | 'vcpuType' | 'vcpuSignature'>

/** CPUID 1 EAX as the VMSA shows it: from the model's name, or given outright; both must agree (amd-sev-snp.md d.7). */
export function cpuSignatureOf(inputs: CpuInputs): Resolved<number> {
  const ofType = inputs.vcpuType === undefined ? undefined : signatureOfType(inputs.vcpuType)
  if (inputs.vcpuSignature !== undefined) {
    const given = u64(inputs.vcpuSignature, '/vcpuSignature')
    if (!given.ok) return given
    if (given.value > 0xffffffffn) return refused('number', 'A CPU signature has 32 bits.', '/vcpuSignature')
    const value = Number(given.value)
    return ofType === undefined || ofType === value
      ? { ok: true, value }
      : refused('vcpu-signature', `${inputs.vcpuType} has the signature ${toHex(ofType)}.`, '/vcpuSignature')
  }
  if (ofType !== undefined) return { ok: true, value: ofType }
  if (inputs.vcpuType !== undefined)
    return refused('vcpu-type', `Unknown vCPU type; known are ${VCPU_TYPES.join(', ')}.`, '/vcpuType')
  const shown = (inputs.vmm ?? 'qemu') === 'qemu'
  return shown
    ? refused('vcpu-type', 'QEMU shows the CPU signature to the guest: give vcpuType or vcpuSignature.', '/vcpuType')
    : { ok: true, value: 0 }
}

export function registers(
  given: LaunchInputs['vmsaOverride'],
): { readonly ok: true; readonly registers: VmsaRegisters } | Refused {
  const values: { [name: string]: bigint } = {}
  for (const [name, value] of Object.entries(given ?? {})) {
    if (value === undefined) continue
    const parsed = u64(value, `/vmsaOverride/${name}`)
    if (!parsed.ok) return parsed
    values[name] = parsed.value
  }
  return { ok: true, registers: values }
}

export const vcpuCount = (count = 1): Resolved<number> =>
  Number.isInteger(count) && count >= 1 && count <= MAX_VCPUS
    ? { ok: true, value: count }
    : refused('vcpus', `A guest has 1 to ${MAX_VCPUS} vCPUs.`, '/vcpus')
