import type { TSchema } from 'typebox'
import type { Errno } from './shared/errno.ts'

/**
 * What a technology is to the rest of gmemd. A backend is a folder `src/hw/<technology>/` that exports one
 * {@link Backend}, and one line in `src/hw/registry.ts`. Everything here is synchronous and deterministic: no clock, no
 * randomness, no I/O. Frame numbers (guest `gfn`, host `frame`) count 4 KiB pages and are plain numbers.
 */
export interface Backend {
  readonly technology: string
  /** One sentence for `GET /v1/technologies`. */
  readonly title: string
  readonly properties: Properties
  /** The technology's own part of `POST /v1/vms`: `config`. */
  readonly configSchema: TSchema
  readonly calls: readonly Call[]
  readonly launch: LaunchSchemas
  /** The machine-wide state of a new host; plain structured-cloneable data. */
  createData(options: { readonly frames: number; readonly seed: string }): HostData
  /** Puts behaviour around a host's data, new or recovered. `data` is changed in place from then on. */
  open(data: HostData, machine: Machine): Hardware
}

/** Plain structured-cloneable data: objects, arrays, Map, Set, typed arrays, strings, numbers, bigint. No class, no function. */
export type HostData = object

/** What the domain must know of a technology, instead of its name. Shown as they are at `GET /v1/technologies`. */
export type Properties = {
  /** Host userspace may map private memory. */
  readonly mappable: boolean
  /** The kernel may move a private page by plain copy. */
  readonly movable: boolean
  /** The kernel may swap a private page out. */
  readonly reclaimable: boolean
  /** A conversion keeps the physical page. */
  readonly inPlace: boolean
  /** What a conversion does to contents: kept in place, lost, or each store keeps its own. */
  readonly contents: 'kept' | 'lost' | 'own-store'
  /** Whether an access of the other kind than the page's is reported for conversion; part of the ABI or not. */
  readonly implicitConversion: boolean
  /** Where the private/shared kind of a guest access comes from: the access itself, or KVM's own record. */
  readonly accessKind: 'access' | 'record'
  /** The guest must accept a private page before it can use it. */
  readonly guestAccepts: boolean
  /** The host is told of conversions. */
  readonly hostTold: boolean
  /** How memory gets its first contents before launch. */
  readonly population: 'fallocate' | 'measured'
  readonly launchDigest: string | null
  /** The errno of a measured population that did nothing: KVM's ioctl of this technology says which. */
  readonly populateErrno: Errno
  readonly pageSizes: readonly PageSize[]
  /** Name of the state a populated page starts in. */
  readonly initialState: string
  /** What the technology's keys are called ("ASID"), or null. */
  readonly keyName: string | null
}

export type PageSize = '4K' | '2M' | '1G'
/** 4 KiB pages in a page of each size. */
export const PAGES_IN: Readonly<Record<PageSize, number>> = { '4K': 1, '2M': 512, '1G': 262144 }

/**
 * What the emulated hardware answered: data, never an error. `code` is a number where the technology's statuses fit one
 * exactly, and a lower-case hex string in all of them where it has 64-bit ones. 0 and "0x0" are plain success.
 */
export type Status = { readonly name: string; readonly code: StatusCode }
export type StatusCode = number | string

/** A refusal by the kernel's or the technology's rules of a whole request; it changed nothing. */
export type HwRefusal = {
  readonly errno: Errno
  readonly code: string
  readonly detail: string
  readonly pointer?: string
  /** What the firmware answered, when the errno comes from there. */
  readonly hardware?: { readonly status: string; readonly code: StatusCode }
  /** The refused request has changed something all the same, as some firmware does. */
  readonly effects?: true
  /** What the firmware hands back all the same, such as the page it would have accepted. */
  readonly outputs?: Readonly<Record<string, unknown>>
}
export type Verdict<T = undefined> =
  | { readonly ok: true; readonly value: T }
  | { readonly ok: false; readonly refusal: HwRefusal }

/** The emulated host under a backend: physical memory and its kernel. Given by the domain at {@link Backend.open}. */
export interface Machine {
  readonly frames: number
  /** The page's bytes as its owner sees them; undefined means all zero. Never change the array returned. */
  read(frame: number): Uint8Array | undefined
  /** Replaces a page's bytes (4096 of them); undefined makes it all zero. */
  write(frame: number, bytes: Uint8Array | undefined): void
  /** Makes `count` frames all zero. Costs what they hold. */
  clear(frame: number, count: number): void
  /** A host page for the backend's own use (a VMSA, a context page), or -1 when memory is gone. */
  allocateFrame(): number
  freeFrame(frame: number): void
  /** The first of `count` host pages in a row, aligned to their size, a power of two up to 512; -1 when there are none. */
  allocateBlock(count: number): number
  /** The host does not survive what just happened. Its state becomes "crashed". */
  crash(reason: string): void
  /** Tells the client of something the host did by itself ("PSMASH"); shown in the journal entry of the command. */
  note(event: HostEvent): void
}

