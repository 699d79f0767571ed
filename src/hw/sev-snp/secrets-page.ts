import type { GuestContextRecord, Host } from './data.ts'
import { guestSecret } from './derive.ts'

const VERSION = 3
/** Family, model and stepping of the emulated Genoa, as CPUID 1 EAX. */
const FMS = 0xa10f11
const AT = { version: 0, fms: 8, vmpck0: 0x20 } as const
const KEY_BYTES = 32

/** The secrets page the firmware writes for a guest (amd-sev-snp.md d.2): version 3 with the four VMPCKs. */
export function secretsPage(host: Host, guest: GuestContextRecord): Uint8Array {
  const page = Buffer.alloc(4096)
  page.writeUInt32LE(VERSION, AT.version)
  page.writeUInt32LE(FMS, AT.fms)
  for (const [index, name] of (['vmpck0', 'vmpck1', 'vmpck2', 'vmpck3'] as const).entries())
    guestSecret(host.data.seed, guest.serial, name).copy(page, AT.vmpck0 + index * KEY_BYTES)
  return new Uint8Array(page)
}
