import { hash } from 'node:crypto'
import type { KernelFiles } from '../amd/kernel-hashes.ts'
import { kernelHashTable } from '../amd/kernel-hashes.ts'
import type { LaunchUpdate } from '../amd/launch-plan.ts'
import { planSnpLaunch } from '../amd/launch-plan.ts'
import { cpuSignatureOf } from '../amd/measure-inputs.ts'
import type { Vmm } from '../amd/vmsa.ts'
import type { LaunchPlan, PlanStep, Verdict } from '../contract.ts'
import type { ImageQuery } from './config.ts'
import { planCpuidPage } from './cpuid-page.ts'
import { DEFAULT_VCPU_TYPE } from './launch-options.ts'
import { refuse } from './status.ts'

const PAGE_BYTES = 4096
/** In the kernel hash table: header, then entries of GUID, length and hash; the order is cmdline, initrd, kernel (d.6). */
const INITRD_HASH_AT = 18 + 50 + 18
const KERNEL_HASH_AT = 18 + 100 + 18
const NOTHING: Uint8Array = new Uint8Array(0)

/**
 * The updates a named VMM performs for a firmware image (amd-sev-snp.md d.5), without the VMSAs, which belong to
 * finish. The kernel and initrd are given by their hashes: the table holds nothing else of them.
 */
export function launchPlan(image: Uint8Array, given: Readonly<Record<string, unknown>>): Verdict<LaunchPlan> {
  const query = given as ImageQuery
  const vmm = (query.vmm ?? 'qemu') as Vmm
  const vcpuSignature = query.vcpuSignature === undefined ? undefined : Number(query.vcpuSignature)
  const vcpuType = query.vcpuType ?? (vcpuSignature === undefined ? DEFAULT_VCPU_TYPE : undefined)
  const signature = cpuSignatureOf({ vmm, vcpuType, vcpuSignature })
  if (!signature.ok) return refuse('EINVAL', signature.fault.code, signature.fault.detail, signature.fault.pointer)
  if (query.kernelHash === undefined && (query.initrdHash !== undefined || query.cmdline))
    return refuse(
      'EINVAL',
      'kernel-missing',
      'An initrd or command line is measured only with a kernel.',
      '/kernelHash',
    )
  const kernel: KernelFiles | null =
    query.kernelHash === undefined ? null : { kernel: NOTHING, initrd: null, cmdline: query.cmdline ?? null }
  const features = query.guestFeatures ?? '1'
  const plan = planSnpLaunch({
    image,
    vmm,
    vcpus: 1,
    cpuSignature: signature.value,
    sevFeatures: BigInt(features),
    kernel,
  })
  if (!plan.ok) return refuse('EINVAL', plan.fault.code, plan.fault.detail, plan.fault.pointer)
  const steps = plan.updates
    .filter(({ pageType }) => pageType !== 'VMSA')
    .map((update) => planStep(update, query, kernel, signature.value))
  const reset = plan.firmware.resetEip
  return {
    ok: true,
    value: {
      steps,
      finish: {
        vmm,
        ...(vcpuSignature === undefined ? { vcpuType } : { vcpuSignature }),
        guestFeatures: `0x${BigInt(features).toString(16)}`,
        ...(reset === null ? {} : { resetEip: `0x${reset.toString(16)}` }),
      },
    },
  }
}

function planStep(update: LaunchUpdate, query: ImageQuery, kernel: KernelFiles | null, signature: number): PlanStep {
  const { pageType, gpa, pages, source } = update
  const step = { gfn: gpa / PAGE_BYTES, pages, options: { pageType } }
  switch (pageType) {
    case 'ZERO':
    case 'SECRETS':
      return { ...step, bytes: undefined }
    case 'CPUID':
      return { ...step, bytes: planCpuidPage(signature) }
    case 'UNMEASURED':
      return { ...step, bytes: new Uint8Array(pages * PAGE_BYTES) }
    default: {
      const bytes = update.contents ?? new Uint8Array(pages * PAGE_BYTES)
      return {
        ...step,
        bytes: source === 'kernel-hashes' && kernel !== null ? withHashes(bytes, kernel, query) : bytes,
      }
    }
  }
}

/** The hash table's page with the hashes given in place of those of empty files. */
function withHashes(page: Uint8Array, kernel: KernelFiles, query: ImageQuery): Uint8Array {
  const bytes = Buffer.from(page)
  const table = bytes.indexOf(kernelHashTable(kernel))
  Buffer.from(query.kernelHash ?? '', 'hex').copy(bytes, table + KERNEL_HASH_AT)
  Buffer.from(query.initrdHash ?? hash('sha256', NOTHING), 'hex').copy(bytes, table + INITRD_HASH_AT)
  return bytes
}
