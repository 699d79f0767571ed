import { type Refused, refused } from './fault.ts'
import type { KernelFiles } from './kernel-hashes.ts'
import { planHashTable, resetAddress } from './launch-plan.ts'
import { parseFirmware } from './ovmf.ts'
import { BSP_EIP, type Vmm, type VmsaRegisters, vmsaPage } from './vmsa.ts'

/** One measured command of a SEV or SEV-ES launch. A VMSA is measured without an address. */
export type SevUpdate = {
  readonly command: 'LAUNCH_UPDATE_DATA' | 'LAUNCH_UPDATE_VMSA'
  readonly gpa: number | null
  readonly bytes: Uint8Array
  readonly source: 'firmware' | 'kernel-hashes' | 'vmsa'
  readonly vcpu?: number
}

export type SevPlanInputs = {
  readonly image: Uint8Array
  readonly kernel: KernelFiles | null
  /** Present for SEV-ES: the vCPUs whose save areas are measured. */
  readonly es?:
    | {
        readonly vmm: Vmm
        readonly vcpus: number
        readonly cpuSignature: number
        readonly vmsaOverride?: VmsaRegisters | undefined
      }
    | undefined
}

/** The ordered commands of a SEV or SEV-ES launch: firmware, kernel hash table, VMSAs (amd-sev-snp.md a.3). */
export function planSevLaunch(
  inputs: SevPlanInputs,
): { readonly ok: true; readonly updates: readonly SevUpdate[] } | Refused {
  const parsed = parseFirmware(inputs.image)
  if (!parsed.ok) return parsed
  const { firmware } = parsed
  const updates: SevUpdate[] = [
    { command: 'LAUNCH_UPDATE_DATA', gpa: firmware.gpa, bytes: firmware.data, source: 'firmware' },
  ]
  if (inputs.kernel !== null) {
    const table = planHashTable(firmware, inputs.kernel)
    if (!table.ok) return table
    if (table.gpa % 16 !== 0)
      return refused('kernel-hashes-table', 'LAUNCH_UPDATE_DATA needs the hash table 16-byte aligned.', '/image')
    updates.push({ command: 'LAUNCH_UPDATE_DATA', gpa: table.gpa, bytes: table.table, source: 'kernel-hashes' })
  }
  if (inputs.es === undefined) return { ok: true, updates }
  const reset = resetAddress(firmware)
  if (!reset.ok) return reset
  const { vmm, cpuSignature, vmsaOverride: override } = inputs.es
  const common = { vmm, cpuSignature, override, sevFeatures: 0n }
  const bsp = vmsaPage({ ...common, role: 'BSP', eip: BSP_EIP })
  const ap = vmsaPage({ ...common, role: 'AP', eip: reset.eip })
  for (let vcpu = 0; vcpu < inputs.es.vcpus; vcpu++) {
    const bytes = vcpu === 0 ? bsp : ap
    updates.push({ command: 'LAUNCH_UPDATE_VMSA', gpa: null, bytes, source: 'vmsa', vcpu })
  }
  return { ok: true, updates }
}
