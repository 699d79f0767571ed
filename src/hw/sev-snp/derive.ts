import { derive } from '../amd/platform-keys.ts'

/** What LAUNCH_START generates for a guest (amd-sev-snp.md d.1): fixed by the machine's seed and the guest's serial. */
export const guestSecret = (
  seed: string,
  serial: number,
  name: 'oek' | 'report-id' | 'vmpck0' | 'vmpck1' | 'vmpck2' | 'vmpck3',
): Buffer => derive(seed, `sev-snp guest ${serial} ${name}`, 32)

/** The memory controller's key of an ASID, new with each activation; of the firmware's own pages for "firmware". */
export const memoryKey = (seed: string, owner: string): Buffer => derive(seed, `sev-snp memory ${owner}`, 32)
