import type { Fault, GuestRequest, HostData, RequestEntry } from '../hw/contract.ts'
import type { PageMap } from '../hw/shared/page-map.ts'
import type { FramePool } from './frame-pool.ts'

/**
 * Everything a host is, as plain structured-cloneable data: a checkpoint is this value, serialised. Page contents are
 * kept beside it (see {@link Contents}). Frame and page numbers count 4 KiB.
 */
export type HostState = {
  readonly name: string
  readonly technology: string
  readonly frames: number
  readonly seed: string
  revision: number
  crashed: { reason: string; seq: number } | null
  pool: FramePool
  hardware: HostData
  readonly vms: Map<string, VmState>
  readonly memfiles: Map<string, MemfileState>
  /** Frames under a long-term pin, and how many pins hold each. */
  readonly pinned: Map<number, number>
  /** Pinned frames whose mapping is gone: they live on until the last pin is dropped. */
  readonly orphans: Set<number>
}

/** Bytes of host frames; a frame without an entry is all zero. */
export type Contents = Map<number, Uint8Array>

export type PrivacyModel = 'populated' | 'attributes'
export type ConversionMode = 'auto' | 'manual'

export type VmState = {
  readonly id: string
  readonly name: string | null
  readonly technology: string
  readonly privacy: PrivacyModel
  readonly conversion: ConversionMode
  /** Pages go to the hardware when they are populated (true), or when KVM first maps them (false). */
  readonly preparedByFallocate: boolean
  readonly config: Readonly<Record<string, unknown>>
  revision: number
  readonly vcpus: VcpuState[]
  /** Sorted by first guest frame; ranges never overlap. */
  readonly slots: MemslotState[]
  /** The KVM_MEMORY_ATTRIBUTE_PRIVATE bit of every guest frame; all zero in the `populated` model. */
  readonly attributes: PageMap
  /** Second-stage mappings by guest frame: see stage2.ts. */
  readonly stage2: PageMap
  /** The VMM's own address space: host user frame → translation to a host frame, once touched. */
  readonly userspace: PageMap
  /** Pages present in `userspace`. */
  userspacePages: number
  /** Where the next slot without an address of its own is mapped. */
  nextHva: number
  readonly exits: Map<string, ExitState>
  readonly mappings: Map<string, MappingState>
  readonly pins: Map<string, PinState>
}

export type VcpuState = {
  /** The exit the VMM has not answered yet; the vCPU is out of the guest until then. */
  waiting: string | null
}

export type MemslotState = {
  readonly slot: number
  readonly firstGfn: number
  readonly pages: number
  readonly memfile: string | null
  /** The memfile itself; null when the slot has none or it has been closed. */
  file: MemfileState | null
  readonly memfileFirstPage: number
  /** First host user frame of the shared part; null when nothing is mapped there. */
  readonly hva: number | null
  /** The shared part was mapped by gmemd for this slot and goes with it. */
  readonly ownsHva: boolean
  readonly readOnly: boolean
  readonly dirtyLog: boolean
  readonly revision: number
}

export type MemfileState = {
  readonly id: string
  readonly name: string | null
  readonly pages: number
  /** Pages in a folio: 1, 512 or 262144. */
  readonly span: number
  /** Stays on its host; an unplaced one moves to that of the VM it is bound to. */
  readonly placed: boolean
  /** The VM it is bound to. */
  vm: VmState | null
  state: 'unbound' | 'bound' | 'released'
  /** File page → translation to a host frame; absent means a hole. */
  readonly backing: PageMap
  allocated: number
  /** Sorted by first page; ranges never overlap. */
  readonly bindings: Binding[]
  readonly consumers: Consumer[]
  revision: number
}

/** A memslot's hold on a range of a memfile. */
export type Binding = {
  readonly slot: number
  readonly firstGfn: number
  readonly firstPage: number
  readonly pages: number
}

/** Whoever the memfile notifies of population and invalidation. */
export type Consumer = {
  readonly name: string
  readonly flags: NotifierFlags
  populated: number
  invalidated: number
}

/** kvm-guest-memory.md a.4: MFN_F_USER_INACCESSIBLE, _UNMOVABLE, _UNRECLAIMABLE are BIT(0), BIT(1), BIT(2). */
export type NotifierFlags = {
  readonly userInaccessible: boolean
  readonly unmovable: boolean
  readonly unreclaimable: boolean
}

export type Exit = {
  readonly vcpu: number
  readonly reason: 'KVM_EXIT_MEMORY_FAULT' | 'KVM_EXIT_HYPERCALL' | 'KVM_EXIT_MMIO' | 'KVM_EXIT_INTERNAL_ERROR'
  readonly firstGfn: number
  readonly pages: number
  readonly private: boolean
  /** Bytes after the start of the first page, where the exit has a byte address (MMIO). */
  readonly offset?: number
  readonly errno?: string
  /** KVM_HC_MAP_GPA_RANGE's page size in 4 KiB pages, on a hypercall exit. */
  readonly span?: number
  readonly fault?: Fault
  readonly detail?: string
}

/** What a vCPU was doing when it left the guest; run again, or gone on with, at resume. */
export type GuestOperation =
  | {
      readonly kind: 'access'
      readonly address: string | number
      readonly private: boolean | null
      readonly access: 'read' | 'write' | 'execute'
      readonly length: number
      readonly data: string | null
      readonly vmpl: number
    }
  | {
      readonly kind: 'request'
      readonly entries: readonly RequestEntry[]
      readonly accept: boolean
      readonly progress: RequestProgress | null
    }
  | {
      readonly kind: 'call'
      readonly call: string
      readonly by: 'guest' | 'host'
      readonly args: Readonly<Record<string, unknown>>
      readonly progress: RequestProgress | null
    }

/** `accepting`: the conversions are done, and the guest goes on accepting at `gfn` of this entry. */
export type RequestProgress = {
  readonly request: GuestRequest
  readonly accepting?: { readonly entry: number; readonly gfn: number }
}

export type ExitState = {
  readonly id: string
  readonly exit: Exit
  readonly operation: GuestOperation
  /** The VMM's answer goes to the guest's request, which goes on with it; otherwise the operation runs again. */
  readonly answersRequest: boolean
}

export type MappingState = { readonly id: string; readonly firstGfn: number; readonly pages: number }

export type PinState = {
  readonly id: string
  readonly firstGfn: number
  readonly pages: number
  readonly by: string
  /** Host frames held, as runs. */
  readonly frames: readonly { readonly start: number; readonly count: number }[]
}