/** An operation that KVM or the firmware performed on its own while serving a command. */
export type HostEvent = {
  readonly name: string
  readonly gfn?: number
  readonly frame?: number
  readonly detail?: string
}

/** A mapping in the VM's second-stage table: `frame` is that of the guest frame asked for, `span` is 1, 512 or 262144 pages; `private` its kind. */
export type Mapping = { readonly frame: number; readonly span: number; readonly private: boolean }

/** The guest's side while one of its instructions runs. */
export type GuestContext = {
  readonly vm: string
  readonly vcpu: number
  /** Which side executes a raw call: a host instruction run by the guest answers as the architecture says. */
  readonly by: 'guest' | 'host'
  /** The second-stage translation of `gfn` as it stands, undefined when not present. */
  translate(gfn: number): Mapping | undefined
}

export type AccessKind = 'read' | 'write' | 'execute'

/** A fault as the architecture names it. `code` is its vector or exit code, `errorCode` its error bits as a hex string. */
export type Fault = {
  readonly name: string
  readonly code: StatusCode
  readonly errorCode?: string
  readonly detail: string
}

/**
 * What the hardware says of a guest access through an existing mapping.
 * `guest-fault`: delivered in the guest; the host sees nothing. `host-fault`: taken by the host; `mended` says that
 * KVM's handler put it right (a PSMASH) and zapped the mapping, so that the access is to be tried again. `vm-dead`: the
 * vCPU can't go on ever; where that goes for the whole guest, {@link Hardware.vmState} says so from now on.
 */
export type GuestCheck =
  | { readonly kind: 'ok' }
  /** The access goes through, but with the wrong key: a read sees {@link Hardware.ciphertext}. */
  | { readonly kind: 'ciphertext' }
  | { readonly kind: 'guest-fault'; readonly fault: Fault }
  | { readonly kind: 'host-fault'; readonly fault: Fault; readonly mended: boolean }
  | { readonly kind: 'vm-dead'; readonly fault: Fault }

/** What the hardware says of a host access. `ciphertext`: it goes through, but sees or writes ciphertext. */
export type HostCheck =
  | { readonly kind: 'ok' }
  | { readonly kind: 'ciphertext' }
  | { readonly kind: 'fault'; readonly fault: Fault }
  | { readonly kind: 'crash'; readonly fault: Fault }

/** One entry of a guest's page-state change: `pages` pages of `span` 4 KiB pages each, from `gfn`. */
export type RequestEntry = {
  readonly gfn: number
  readonly pages: number
  readonly span: number
  readonly operation: 'private' | 'shared' | 'psmash' | 'unsmash'
}

/**
 * A conversion the host is asked for: `pages` are 4 KiB pages. KVM_HC_MAP_GPA_RANGE, with its page size `span`; or what
 * KVM reports as a memory fault over the whole range, where the guest asks its hardware and KVM hears of it.
 */
export type ConversionExit = {
  readonly reason: 'KVM_EXIT_HYPERCALL' | 'KVM_EXIT_MEMORY_FAULT'
  readonly gfn: number
  readonly pages: number
  readonly span?: number
  readonly private: boolean
}

/**
 * A guest's page-state change under way: plain data, so that it survives a restart while the VMM thinks. `statuses`
 * has one place an entry, undefined while not processed; `completed` counts entries done. The rest is the backend's.
 */
export type GuestRequest = {
  readonly kind: string
  readonly statuses: (Status | undefined)[]
  completed: number
}

/** What a raw call came to. `request`: the guest now waits for conversions, as with any page-state change. */
export type CallResult =
  | { readonly kind: 'done'; readonly status: Status; readonly outputs?: Readonly<Record<string, unknown>> }
  | { readonly kind: 'request'; readonly request: GuestRequest }
  /** No usable mapping, or the hardware refused the translation: KVM gets to handle a second-stage fault at `gfn`. */
  | {
      readonly kind: 'fault'
      readonly gfn: number
      readonly private: boolean
      readonly write: boolean
      readonly fault: Fault
      readonly mended: boolean
    }

