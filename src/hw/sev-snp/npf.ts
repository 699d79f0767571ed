import type { Fault } from '../contract.ts'

/** EXITINFO1 bits of a nested page fault (amd-sev-snp.md b.7). */
export const NPF = {
  PRESENT: 1n << 0n,
  WRITE: 1n << 1n,
  USER: 1n << 2n,
  FETCH: 1n << 4n,
  SHADOW_STACK: 1n << 6n,
  RMP: 1n << 31n,
  FINAL_ADDRESS: 1n << 32n,
  TABLE_ACCESS: 1n << 33n,
  ENC: 1n << 34n,
  SIZEM: 1n << 35n,
  VMPL: 1n << 36n,
  SSS: 1n << 37n,
} as const

const NPF_EXIT = 0x400

/** A nested page fault on the access's final address. */
export const nestedPageFault = (bits: bigint, detail: string): Fault => ({
  name: '#NPF',
  code: NPF_EXIT,
  errorCode: `0x${(bits | NPF.FINAL_ADDRESS).toString(16)}`,
  detail,
})

export const rmpFault = (bits: bigint, detail: string): Fault =>
  nestedPageFault(NPF.PRESENT | NPF.RMP | NPF.ENC | bits, detail)

/** The guest's own fault for a private page that it never validated (b.7): the host sees nothing of it. */
export const notValidatedFault = (gfn: number): Fault => ({
  name: '#VC',
  code: 0x404,
  errorCode: '0x404',
  detail: `Page 0x${(gfn * 4096).toString(16)} is private and not validated (PAGE_NOT_VALIDATED).`,
})
