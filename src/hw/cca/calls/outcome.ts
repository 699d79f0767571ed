import type { CallResult, Status } from '../../contract.ts'
import type { Outputs } from '../rmm/answer.ts'
import type { Resumed } from '../rmm/enter.ts'
import { exitOutputs } from '../rmm/exits.ts'
import { addressOf, hex } from '../rmm/geometry.ts'
import type { GuestOutcome, GuestRun } from '../rmm/guest.ts'
import { ADDRESS_SIZE_FAULT, GPF, OK, SEA, SUCCESS } from '../status.ts'

/** A guest's call or access as a reply: its answer, a fault in the Realm, or the REC exit; and what the entry delivered. */
export function outcomeResult({ outcome, resumed }: GuestRun): CallResult {
  const { status, outputs } = present(outcome)
  const delivered = resumed === undefined || resumed.kind === 'running' ? {} : { resumed: resumedOutputs(resumed) }
  return { kind: 'done', status, outputs: { ...outputs, ...delivered } }
}

function present(outcome: GuestOutcome): { readonly status: Status; readonly outputs: Outputs } {
  switch (outcome.kind) {
    case 'answer':
      return { status: outcome.answer.status, outputs: outcome.answer.outputs ?? {} }
    case 'ok':
      return { status: OK, outputs: { outcome: 'ok' } }
    case 'sea':
      return { status: SEA, outputs: { outcome: 'guest-fault', fault: 'SEA' } }
    case 'address-size':
      return { status: ADDRESS_SIZE_FAULT, outputs: { outcome: 'guest-fault', fault: 'ADDRESS_SIZE' } }
    case 'gpf':
      return { status: GPF, outputs: { outcome: 'GPF', fault: 'GPF' } }
    case 'exit':
      return { status: SUCCESS, outputs: exitOutputs(outcome.exit) }
  }
}

/** What the guest found when it was entered: `answers` is the call of its own that the host has now answered. */
export function resumedOutputs(resumed: Resumed): Outputs {
  switch (resumed.kind) {
    case 'ipa-state-set':
      return { answers: 'RSI_IPA_STATE_SET', x1: addressOf(resumed.reached), response: resumed.response }
    case 'host-call':
      return { answers: 'RSI_HOST_CALL', gprs: resumed.gprs.map(hex) }
    case 'psci':
      return { answers: 'PSCI', x0: resumed.x0 }
    case 'mmio':
      return { emulated: true, value: hex(resumed.value) }
    case 'sea':
      return { fault: 'SEA' }
    case 'exit':
      return exitOutputs(resumed.exit)
    case 'running':
      return {}
  }
}
