import type { Backend } from '../contract.ts'
import { tdxCalls } from './calls/calls.ts'
import { configSchema, launchSchemas } from './config.ts'
import { createData, type TdxData } from './data.ts'
import { open } from './hardware.ts'
import { vmcalls } from './kvm/map-gpa.ts'

export const backend: Backend = {
  technology: 'tdx',
  title: 'Intel TDX: private memory behind a Secure EPT that a module owns, and pages that the guest accepts',
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
    populateErrno: 'EINVAL',
    pageSizes: ['4K'],
    initialState: 'PENDING',
    keyName: 'HKID',
  },
  configSchema,
  calls: tdxCalls(vmcalls),
  launch: launchSchemas,
  createData,
  open: (data, machine) => open(data as TdxData, machine),
}
