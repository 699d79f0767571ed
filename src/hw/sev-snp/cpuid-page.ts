import { view } from '../shared/hex.ts'

/** The CPUID page of a launch: u32 count, u32 and u64 reserved, then 48-byte functions (SNP ABI; amd-sev-snp.md d.2). */
export const CPUID_MAX = 64
const HEADER = 16
const ENTRY = 48
const AT = { eaxIn: 0, ecxIn: 4, eax: 24, ebx: 28, ecx: 32, edx: 36 } as const
type Register = 'eax' | 'ebx' | 'ecx' | 'edx'

export type CpuidVerdict =
  | { readonly kind: 'ok' }
  /** Count or reserved fields: nothing is written back. */
  | { readonly kind: 'malformed'; readonly detail: string }
  /** Values the policy refuses; `page` has the values it would take. */
  | { readonly kind: 'corrected'; readonly page: Uint8Array; readonly detail: string }

type Rule = {
  readonly leaf: number
  readonly register: Register
  /** Bits the policy decides, and what they must be. */
  readonly mask: number
  readonly value: number
}

/** Position of the C-bit, as EBX 5:0 of 8000001F says (amd-sev-snp.md a.1). */
const C_BIT = 51
/**
 * [C] The real policy compares with the processor's own CPUID. This one holds what no SNP guest can have: Intel's VMX
 * and SGX, and a C-bit position or SEV bits other than the platform's.
 */
const RULES: readonly Rule[] = [
  { leaf: 1, register: 'ecx', mask: 1 << 5, value: 0 },
  { leaf: 7, register: 'ebx', mask: 1 << 2, value: 0 },
  { leaf: 0x8000001f, register: 'eax', mask: 0b11010, value: 0b11010 },
  { leaf: 0x8000001f, register: 'ebx', mask: 0x3f, value: C_BIT },
]

export function judgeCpuidPage(bytes: Uint8Array | undefined): CpuidVerdict {
  if (bytes === undefined) return { kind: 'ok' }
  const page = view(bytes)
  const count = page.readUInt32LE(0)
  if (page.readUInt32LE(4) !== 0 || page.readBigUInt64LE(8) !== 0n)
    return { kind: 'malformed', detail: 'A reserved field of the CPUID page is not zero.' }
  if (count > CPUID_MAX)
    return { kind: 'malformed', detail: `The CPUID page counts ${count} functions; at most ${CPUID_MAX} fit.` }
  const corrected = Buffer.from(page)
  const wrong: string[] = []
  for (let index = 0; index < count; index++) correct(corrected, HEADER + index * ENTRY, wrong)
  return wrong.length === 0
    ? { kind: 'ok' }
    : {
        kind: 'corrected',
        page: new Uint8Array(corrected),
        detail: `The firmware's CPUID policy wants ${wrong.join(', ')}.`,
      }
}

function correct(page: Buffer, at: number, wrong: string[]): void {
  const leaf = page.readUInt32LE(at + AT.eaxIn)
  for (const rule of RULES) {
    if (rule.leaf !== leaf) continue
    const place = at + AT[rule.register]
    const given = page.readUInt32LE(place)
    const wanted = ((given & ~rule.mask) | rule.value) >>> 0
    if (given === wanted) continue
    page.writeUInt32LE(wanted, place)
    wrong.push(`function 0x${leaf.toString(16)} ${rule.register.toUpperCase()} 0x${wanted.toString(16)}`)
  }
}

type Leaf = { readonly leaf: number } & { readonly [register in Register]?: number }

/** A small table that passes the policy, for launch plans: what a VMM would put there is its own. */
export function planCpuidPage(cpuSignature: number): Uint8Array {
  const leaves: readonly Leaf[] = [
    { leaf: 0, eax: 0x10, ebx: 0x68747541, ecx: 0x444d4163, edx: 0x69746e65 },
    { leaf: 1, eax: cpuSignature, ebx: 0x00010800 },
    { leaf: 0x80000000, eax: 0x8000001f, ebx: 0x68747541, ecx: 0x444d4163, edx: 0x69746e65 },
    { leaf: 0x8000001f, eax: 0b11010, ebx: C_BIT },
  ]
  const page = Buffer.alloc(4096)
  page.writeUInt32LE(leaves.length, 0)
  for (const [index, entry] of leaves.entries()) {
    const at = HEADER + index * ENTRY
    page.writeUInt32LE(entry.leaf, at + AT.eaxIn)
    for (const name of ['eax', 'ebx', 'ecx', 'edx'] as const) page.writeUInt32LE(entry[name] ?? 0, at + AT[name])
  }
  return page
}
