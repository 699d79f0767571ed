import { toHex } from '../shared/hex.ts'

/** Security versions of the platform's parts. Only Turin (family 1A) has an FMC. */
export type Tcb = {
  readonly fmc?: number
  readonly bootloader: number
  readonly tee: number
  readonly snp: number
  readonly microcode: number
}
export type TcbLayout = 'legacy' | 'turin'

const BYTES = {
  legacy: { bootloader: 0, tee: 1, snp: 6, microcode: 7 },
  turin: { fmc: 0, bootloader: 1, tee: 2, snp: 3, microcode: 7 },
} as const

/** Reports of version 2 carry no CPUID and are always legacy (amd-sev-snp.md e). */
export const tcbLayout = (familyExt: number | undefined): TcbLayout => (familyExt === 0x1a ? 'turin' : 'legacy')

export function encodeTcb(tcb: Tcb, layout: TcbLayout): Buffer {
  const bytes = Buffer.alloc(8)
  for (const [part, at] of Object.entries(BYTES[layout])) bytes[at] = tcb[part as keyof Tcb] ?? 0
  return bytes
}

export function decodeTcb(bytes: Uint8Array, layout: TcbLayout): Tcb {
  const at = (index: number): number => bytes[index] ?? 0
  const common = {
    bootloader: at(BYTES[layout].bootloader),
    tee: at(BYTES[layout].tee),
    snp: at(BYTES[layout].snp),
    microcode: at(BYTES[layout].microcode),
  }
  return layout === 'turin' ? { fmc: at(BYTES.turin.fmc), ...common } : common
}

/** The u64 as text, the way tools print it. */
export const tcbRaw = (bytes: Uint8Array): string => toHex(Buffer.from(bytes).readBigUInt64LE())
