import type { Backend } from '../contract.ts'
import { GUEST_MANAGEMENT_CALLS } from './calls-guest-management.ts'
import { INSTRUCTION_CALLS } from './calls-instructions.ts'
import { PAGE_STATE_CALLS } from './calls-page-state.ts'
import { PAGE_CALLS } from './calls-pages.ts'
import { SWAP_CALLS } from './calls-swap.ts'
import { configSchema, launchSchemas } from './config.ts'
import { createData, type SnpData } from './data.ts'
import { open } from './hardware.ts'

export const backend: Backend = {
  technology: 'sev-snp',
  title: 'AMD SEV-SNP: memory encrypted under an ASID, ownership held in the Reverse Map Table',
  properties: {
    mappable: false,
    movable: false,
    reclaimable: false,
    inPlace: false,
    contents: 'lost',
    implicitConversion: true,
    accessKind: 'access',
    guestAccepts: true,
    hostTold: true,
    population: 'measured',
    launchDigest: 'SHA-384',
    populateErrno: 'EIO',
    pageSizes: ['4K', '2M'],
    initialState: 'Guest-Invalid',
    keyName: 'ASID',
  },
  configSchema,
  calls: [...INSTRUCTION_CALLS, ...PAGE_STATE_CALLS, ...GUEST_MANAGEMENT_CALLS, ...PAGE_CALLS, ...SWAP_CALLS],
  launch: launchSchemas,
  createData,
  open: (data, machine) => open(data as SnpData, machine),
}
