import type { Host } from '../data.ts'
import type { AccessResult } from './access.ts'
import type { Answer } from './answer.ts'
import { PLAIN_ENTRY, type Resumed, recEnter } from './enter.ts'
import { IRQ, leave } from './exits.ts'
import { recAt } from './operands.ts'
import type { Realm } from './realm.ts'
import type { Rec } from './rec.ts'

/** What a guest's call or access came to: an answer in the Realm, or what an access can come to (arm-cca.md 6). */
export type GuestOutcome = { readonly kind: 'answer'; readonly answer: Answer } | AccessResult

export const answered = (answer: Answer): GuestOutcome => ({ kind: 'answer', answer })

/** One stretch of a REC's life inside. `entered` is undefined where it could not be, `resumed` also where it was already. */
export type GuestRun = {
  readonly outcome: GuestOutcome
  readonly entered: { readonly realm: Realm; readonly rec: Rec } | undefined
  readonly resumed: Resumed | undefined
}

/**
 * Lets the guest of the REC at `address` act. If the REC isn't inside the host enters it first, plainly, and an interrupt
 * takes it out afterwards; where it can't be entered, the answer is REC_ENTER's own (arm-cca.md 3).
 */
export function runGuest(
  host: Host,
  address: bigint,
  act: (host: Host, realm: Realm, rec: Rec) => GuestOutcome,
): GuestRun {
  const inside = runningRec(host, address)
  if (inside !== undefined) return { outcome: run(host, inside, act), entered: inside, resumed: undefined }
  const checked = recEnter(host, address, PLAIN_ENTRY)
  if (!checked.ok) return { outcome: answered(checked.answer), entered: undefined, resumed: undefined }
  const { realm, rec, resumed } = checked.value
  const entered = { realm, rec }
  if (resumed.kind === 'exit') return { outcome: resumed, entered, resumed }
  const outcome = run(host, entered, act)
  if (rec.running) leave(rec, IRQ)
  return { outcome, entered, resumed }
}

function runningRec({ data }: Host, address: bigint): { readonly realm: Realm; readonly rec: Rec } | undefined {
  const rec = recAt(data, address)
  const realm = rec?.running === true ? data.realms.get(rec.rd) : undefined
  return rec === undefined || realm === undefined ? undefined : { realm, rec }
}

function run(
  host: Host,
  { realm, rec }: { readonly realm: Realm; readonly rec: Rec },
  act: (host: Host, realm: Realm, rec: Rec) => GuestOutcome,
): GuestOutcome {
  const outcome = act(host, realm, rec)
  if (outcome.kind === 'exit') leave(rec, outcome.exit)
  return outcome
}
