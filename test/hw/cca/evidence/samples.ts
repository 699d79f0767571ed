import { existsSync, readFileSync } from 'node:fs'
import path from 'node:path'
import type { RealmInfo } from '../../../../src/hw/cca/evidence/token.ts'

export const SEED = 'cca evidence tests'

export const filled = (length: number, byte: number): Uint8Array => new Uint8Array(length).fill(byte)

/** A digest in its 64-byte field. */
const field = (bytes: number, byte: number): Uint8Array => {
  const value = new Uint8Array(64)
  value.fill(byte, 0, bytes)
  return value
}

const realm = (hashAlgo: 0 | 1, bytes: number): RealmInfo => ({
  hashAlgo,
  rpv: filled(64, 0x77),
  rim: field(bytes, 0x11),
  rems: [1, 2, 3, 4].map((index) => field(bytes, 0x20 + index)),
})
export const REALM_256 = realm(0, 32)
export const REALM_512 = realm(1, 64)

export const CHALLENGE = Uint8Array.from({ length: 64 }, (_, index) => index)

type TokenVector = {
  readonly token_base64: string
  readonly challenge: string
  readonly ops: readonly { readonly rpv?: string }[]
  readonly expect: { readonly rim: string; readonly rem: readonly string[] }
}

/** Another project's binary, never kept in this repository. */
const file = path.join(import.meta.dirname, '..', '..', '..', '..', '..', 'shared', 'vectors', 'cca-rim.json')

export const NO_VECTORS = 'needs the shared vectors folder beside this repository, which is absent'

/** The token that TF-RMM signed, with what it must say; undefined where the shared vectors are not here. */
export const publicToken: TokenVector | undefined = existsSync(file)
  ? JSON.parse(readFileSync(file, 'utf8')).vectors.find(({ name }: { name: string }) => name === 'token-sha256')
  : undefined
