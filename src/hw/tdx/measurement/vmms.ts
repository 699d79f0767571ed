/** How pages are added and measured (intel-tdx.md f.2). */
export const ORDERS = ['interleaved', 'two-pass-section', 'two-pass-image'] as const
export type Order = (typeof ORDERS)[number]

/** Which sections are measured: those flagged, every one that is added, or none. */
export const EXTENDS = ['flagged', 'all', 'none'] as const
export type Extend = (typeof EXTENDS)[number]

/** What a VMM does with a TDVF image, where VMMs differ. */
export type Behaviour = {
  readonly order: Order
  readonly extend: Extend
  /** What makes a section flagged: bit 0 of its attributes, or attributes of exactly 1. */
  readonly flag: 'bit-0' | 'exactly-1'
  /** Sections with PAGE.AUG: left for the running guest, or added as if the bit were not there. */
  readonly pageAug: 'left' | 'added'
  /** Whether it checks what QEMU checks beyond the rules of the format. */
  readonly qemuChecks: boolean
  /** Payload sections hold the kernel and its command line, which the VMM has and the image has not. */
  readonly fillsPayload: boolean
  /** It measures the TD_HOB, whose contents depend on the machine's memory. */
  readonly needsTdHob: boolean
}

/** The rules of f.1 and f.2 alone. */
export const BY_THE_RULES: Behaviour = {
  order: 'interleaved',
  extend: 'flagged',
  flag: 'bit-0',
  pageAug: 'left',
  qemuChecks: false,
  fillsPayload: false,
  needsTdHob: false,
}

const QEMU: Behaviour = { ...BY_THE_RULES, pageAug: 'added', qemuChecks: true }

/** VMMs and calculators by name, each with what it does (intel-tdx.md f.2). */
export const VMMS = {
  /** QEMU 10.1 and later over upstream KVM. */
  qemu: QEMU,
  /** QEMU 8.2 of Ubuntu noble and dstack, over KVM before TDX was merged. */
  'qemu-8.2-two-pass': { ...QEMU, order: 'two-pass-section' },
  /** Any VMM by the rules over KVM_TDX_INIT_MEM_REGION, Linux 6.16 and later. */
  kvm: BY_THE_RULES,
  /** A VMM over a KVM with one ioctl that adds and another that measures. */
  'separate-ioctls': { ...BY_THE_RULES, order: 'two-pass-image' },
  'cloud-hypervisor': { ...BY_THE_RULES, flag: 'exactly-1', pageAug: 'added', fillsPayload: true },
  'td-shim': BY_THE_RULES,
  openvmm: BY_THE_RULES,
  'google-cloud': BY_THE_RULES,
  /** Google Cloud before October 2024, which measured every section. */
  'google-cloud-2024-tdhob-bug': { ...BY_THE_RULES, extend: 'all', needsTdHob: true },
} as const satisfies Readonly<Record<string, Behaviour>>
export type Vmm = keyof typeof VMMS
