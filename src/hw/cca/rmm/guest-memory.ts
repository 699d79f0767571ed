import { Buffer } from 'node:buffer'
import type { Host } from '../data.ts'
import { type AccessKind, type AccessResult, access } from './access.ts'
import { PAGE_SIZE } from './geometry.ts'
import type { Realm } from './realm.ts'

/** Memory that a Realm's structures lie in: its own pages, which the RMM reaches as the Realm would (arm-cca.md 7). */

/** What an access by the RMM for the Realm does at a byte address. */
export const reach = (host: Host, realm: Realm, ipa: bigint, kind: AccessKind): AccessResult =>
  access(host, realm, { ipa, kind, isv: false })

/** Bytes of a page, as a copy. */
export function readPage({ machine }: Host, frame: number): Buffer {
  const page = machine.read(frame)
  return page === undefined ? Buffer.alloc(PAGE_SIZE) : Buffer.from(page)
}

/** Changes bytes of a page; one that is all zero keeps none. */
export function writeBytes(host: Host, frame: number, offset: number, bytes: Uint8Array): void {
  const page = readPage(host, frame)
  page.set(bytes, offset)
  host.machine.write(frame, page.some((byte) => byte !== 0) ? new Uint8Array(page) : undefined)
}
