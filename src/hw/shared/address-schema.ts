import { Type } from 'typebox'

/** A byte address on input: a hex string up to 64 bits, or a non-negative integer. */
export const HexAddress = Type.Union([
  Type.String({ pattern: '^0x[0-9a-fA-F]{1,16}$' }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
])

const PAGE_BITS = 12n

/** The 64-bit value of an input address. */
export const addressValue = (address: string | number): bigint => BigInt(address)

/** Frame number of an address, its low 12 bits dropped. Addresses are below 2^64, so frames are exact as numbers. */
export const frameOf = (address: string | number): number => Number(BigInt(address) >> PAGE_BITS)

/** Bytes between an address and the start of its 4 KiB page. */
export const offsetInPage = (address: string | number): number => Number(BigInt(address) & 0xfffn)

/** The address of a frame, as a hex string. */
export const addressOf = (frame: number): string => `0x${(BigInt(frame) << PAGE_BITS).toString(16)}`
