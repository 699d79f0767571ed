import type { HashAlgo } from './digest.ts'

/** In which order a launch is performed (arm-cca.md 9). */
export type Order =
  /** RIPAS over all RAM, images by ascending IPA, RECs, event log. */
  | 'ripas-images-recs-log'
  /** RECs, then RIPAS and pages of one image after the other. */
  | 'recs-then-each-image'
  /** Images and event log, RECs, then RIPAS over what of RAM holds none of them. */
  | 'images-recs-ripas'

/** What a VMM does where VMMs differ (arm-cca.md 9). Frames are 4 KiB pages. */
export type Machine = {
  readonly order: Order
  readonly ramGfn: number
  /** Where the device tree lies when nothing else is said, and the pages its region has at least. */
  readonly dtbGfn: number
  readonly dtbPages: number
  readonly hashAlgo: HashAlgo
  /** Bits of the IPA space for RAM whose last address has so many bits. */
  s2sz(addressBits: number): number
  /** The entry of a firmware, which is given no device tree in x0: it finds it itself. */
  readonly firmwareEntry: bigint | undefined
}

const KVMTOOL: Machine = {
  order: 'ripas-images-recs-log',
  ramGfn: 0x80000,
  dtbGfn: 0x8fe00,
  dtbPages: 16,
  hashAlgo: 0,
  s2sz: (addressBits) => Math.max(32, addressBits) + 1,
  firmwareEntry: undefined,
}

const QEMU: Machine = {
  order: 'ripas-images-recs-log',
  ramGfn: 0x40000,
  dtbGfn: 0x40000,
  dtbPages: 1,
  hashAlgo: 1,
  s2sz: (addressBits) => Math.max(41, addressBits + 1),
  firmwareEntry: 0n,
}

/** By name. KVM v12 orders the launch itself; its machine is the one of kvmtool, which is developed beside it. */
export const VMMS = {
  kvmtool: KVMTOOL,
  qemu: QEMU,
  'early-qemu': { ...QEMU, order: 'recs-then-each-image' },
  'kvm-v12': { ...KVMTOOL, order: 'images-recs-ripas' },
} as const satisfies Readonly<Record<string, Machine>>
export type Vmm = keyof typeof VMMS
