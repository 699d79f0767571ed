import type { Backend } from '../contract.ts'
import { ccaCalls } from './calls/calls.ts'
import { configSchema, launchSchemas } from './config.ts'
import { type CcaData, createData } from './data.ts'
import { open } from './hardware.ts'
import { recExits } from './kvm/rec-exits.ts'

export const backend: Backend = {
  technology: 'cca',
  title:
    'Arm CCA: granules of four worlds, Realm translation tables that the RMM owns, and a state the guest was promised',
  properties: {
    mappable: false,
    movable: false,
    reclaimable: true,
    inPlace: false,
    contents: 'lost',
    implicitConversion: true,
    accessKind: 'access',
    guestAccepts: false,
    hostTold: true,
    population: 'measured',
    launchDigest: 'SHA-256 or SHA-512',
    populateErrno: 'EFAULT',
    pageSizes: ['4K'],
    initialState: 'ASSIGNED',
    keyName: 'VMID',
  },
  configSchema,
  calls: ccaCalls(recExits),
  launch: launchSchemas,
  createData,
  open: (data, machine) => open(data as CcaData, machine),
}
