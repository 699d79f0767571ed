import { view } from '../shared/hex.ts'
import { PAGE } from './launch-digest.ts'

/** VMMs whose initial register state is known (amd-sev-snp.md d.7). */
export const VMMS = ['qemu', 'ec2', 'gce', 'krun'] as const
export type Vmm = (typeof VMMS)[number]

export const BSP_EIP = 0xfffffff0

/** Registers a caller may set by name: offset and width in bytes. */
export const VMSA_REGISTERS = {
  efer: [0xd0, 8],
  cr4: [0x148, 8],
  cr0: [0x158, 8],
  dr7: [0x160, 8],
  dr6: [0x168, 8],
  rflags: [0x170, 8],
  rip: [0x178, 8],
  rsp: [0x1d8, 8],
  rax: [0x1f8, 8],
  gPat: [0x268, 8],
  rcx: [0x308, 8],
  rdx: [0x310, 8],
  rbx: [0x318, 8],
  rbp: [0x328, 8],
  rsi: [0x330, 8],
  rdi: [0x338, 8],
  r8: [0x340, 8],
  r9: [0x348, 8],
  r10: [0x350, 8],
  r11: [0x358, 8],
  r12: [0x360, 8],
  r13: [0x368, 8],
  r14: [0x370, 8],
  r15: [0x378, 8],
  sevFeatures: [0x3b0, 8],
  xcr0: [0x3e8, 8],
  mxcsr: [0x408, 4],
  x87Fcw: [0x410, 2],
} as const satisfies Record<string, readonly [number, number]>

export type VmsaRegister = keyof typeof VMSA_REGISTERS
export type VmsaRegisters = { readonly [name in VmsaRegister]?: bigint | undefined }

type Attributes = { readonly cs: number; readonly ss: number; readonly tr: number }
type Segment = readonly [selector: number, attributes: number, limit: number, base: number]

const SEGMENT = {
  es: 0,
  cs: 0x10,
  ss: 0x20,
  ds: 0x30,
  fs: 0x40,
  gs: 0x50,
  gdtr: 0x60,
  ldtr: 0x70,
  idtr: 0x80,
  tr: 0x90,
}
const PAT_RESET = 0x0007040600070406n
const REAL_MODE_DATA: Segment = [0, 0x93, 0xffff, 0]
const DESCRIPTOR_TABLE: Segment = [0, 0, 0xffff, 0]
const LDTR: Segment = [0, 0x82, 0xffff, 0]

export type VmsaInputs = {
  readonly vmm: Vmm
  readonly role: 'BSP' | 'AP'
  /** Where this vCPU starts: {@link BSP_EIP}, or the image's reset-block address for an AP. */
  readonly eip: number
  /** CPUID 1 EAX; only QEMU's state shows it. */
  readonly cpuSignature: number
  /** sev_features; 0 for SEV-ES. */
  readonly sevFeatures: bigint
  readonly override?: VmsaRegisters | undefined
}

const COMMON: VmsaRegisters = {
  efer: 0x1000n,
  cr4: 0x40n,
  cr0: 0x10n,
  dr7: 0x400n,
  dr6: 0xffff0ff0n,
  rflags: 2n,
  gPat: PAT_RESET,
  xcr0: 1n,
}

const HYPERVISOR_STATE: Record<Vmm, (inputs: VmsaInputs) => Attributes & { readonly registers: VmsaRegisters }> = {
  qemu: ({ cpuSignature }) => ({
    cs: 0x9b,
    ss: 0x93,
    tr: 0x8b,
    registers: { rdx: BigInt(cpuSignature), mxcsr: 0x1f80n, x87Fcw: 0x37fn },
  }),
  ec2: ({ role }) => ({ cs: role === 'BSP' ? 0x9a : 0x9b, ss: 0x92, tr: 0x83, registers: { rdx: 0x600n } }),
  gce: () => ({ cs: 0x9b, ss: 0x93, tr: 0x8b, registers: { rdx: 0x600n, gPat: 0x70106n } }),
  krun: ({ role }) => ({
    cs: 0x9a,
    ss: 0x92,
    tr: 0x83,
    registers: role === 'BSP' ? { rsi: 0x7000n, rbp: 0x8ff0n, rsp: 0x8ff0n } : {},
  }),
}

