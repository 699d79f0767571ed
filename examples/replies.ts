/** The parts of gmemd's replies that the story looks at. */

export type Status = { readonly name: string; readonly code: number | string }
export type Fault = Status & { readonly errorCode?: string; readonly detail: string }
export type Exit = {
  readonly id: string | null
  readonly reason: string
  readonly gpa: string
  readonly length: number
  readonly private: boolean
  readonly hypercall?: { readonly nr: number; readonly args: readonly string[] }
}

export type Technology = {
  readonly technology: string
  readonly title: string
  readonly properties: Readonly<Record<string, unknown>>
  readonly calls: readonly { readonly name: string; readonly by: string }[]
}
export type Host = {
  readonly name: string
  readonly memory: number
  readonly capacity: number
  readonly use: { readonly private: number; readonly shared: number; readonly metadata: number }
  readonly keys: { readonly name: string | null; readonly total: number; readonly inUse: number }
  readonly state: 'up' | 'crashed'
  readonly reason: string | null
}
export type Vm = { readonly id: string; readonly host: string; readonly state: string; readonly seq: number }
export type Memfile = { readonly id: string; readonly state: string; readonly allocated: number; readonly seq: number }

export type LaunchStep = {
  readonly pageType: string
  readonly gpa: string
  readonly pages: number
  readonly digestAfter: string
  readonly contents?: readonly { readonly pages: number; readonly sha384: string }[]
}
export type Launch = { readonly state: string; readonly digest: string; readonly steps: readonly LaunchStep[] }
export type Measurement = { readonly launchDigest: string; readonly steps: readonly LaunchStep[] }

/** TDX measures calls: `add` is PAGE.ADD, `extend` MR.EXTEND of all 16 chunks, of each page. */
export type TdStep = {
  readonly operation: 'add' | 'extend' | 'add-extend'
  readonly gpa: string
  readonly pages: number
  readonly digestAfter: string
  readonly type?: string
  readonly contents?: { readonly from: string; readonly offset: number; readonly length: number }
}
export type TdLaunch = { readonly state: string; readonly digest: string; readonly steps: readonly TdStep[] }
export type TdMeasurement = { readonly mrtd: string; readonly steps: readonly TdStep[] }

/** CCA measures commands: pages given, table entries that become RAM, RECs that may run. */
export type RealmStep = { readonly rimAfter: string } & (
  | {
      readonly op: 'realm_create'
      readonly flags: string
      readonly s2sz: number
      readonly sve_vl: number
      readonly num_bps: number
      readonly num_wps: number
      readonly pmu_num_ctrs: number
      readonly hash_algo: number
    }
  | { readonly op: 'ripas'; readonly base: string; readonly entrySize: number; readonly entries: number }
  | { readonly op: 'data'; readonly ipa: string; readonly pages: number; readonly flags: number }
  | { readonly op: 'rec'; readonly flags: string; readonly pc: string; readonly gprs: readonly string[] }
  | { readonly op: 'noop' }
)
export type RealmMeasurement = { readonly rim: string; readonly steps: readonly RealmStep[] }
export type RealmLaunch = {
  readonly state: string
  readonly digest: string
  readonly steps: readonly {
    readonly operation: string
    readonly gpa?: string
    readonly pages?: number
    readonly copies?: number
    readonly digestAfter: string
  }[]
}

export type PageStates = {
  readonly completed: number
  readonly entries: readonly { readonly status: Status }[]
  readonly exits: readonly Exit[]
  readonly waiting?: Exit
  readonly seq: number
}
export type Access = {
  readonly outcome: 'ok' | 'exit' | 'guest-fault'
  readonly data?: string
  readonly exit?: Exit
  readonly exits?: readonly Exit[]
  readonly fault?: Fault
}
export type HostAccess = {
  readonly outcome: 'ok' | 'fault' | 'host-crash'
  readonly data?: string
  readonly ciphertext?: boolean
  readonly fault?: Fault
}
export type Call = {
  readonly status: Status
  readonly seq: number
  readonly asid?: number
  readonly assigned?: boolean
  readonly rax?: number
  readonly r10?: string
  readonly r11?: string
  readonly rcx?: string
  readonly page?: { readonly type: string }
  readonly rtmr?: string
  readonly x1?: string
  readonly response?: string
  readonly state?: string
  readonly ripas?: string
  readonly exit_reason?: string
  readonly hpfar?: string
  readonly value?: string
  readonly data?: string
  readonly exits: readonly Exit[]
  readonly waiting?: Exit
}
export type Resumed = { readonly ret: number; readonly result: PageStates }
export type ResumedCall = { readonly ret: number; readonly result: Call }

export type Run = {
  readonly gpa: string
  readonly length: number
  readonly owner: string
  readonly visibility: 'private' | 'shared'
  readonly backing: { readonly private: boolean; readonly shared: boolean }
  readonly hardware: Readonly<Record<string, unknown>>
}
export type Runs = { readonly items: readonly Run[]; readonly nextCursor: string | null }
export type Page = Run & {
  readonly slot: number
  readonly memfile: { readonly id: string; readonly offset: number }
  readonly privateHpa: string
  readonly sharedHpa: string | null
  readonly tables: Readonly<Record<string, unknown>>
  readonly history: readonly { readonly seq: number; readonly type: string }[]
}
export type Accounting = { readonly private: number; readonly shared: number; readonly both: number }
export type Attestation = { readonly simulated: boolean; readonly report: string }
export type Quote = { readonly simulated: boolean; readonly tdreport: string; readonly quote: string }
export type Token = { readonly simulated: boolean; readonly token: string }
/** One step of a walk: a table, or the entry where it ends. */
type RttEntry = {
  readonly level: number
  readonly index: number
  readonly state: string
  readonly table?: string
  readonly acknowledged?: boolean
}
export type RealmPage = Page & {
  readonly tables: {
    readonly protected: readonly RttEntry[]
    readonly unprotected: readonly RttEntry[]
    readonly granule: { readonly pa: string; readonly state: string; readonly pas: string; readonly rd?: string }
    readonly realm: {
      readonly rd: string
      readonly state: string
      readonly s2sz: number
      readonly recs: readonly { readonly rec: string; readonly runnable: boolean }[]
    }
  }
}
export type TdPage = Page & {
  readonly tables: {
    readonly sept: readonly {
      readonly level: number
      readonly index: number
      readonly state: string
      readonly table?: string
    }[]
    readonly acceptance: string
    readonly pamt?: { readonly hpa: string; readonly type: string; readonly tdr?: string }
    readonly poisoned?: boolean
    readonly td: { readonly tdr: string; readonly hkid: number; readonly opState: string; readonly tdEpoch: number }
  }
}
export type Certificates = {
  readonly items: readonly { readonly name: string; readonly subject: string; readonly pem: string }[]
}
