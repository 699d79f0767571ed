import type { ConversionMode, PrivacyModel } from '../../src/domain/state.ts'

/** The state of the naive model: a plain object a page, plain maps, no runs, no frame numbers. */

/** A page of memory. `held` by something that backs it with; gone and unpinned, it is free again. */
export type Page = { bytes: Uint8Array | undefined; pins: number; held: boolean }

export type File = {
  readonly id: string
  readonly size: number
  vm: string | null
  state: 'unbound' | 'bound' | 'released'
  readonly pages: Map<number, Page>
}

export type Slot = {
  readonly id: number
  gfn: number
  readonly pages: number
  readonly file: File | null
  closed: boolean
  readonly filePage: number
  /** User page of its first page; null when nothing is mapped. */
  readonly hva: number | null
  readonly ownsHva: boolean
  readonly readOnly: boolean
  dirtyLog: boolean
}

export type Entry = { readonly gfn: number; readonly pages: number; readonly span: number; readonly operation: string }

export type Access = {
  readonly vcpu: number
  readonly gpa: number
  readonly asked: boolean | null
  readonly kind: 'read' | 'write'
  readonly bytes: Uint8Array
}

/** A guest's RSI_IPA_STATE_SET of pages [base, top) as a raw call. */
export type StateSet = {
  readonly base: number
  readonly top: number
  readonly ram: boolean
  readonly changeDestroyed: boolean
}

/** What a vCPU waits with: a request at the entry `at`, or an access. */
export type Waiting =
  | {
      readonly kind: 'request'
      readonly entries: readonly Entry[]
      readonly accept: boolean
      at: number
      completed: number
      readonly codes: (number | string)[]
      /** Where the guest goes on accepting, once all is converted. */
      accepting: { readonly entry: number; readonly gfn: number } | null
    }
  | { readonly kind: 'access'; readonly access: Access }
  | { readonly kind: 'state-set'; readonly set: StateSet }

export type Vm = {
  readonly id: string
  readonly privacy: PrivacyModel
  readonly conversion: ConversionMode
  readonly slots: Map<number, Slot>
  /** Guest frames with the private attribute. */
  readonly attributes: Set<number>
  /** Touched user pages. */
  readonly user: Map<number, Page>
  nextHva: number
  readonly waiting: (string | null)[]
  readonly exits: Map<string, { readonly vcpu: number; readonly waiting: Waiting }>
  readonly pins: Map<string, Page[]>
  /** Guest frames in the hardware's private table, and whether the guest has accepted them. */
  readonly sept: Map<number, boolean>
  /** What a Realm's guest was promised of a frame, where that is not EMPTY. */
  readonly ripas: Map<number, 'RAM' | 'DESTROYED'>
  /** vCPUs whose last #VE nobody has asked about. */
  readonly ve: Set<number>
  readonly exitsOnPending: boolean
  dead: boolean
  /** Pages of the host that are the VM's own. */
  held: number
}

export const PAGE = 4096
export const NOT_PROCESSED = -1