/** One architectural operation under its own name, reachable raw through `POST /v1/vms/{vm}/calls`. */
export type Call = {
  readonly name: string
  readonly by: 'guest' | 'host'
  readonly summary: string
  /** The call's own arguments (an object schema without `call` and `by`). Addresses are {@link HexAddress} or integers. */
  readonly schema: TSchema
  readonly example: Readonly<Record<string, unknown>>
  run(hardware: Hardware, args: Readonly<Record<string, unknown>>, guest: GuestContext): CallResult
  /** What a call that became a request gives back beside its status, at any point of it. */
  outputs?(request: GuestRequest, args: Readonly<Record<string, unknown>>): Readonly<Record<string, unknown>>
}

/** Schemas of the technology's part of launch update, finish and image, and of launch steps; empty objects where it has none. */
export type LaunchSchemas = {
  /** Beside `gpa`, `length`/`data` of the neutral request: e.g. `pageType`. */
  readonly update: TSchema
  readonly finish: TSchema
  /** Query parameters of `launch/image`; undefined when the technology has no image launch. */
  readonly image: TSchema | undefined
}

/**
 * One region of a launch plan: what the named VMM populates, in order. `bytes` undefined where the type needs no source.
 * `measureOnly`: nothing is populated, {@link Hardware.launchMeasure} has the step.
 */
export type PlanStep = {
  readonly gfn: number
  readonly pages: number
  readonly bytes: Uint8Array | undefined
  readonly options: Readonly<Record<string, unknown>>
  readonly measureOnly?: true
}
export type LaunchPlan = { readonly steps: readonly PlanStep[]; readonly finish: Readonly<Record<string, unknown>> }

/** One line of the launch log: `pages` pages from `gpa`, and the digest after the last of them. */
export type LaunchStep = Readonly<Record<string, unknown>>
export type LaunchLog = {
  readonly state: string
  readonly digest: string | null
  readonly steps: readonly LaunchStep[]
}

/** A new VM as the backend sees it. */
export type VmOptions = {
  readonly vm: string
  readonly vcpus: number
  readonly config: Readonly<Record<string, unknown>>
  /** Fallocate gives pages to the hardware at once (true: the 2022 model), or KVM's fault does (false). */
  readonly preparedByFallocate: boolean
}

/** The trusted hardware of one host, around its data. */
export interface Hardware {
  /** Host memory the technology takes for its own tables, in bytes; lies at the top of memory. */
  readonly metadataBytes: number
  keys(): { readonly total: number; readonly inUse: number }

  createVm(options: VmOptions): Verdict
  /** `launching` until the measured launch is finished; only a running guest executes. `dead`: it never will again. */
  vmState(vm: string): 'launching' | 'running' | 'dead'
  /** Ends the VM. The domain has released every private page before. */
  destroyVm(vm: string): void

  /**
   * Private frames `frame…` become the VM's at `gfn…`: fallocate in the 2022 model, otherwise KVM's fault. Idempotent on
   * pages the VM already has there. `span` is the folio's size in pages; the hardware may use less.
   */
  assign(vm: string, gfn: number, frame: number, count: number, span: number): Verdict
  /**
   * Private frames are about to be freed: hardware first, memory second. `gfn` is -1 for pages that no memslot shows.
   * False when the hardware doesn't give them up: they are the backend's then, to free at {@link destroyVm}.
   */
  release(vm: string, gfn: number, frame: number, count: number): boolean
  /**
   * Where the hardware owns the table for private memory (a second root beside KVM's): its own translation. Undefined
   * where it has none that a guest's access could use.
   */
  translatePrivate?(vm: string, gfn: number): Mapping | undefined
  /** KVM takes private mappings away while their pages stay in the memfile: a memslot went, or its pages became shared. */
  unmapPrivate?(vm: string, gfn: number, count: number): void
  /** Where a bit of the guest's address makes an access shared: the guest frame that `gfn` is the shared alias of, or -1. */
  sharedAlias?(vm: string, gfn: number): number
  /** The fault that stays in the guest where its addresses are too narrow for `gfn`, once a shared bit is taken away. */
  addressFault?(vm: string, gfn: number, kind: AccessKind): Fault | undefined
  /** The largest private mapping the hardware allows at `gfn` → `frame`: 1, 512 or 262144. */
  mappingSpan(frame: number): number

