import type {
  AccessKind,
  Backend,
  GuestCheck,
  HostCheck,
  HostData,
  Machine,
  Mapping,
  Verdict,
} from '../../src/hw/contract.ts'
import { type SoftwareData, SoftwareHardware } from '../../src/hw/sw-protected/hardware.ts'
import { backend as swProtected } from '../../src/hw/sw-protected/index.ts'

/** What a test asks of the hardware below; changed while it runs. */
export type Knobs = {
  /** Pages whose first source byte is this are refused by the launch. */
  refuseSource: number
  /** Assignments of private pages are refused. */
  refuseAssign: boolean
  /** So many more assignments go through. */
  refuseAfter: number
  /** VMs have not finished their launch. */
  launching: boolean
  /** Host frames that a kernel write faults on. */
  readonly guarded: Set<number>
  /** `gfn frame count span` of each assignment. */
  readonly assigned: string[]
  readonly released: string[]
  /** The hardware's largest private mapping. */
  span: number
}

/**
 * Software hardware with what the real ones add: the access says whether it is private, private pages are populated by
 * measured launch, and some host frames cannot be written by the kernel.
 */
class AccessKindHardware extends SoftwareHardware {
  readonly #knobs: Knobs

  constructor(data: SoftwareData, machine: Machine, knobs: Knobs) {
    super(data, machine)
    this.#knobs = knobs
  }

  override assign(_vm?: string, gfn?: number, frame?: number, count?: number, span?: number): Verdict {
    if (this.#knobs.refuseAssign || this.#knobs.refuseAfter-- <= 0) return refusal('EIO', 'assign-refused')
    this.#knobs.assigned.push(`${gfn} ${frame} ${count} ${span}`)
    return { ok: true, value: undefined }
  }

  override release(_vm?: string, gfn?: number, _frame?: number, count?: number): boolean {
    this.#knobs.released.push(`${gfn} ${count}`)
    return true
  }

  override vmState(): 'running' {
    return (this.#knobs.launching ? 'launching' : 'running') as 'running'
  }

  override mappingSpan(): number {
    return this.#knobs.span
  }

  override checkGuest(
    _vm: string,
    _gfn: number,
    mapping: Mapping,
    isPrivate = mapping.private,
    _kind?: AccessKind,
  ): GuestCheck {
    if (mapping.private === isPrivate) return { kind: 'ok' }
    return {
      kind: 'host-fault',
      fault: { name: 'NPF', code: 0x400, detail: 'kind mismatch' },
      mended: false,
    }
  }

  override checkHost(frame?: number, kind?: 'read' | 'write', as?: 'user' | 'kernel' | 'device'): HostCheck {
    if (frame === undefined || kind !== 'write' || !this.#knobs.guarded.has(frame)) return { kind: 'ok' }
    const fault = { name: 'PF', code: 14, detail: 'guarded' }
    return as === 'kernel' ? { kind: 'crash', fault } : { kind: 'fault', fault }
  }

  override firstGuarded(frame?: number, count?: number): number {
    if (frame === undefined || count === undefined) return -1
    for (let at = frame; at < frame + count; at++) if (this.#knobs.guarded.has(at)) return at
    return -1
  }

  override launchSource(): Verdict<never> {
    return { ok: true, value: 'bytes' } as unknown as Verdict<never>
  }

  override launchPage(_vm?: string, _gfn?: number, _frame?: number, source?: Uint8Array): Verdict {
    if (source?.[0] === this.#knobs.refuseSource) return refusal('EIO', 'launch-page-refused')
    return { ok: true, value: undefined }
  }
}

const refusal = (errno: 'EIO', code: string): Verdict => ({
  ok: false,
  refusal: { errno, code, detail: 'refused by the test', hardware: { status: 'TEST', code: 1 } },
})

export function accessKindBackend(): { backend: Backend; knobs: Knobs } {
  const knobs: Knobs = {
    refuseSource: 0xee,
    refuseAssign: false,
    refuseAfter: Number.POSITIVE_INFINITY,
    launching: false,
    guarded: new Set(),
    assigned: [],
    released: [],
    span: 262144,
  }
  const backend: Backend = {
    ...swProtected,
    technology: 'access-kind',
    properties: { ...swProtected.properties, accessKind: 'access', population: 'measured', populateErrno: 'EIO' },
    open: (data: HostData, machine: Machine) => new AccessKindHardware(data as SoftwareData, machine, knobs),
  }
  return { backend, knobs }
}
