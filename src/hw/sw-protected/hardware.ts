import type {
  Certificate,
  GuestCheck,
  GuestContext,
  GuestRequest,
  Hardware,
  HostCheck,
  LaunchLog,
  LaunchPlan,
  Machine,
  Mapping,
  PageDescription,
  RequestEntry,
  Verdict,
  VmOptions,
} from '../contract.ts'
import * as hypercall from './hypercall.ts'

/** Per VM: whether the VMM has enabled bit 12 of KVM_CAP_EXIT_HYPERCALL. */
export type SoftwareData = { readonly exitEnabled: Map<string, boolean> }

const OK: Verdict = { ok: true, value: undefined }
const ALLOWED: GuestCheck & HostCheck = { kind: 'ok' }
const PRIVATE: PageDescription = { owner: 'guest', hardware: { store: 'private' } }

const noMeasurement: Verdict<never> = {
  ok: false,
  refusal: { errno: 'ENOTTY', code: 'not-measured', detail: 'A software-protected VM has no measured launch.' },
}

/**
 * KVM alone, with no trusted hardware under it (pkvm-s390-swprotected.md 3): each page lives in one of two stores, KVM's
 * own record says which, and nothing checks what the host does with a frame number.
 */
export class SoftwareHardware implements Hardware {
  readonly metadataBytes = 0
  readonly #data: SoftwareData
  readonly #machine: Machine

  constructor(data: SoftwareData, machine: Machine) {
    this.#data = data
    this.#machine = machine
  }

  exitEnabled(vm: string): boolean {
    return this.#data.exitEnabled.get(vm) ?? false
  }

  keys() {
    return { total: 0, inUse: 0 }
  }

  createVm({ vm, config }: VmOptions): Verdict {
    this.#data.exitEnabled.set(vm, config.exitHypercall !== false)
    return OK
  }

  vmState(): 'running' {
    return 'running'
  }

  destroyVm(vm: string): void {
    this.#data.exitEnabled.delete(vm)
  }

  assign(): Verdict {
    return OK
  }

  release(): boolean {
    return true
  }

  mappingSpan(): number {
    return 262144
  }

  checkGuest(_vm: string, _gfn: number, _mapping: Mapping): GuestCheck {
    return ALLOWED
  }

  checkHost(): HostCheck {
    return ALLOWED
  }

  firstGuarded(): number {
    return -1
  }

  ciphertext(frame: number): Uint8Array {
    return this.#machine.read(frame) ?? new Uint8Array(4096)
  }

  hostWroteCiphertext(): void {}

  beginRequest(guest: GuestContext, entries: readonly RequestEntry[]): GuestRequest {
    return hypercall.beginRequest(entries, this.exitEnabled(guest.vm))
  }

  nextExit(_guest: GuestContext, request: GuestRequest) {
    return hypercall.nextExit(request)
  }

  completeExit(_guest: GuestContext, request: GuestRequest, ret: number): void {
    hypercall.completeExit(request, ret)
  }

  accept() {
    return { kind: 'done' as const, status: hypercall.statusOf(0) }
  }

  launchSource(): Verdict<never> {
    return noMeasurement
  }

  launchPage(): Verdict {
    return noMeasurement
  }

  launchFinish(): Verdict {
    return noMeasurement
  }

  launchPlan(): Verdict<LaunchPlan> {
    return noMeasurement
  }

  launchLog(): LaunchLog {
    return { state: 'running', digest: null, steps: [] }
  }

  evidence(): Verdict<never> {
    return {
      ok: false,
      refusal: { errno: 'ENOTTY', code: 'no-evidence', detail: 'Nothing attests a software-protected VM.' },
    }
  }

  certificates(): readonly Certificate[] {
    return []
  }

  describe(
    _vm: string,
    _gfn: number,
    _frame: number,
    count: number,
    emit: (count: number, state: PageDescription) => void,
  ): void {
    emit(count, PRIVATE)
  }

  explain(): Readonly<Record<string, unknown>> {
    return {}
  }
}