  /** `vmpl`: the privilege level inside the guest, 0 where the technology has none. */
  checkGuest(
    vm: string,
    gfn: number,
    mapping: Mapping,
    isPrivate: boolean,
    kind: AccessKind,
    vmpl: number,
    vcpu: number,
  ): GuestCheck
  /** What an access meets where nothing translates it, if that isn't a fault for KVM to handle. */
  checkUnmapped?(
    vm: string,
    gfn: number,
    isPrivate: boolean,
    kind: AccessKind,
  ): Extract<GuestCheck, { kind: 'guest-fault' }> | undefined
  /** `as` kernel and user differ in what a fault does to the host; a device goes through the IOMMU. */
  checkHost(frame: number, kind: 'read' | 'write', as: 'user' | 'kernel' | 'device'): HostCheck
  /** The first of `count` frames that a kernel write would fault on, or -1: the kernel clears every page it hands out. */
  firstGuarded(frame: number, count: number): number
  /** What the host sees of a page that it reads as ciphertext: 4096 bytes, deterministic. */
  ciphertext(frame: number): Uint8Array
  /** The host wrote ciphertext at `offset` of a private page: what the owner then sees is the backend's to say. */
  hostWroteCiphertext(frame: number, offset: number, bytes: Uint8Array): void

  beginRequest(guest: GuestContext, entries: readonly RequestEntry[]): GuestRequest
  /** The next conversion that the host must perform, or undefined when the request is done. */
  nextExit(guest: GuestContext, request: GuestRequest): ConversionExit | undefined
  /** The VMM's answer to the exit given last: 0, or a negative errno. */
  completeExit(guest: GuestContext, request: GuestRequest, ret: number): void
  /**
   * The guest's acceptance of `count` pages of `span` 4 KiB pages it has just made private. `gfn` may lie inside a page of
   * `span`, whose rest then comes first. `done` with the status of the last one when nothing is left; a `fault` names the
   * page that KVM must map first, and the guest then goes on there.
   */
  accept(guest: GuestContext, gfn: number, count: number, span: number): CallResult

  /** Measured population of one page that holds `source` (undefined where the type needs none). */
  launchPage(
    vm: string,
    gfn: number,
    frame: number,
    source: Uint8Array | undefined,
    options: Readonly<Record<string, unknown>>,
  ): Verdict
  /** Whether a launch update with these options takes source bytes. Refuses options that the kernel refuses at once. */
  launchSource(vm: string, options: Readonly<Record<string, unknown>>): Verdict<'bytes' | 'none'>
  /** What the kernel says of a launch update over a range that is not within one slot with a memfile, where it says more than EINVAL. */
  launchRange?(vm: string, range: 'no-slot' | 'shared-slot' | 'over-slots'): Verdict
  /** A step of a launch that populates nothing, for technologies that have such: `options` are the plan's. */
  launchMeasure?(vm: string, gfn: number, pages: number, options: Readonly<Record<string, unknown>>): Verdict
  launchFinish(vm: string, options: Readonly<Record<string, unknown>>): Verdict
  launchPlan(vm: string, image: Uint8Array, query: Readonly<Record<string, unknown>>): Verdict<LaunchPlan>
  launchLog(vm: string): LaunchLog

  /** Signed evidence over `nonce`, in the technology's byte layout. */
  evidence(vm: string, nonce: Uint8Array): Verdict<Readonly<Record<string, unknown>>>
  certificates(): readonly Certificate[]

  /**
   * Splits private frames `frame…` at `gfn…` into runs whose hardware state agrees, in order. `state` is a small object
   * with the technology's own words (`{rmp: "Guest-Valid", …}`); the same object for the same state where possible.
   */
  describe(
    vm: string,
    gfn: number,
    frame: number,
    count: number,
    emit: (count: number, state: PageDescription) => void,
  ): void
  /** Every hardware table's entry for one page, for a person to read. */
  explain(vm: string, gfn: number, frame: number | undefined): Readonly<Record<string, unknown>>
}

/** `owner` is who may use the page now: "guest", "host", or the technology's own word ("firmware"). */
export type PageDescription = {
  readonly owner: string
  readonly hardware: Readonly<Record<string, string | number | boolean>>
}

export type Certificate = { readonly name: string; readonly subject: string; readonly pem: string }

/** A measurement without a VM: `POST /v1/measurements`. Files are bytes by then. */
export type Measurer = {
  readonly technology: string
  readonly schema: TSchema
  measure(inputs: Readonly<Record<string, unknown>>): Verdict<Readonly<Record<string, unknown>>>
}
