import type { Host } from './data.ts'
import { contextAt, POLICY } from './firmware-guest.ts'
import { decrypt, encrypt, viewOf } from './memory.ts'
import { entryOf, rawState, stateAt } from './rmp.ts'
import { asidOf } from './states.ts'
import { type FirmwareCode, FW } from './status.ts'

const READABLE = new Set(['Pre-Guest', 'Pre-Swap', 'Guest-Invalid', 'Guest-Valid'])

/**
 * SNP_DBG_DECRYPT: 4 KiB of a guest page, as the guest sees it, into a Firmware page. Always 4K; a page inside a 2M
 * page is judged by the 2M entry (amd-sev-snp.md b.6). Order in firmware: context, states, owner, policy, active.
 */
export function dbgDecrypt(host: Host, context: number, source: number, target: number): FirmwareCode {
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  const readable = READABLE.has(stateAt(host.rmp, source)) && rawState(host.rmp, target) === 'Firmware'
  if (!readable || target >= host.rmp.ownStart) return FW.INVALID_PAGE_STATE
  const entry = entryOf(host.rmp, source)
  if (asidOf(entry) !== guest.asid) return FW.INVALID_PAGE_OWNER
  if ((guest.policy & POLICY.DEBUG) === 0n) return FW.POLICY_FAILURE
  if (guest.asid === 0) return FW.INACTIVE
  const bytes = host.machine.read(source)
  host.machine.write(target, viewOf(entry) === 0 ? decrypt(host, guest.asid, source, bytes) : bytes)
  return FW.SUCCESS
}

/** SNP_DBG_ENCRYPT: plaintext from any page into a Pre-Guest or Pre-Swap page of the guest. */
export function dbgEncrypt(host: Host, context: number, source: number, target: number): FirmwareCode {
  const guest = contextAt(host, context)
  if (guest === undefined) return FW.INVALID_GUEST
  const state = stateAt(host.rmp, target)
  if (source >= host.rmp.frames || (state !== 'Pre-Guest' && state !== 'Pre-Swap')) return FW.INVALID_PAGE_STATE
  const entry = entryOf(host.rmp, target)
  if (asidOf(entry) !== guest.asid) return FW.INVALID_PAGE_OWNER
  if ((guest.policy & POLICY.DEBUG) === 0n) return FW.POLICY_FAILURE
  if (guest.asid === 0) return FW.INACTIVE
  const sourceView = viewOf(entryOf(host.rmp, source))
  const bytes = host.machine.read(source)
  const plain = sourceView === 0 ? bytes : encrypt(host, sourceView, source, bytes)
  host.machine.write(target, viewOf(entry) === 0 ? encrypt(host, guest.asid, target, plain) : plain)
  return FW.SUCCESS
}
