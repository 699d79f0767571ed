import { ID_AUTH_BYTES, ID_BLOCK_BYTES } from '../amd/id-block.ts'
import { cpuSignatureOf, registers, u64 } from '../amd/measure-inputs.ts'
import { BSP_EIP, type Vmm, type VmsaInputs, vmsaPage } from '../amd/vmsa.ts'
import type { Verdict } from '../contract.ts'
import type { FinishOptions } from './config.ts'
import type { LaunchFinish } from './firmware-launch.ts'
import { refuse } from './status.ts'

/** vCPU type of QEMU when none is named. */
export const DEFAULT_VCPU_TYPE = 'EPYC-v4'
const HOST_DATA_BYTES = 32
const MAX_EIP = 0xffffffffn

export type ParsedFinish = LaunchFinish & { readonly vcpu: Omit<VmsaInputs, 'role' | 'eip'>; readonly resetEip: number }

/** Judges finish options before anything is measured: what KVM or the VMM would not even send is EINVAL. */
export function parseFinish(given: Readonly<Record<string, unknown>>): Verdict<ParsedFinish> {
  const options = given as FinishOptions
  const vmm = (options.vmm ?? 'qemu') as Vmm
  const vcpuType = options.vcpuType ?? (options.vcpuSignature === undefined ? DEFAULT_VCPU_TYPE : undefined)
  const signature = cpuSignatureOf({ vmm, vcpuType, vcpuSignature: options.vcpuSignature })
  if (!signature.ok) return refuse('EINVAL', signature.fault.code, signature.fault.detail, signature.fault.pointer)
  const features = u64(options.guestFeatures ?? 1, '/guestFeatures')
  if (!features.ok) return refuse('EINVAL', features.fault.code, features.fault.detail, features.fault.pointer)
  const override = registers(options.vmsaOverride)
  if (!override.ok) return refuse('EINVAL', override.fault.code, override.fault.detail, override.fault.pointer)
  const resetEip = u64(options.resetEip ?? BSP_EIP, '/resetEip')
  if (!resetEip.ok || resetEip.value > MAX_EIP)
    return refuse('EINVAL', 'reset-eip', 'The reset address has 32 bits.', '/resetEip')
  const identity = parseIdentity(options)
  if (!identity.ok) return identity
  return {
    ok: true,
    value: {
      ...identity.value,
      vcpu: { vmm, cpuSignature: signature.value, sevFeatures: features.value, override: override.registers },
      resetEip: Number(resetEip.value),
    },
  }
}

function parseIdentity(options: FinishOptions): Verdict<LaunchFinish> {
  const idBlock = bytesOf(options.idBlock)
  const idAuth = bytesOf(options.idAuth)
  const hostData = bytesOf(options.hostData)
  if (idBlock !== undefined && idBlock.length !== ID_BLOCK_BYTES)
    return refuse('EINVAL', 'id-block-length', `An ID block has ${ID_BLOCK_BYTES} bytes.`, '/idBlock')
  if (idAuth !== undefined && idAuth.length !== ID_AUTH_BYTES)
    return refuse('EINVAL', 'id-auth-length', `ID_AUTH has ${ID_AUTH_BYTES} bytes.`, '/idAuth')
  if ((idBlock === undefined) !== (idAuth === undefined))
    return refuse('EINVAL', 'id-block-pair', 'An ID block and ID_AUTH come together.', '/idBlock')
  if (hostData !== undefined && hostData.length > HOST_DATA_BYTES)
    return refuse('EINVAL', 'host-data-length', `Host data has ${HOST_DATA_BYTES} bytes.`, '/hostData')
  const padded = new Uint8Array(HOST_DATA_BYTES)
  if (hostData !== undefined) padded.set(hostData)
  return {
    ok: true,
    value: { idBlock, idAuth, authorKeyEnabled: options.authorKeyEnabled ?? false, hostData: padded },
  }
}

const bytesOf = (base64: string | undefined): Uint8Array | undefined =>
  base64 === undefined ? undefined : new Uint8Array(Buffer.from(base64, 'base64'))

/** The save areas, vCPU 0 as BSP (amd-sev-snp.md d.7). */
export function vcpuPages({ vcpu, resetEip }: ParsedFinish, count: number): Uint8Array[] {
  const bsp = vmsaPage({ ...vcpu, role: 'BSP', eip: BSP_EIP })
  const ap = count > 1 ? vmsaPage({ ...vcpu, role: 'AP', eip: resetEip }) : bsp
  return Array.from({ length: count }, (_, index) => (index === 0 ? bsp : ap))
}
