import type { HashAlgo } from '../measurement/digest.ts'
import type { Rtt } from './rtt.ts'

/** Realm lifecycle (arm-cca.md 3): one way, without a reset. */
export type RealmState = 'NEW' | 'ACTIVE' | 'SYSTEM_OFF'

/** The fields of RmiRealmParams as numbers (arm-cca.md 1), their bytes as bytes. */
export type RealmParams = {
  readonly flags: bigint
  /** Width of an IPA in bits. */
  readonly s2sz: number
  readonly sveVl: number
  /** Breakpoints and watchpoints, the architectural number minus one. */
  readonly numBps: number
  readonly numWps: number
  readonly pmuNumCtrs: number
  readonly hashAlgo: number
  /** Realm personalization value: 64 bytes. */
  readonly rpv: Uint8Array
  readonly vmid: number
  readonly rttBase: bigint
  readonly rttLevelStart: number
  readonly rttNumStart: number
}

/** One Realm as plain data. */
export type Realm = {
  /** Frame of its RD. */
  readonly rd: number
  /** Its number in the granules' owners. */
  readonly owner: number
  readonly vmid: number
  readonly s2sz: number
  /** LPA2: physical addresses of more than 48 bits. */
  readonly lpa2: boolean
  readonly hashAlgo: HashAlgo
  readonly rpv: Uint8Array
  readonly rtt: Rtt
  state: RealmState
  /** 64 bytes each, replaced as a whole and never changed in place. */
  rim: Uint8Array
  readonly rems: Uint8Array[]
  /** Frame of each REC by its index, -1 once it is destroyed; as long as the number ever created. */
  readonly recs: number[]
  /** RECs that are there: what keeps REALM_DESTROY away. */
  recCount: number
}
