import { Buffer } from 'node:buffer'
import { type Static, Type } from 'typebox'
import type { Call } from '../../contract.ts'
import type { CcaData } from '../data.ts'
import type { RealmParams } from '../rmm/realm.ts'
import { readRealmParams, realmActivate, realmCreate, realmDestroy } from '../rmm/realm-commands.ts'
import {
  addressArgument,
  addressValue,
  closed,
  defineHostCall,
  levelArgument,
  levelValue,
  optionalWord,
  rdArgument,
  rdWord,
  type Word,
} from './call-definition.ts'

const CREATE_SCHEMA = Type.Object(
  {
    rd: addressArgument('the granule for the RD, DELEGATED'),
    params: optionalWord(
      'Host page with RmiRealmParams. Without it they are the fields here, zero where none is given.',
    ),
    flags: optionalWord('Bit 0 LPA2, 1 SVE, 2 PMU.'),
    s2sz: optionalWord('Width of an IPA in bits.'),
    sve_vl: optionalWord('Bits of an SVE vector / 128, minus one.'),
    num_bps: optionalWord('Breakpoints, minus one; 0 is refused.'),
    num_wps: optionalWord('Watchpoints, minus one; 0 is refused.'),
    pmu_num_ctrs: optionalWord('PMU counters.'),
    hash_algo: optionalWord('0 SHA-256, 1 SHA-512.'),
    rpv: Type.Optional(
      Type.String({ pattern: '^[0-9a-fA-F]{128}$', description: 'Realm personalization value: 64 bytes in hex.' }),
    ),
    vmid: optionalWord('VMID; the lowest free one where none is given.'),
    rtt_base: optionalWord('Physical address of the root tables, DELEGATED and aligned to their size.'),
    rtt_level_start: Type.Optional(levelArgument),
    rtt_num_start: optionalWord('Number of root tables.'),
  },
  closed,
)

const NO_RPV = '00'.repeat(64)
const numberOf = (value: Word | undefined): number => Number(addressValue(value ?? 0))

const paramsOf = (data: CcaData, fields: Static<typeof CREATE_SCHEMA>): RealmParams => ({
  flags: addressValue(fields.flags ?? 0),
  s2sz: numberOf(fields.s2sz),
  sveVl: numberOf(fields.sve_vl),
  numBps: numberOf(fields.num_bps),
  numWps: numberOf(fields.num_wps),
  pmuNumCtrs: numberOf(fields.pmu_num_ctrs),
  hashAlgo: numberOf(fields.hash_algo),
  rpv: Uint8Array.from(Buffer.from(fields.rpv ?? NO_RPV, 'hex')),
  vmid: fields.vmid === undefined ? freeVmid(data) : numberOf(fields.vmid),
  rttBase: addressValue(fields.rtt_base ?? 0),
  rttLevelStart: levelValue(fields.rtt_level_start ?? 0),
  rttNumStart: numberOf(fields.rtt_num_start),
})

/** The lowest VMID that no Realm has. */
export function freeVmid({ vmids }: CcaData): number {
  let vmid = 0
  while (vmids.has(vmid)) vmid++
  return vmid
}

const CREATE = defineHostCall({
  name: 'RMI_REALM_CREATE',
  summary: 'Makes a Realm of DELEGATED granules, and starts its measurement.',
  schema: CREATE_SCHEMA,
  example: {
    rd: '0x8000000',
    s2sz: 32,
    rtt_base: '0x8004000',
    rtt_level_start: 2,
    rtt_num_start: 4,
    hash_algo: 1,
    num_bps: 1,
    num_wps: 1,
  },
  run(host, { rd, ...fields }) {
    if (fields.params === undefined) return realmCreate(host, addressValue(rd), paramsOf(host.data, { rd, ...fields }))
    const params = readRealmParams(host, addressValue(fields.params))
    return params.ok ? realmCreate(host, addressValue(rd), params.value) : params.answer
  },
})

const ofRealm = Type.Object({ rd: rdArgument }, closed)

const ACTIVATE = defineHostCall({
  name: 'RMI_REALM_ACTIVATE',
  summary: "Ends a Realm's measurement: its RECs may run from now on.",
  schema: ofRealm,
  example: { rd: '0x8000000' },
  run: (host, { rd }, guest) => realmActivate(host, rdWord(host, guest, rd)),
})

const DESTROY = defineHostCall({
  name: 'RMI_REALM_DESTROY',
  summary: 'Ends a Realm that has no REC and nothing live in its root tables.',
  schema: ofRealm,
  example: { rd: '0x8000000' },
  run: (host, { rd }, guest) => realmDestroy(host, rdWord(host, guest, rd)),
})

export const REALM_CALLS: readonly Call[] = [CREATE, ACTIVATE, DESTROY]