/** The 4096-byte save area a VMM launches a vCPU with (amd-sev-snp.md d.7). */
export function vmsaPage(inputs: VmsaInputs): Buffer {
  const { cs, ss, tr, registers } = HYPERVISOR_STATE[inputs.vmm](inputs)
  const page = Buffer.alloc(PAGE)
  writeSegments(page, {
    es: REAL_MODE_DATA,
    cs: [0xf000, cs, 0xffff, (inputs.eip & 0xffff0000) >>> 0],
    ss: [0, ss, 0xffff, 0],
    ds: REAL_MODE_DATA,
    fs: REAL_MODE_DATA,
    gs: REAL_MODE_DATA,
    tr: [0, tr, 0xffff, 0],
  })
  writeRegisters(page, {
    ...COMMON,
    rip: BigInt(inputs.eip & 0xffff),
    sevFeatures: inputs.sevFeatures,
    ...registers,
    ...inputs.override,
  })
  return page
}

/** The save area of every vCPU under COCONUT-SVSM: 32-bit protected mode, entered at `rip` (amd-sev-snp.md d.5). */
export function svsmVmsaPage(inputs: {
  readonly rip: number
  readonly cpuSignature: number
  readonly override?: VmsaRegisters | undefined
}): Buffer {
  const page = Buffer.alloc(PAGE)
  const flat: Segment = [0x10, 0xc93, 0xffffffff, 0]
  writeSegments(page, {
    es: flat,
    cs: [0x08, 0xc9b, 0xffffffff, 0],
    ss: flat,
    ds: flat,
    fs: flat,
    gs: REAL_MODE_DATA,
    tr: [0, 0x8b, 0xffff, 0],
  })
  writeRegisters(page, {
    ...COMMON,
    cr0: 0x11n,
    rip: BigInt(inputs.rip),
    rdx: BigInt(inputs.cpuSignature),
    sevFeatures: 1n,
    mxcsr: 0x1f80n,
    ...inputs.override,
  })
  return page
}

/** Non-zero 8-byte words by offset, the readable form of a save area. */
export function nonZeroWords(page: Uint8Array): Record<string, string> {
  const bytes = view(page)
  const words: Record<string, string> = {}
  for (let at = 0; at < bytes.length; at += 8)
    if (bytes.readBigUInt64LE(at) !== 0n) words[`0x${at.toString(16)}`] = bytes.toString('hex', at, at + 8)
  return words
}

function writeSegments(page: Buffer, segments: Partial<Record<keyof typeof SEGMENT, Segment>>): void {
  const all = { gdtr: DESCRIPTOR_TABLE, ldtr: LDTR, idtr: DESCRIPTOR_TABLE, ...segments }
  for (const [name, at] of Object.entries(SEGMENT)) {
    const segment = all[name as keyof typeof SEGMENT]
    if (segment === undefined) continue
    page.writeUInt16LE(segment[0], at)
    page.writeUInt16LE(segment[1], at + 2)
    page.writeUInt32LE(segment[2], at + 4)
    page.writeUInt32LE(segment[3], at + 8)
  }
}

function writeRegisters(page: Buffer, registers: VmsaRegisters): void {
  for (const [name, value] of Object.entries(registers)) {
    if (value === undefined) continue
    const [at, width] = VMSA_REGISTERS[name as VmsaRegister]
    const word = Buffer.alloc(8)
    word.writeBigUInt64LE(BigInt.asUintN(width * 8, value))
    word.copy(page, at, 0, width)
  }
}
