import type { Status, Verdict } from '../../contract.ts'
import { type HexOrInteger, toHex } from '../../shared/hex.ts'
import { refuse } from '../../shared/refusal.ts'
import { isSuccess } from '../../shared/status.ts'
import { OPERAND } from '../status.ts'
import { CHUNK_BYTES, PAGE_BYTES } from './blocks.ts'
import { MAX_OP_CHUNKS, MAX_OP_PAGES, MAX_SEEDS } from './measure-schema.ts'
import { createOpTd, mrExtend, mrFinalize, mrtdNow, type OpTd, pageAdd, pageRemove } from './op-td.ts'
import { type PageContent, pageOf } from './page-content.ts'

export type Op =
  | { readonly op: 'PAGE.ADD'; readonly gpa: HexOrInteger; readonly pages?: number; readonly content?: PageContent }
  | { readonly op: 'MR.EXTEND'; readonly gpa: HexOrInteger; readonly chunks?: number }
  | { readonly op: 'PAGE.REMOVE'; readonly gpa: HexOrInteger }
  | { readonly op: 'MR.FINALIZE' }
export type OpsInputs = { readonly gpaw: 48 | 52; readonly ops: readonly Op[] }

/** One op: `done` of its calls succeeded, and the next one, if any, was refused with `status`. */
export type OpStep = {
  readonly op: Op['op']
  readonly gpa?: string
  readonly done: number
  readonly status: Status
  readonly digestAfter: string
}
export type OpsMeasurement = {
  readonly mrtd: string
  readonly finalized: boolean
  readonly statuses: readonly string[]
  readonly running: readonly string[]
  readonly steps: readonly OpStep[]
}

/**
 * Applies calls to a fresh TD (intel-tdx.md c.3, e.1). An op of several pages or chunks stops at the first that is
 * refused; `content` is that of each page. The digest is SHA-384 over the blocks of each step's `done` first calls.
 */
export function measureOps({ gpaw, ops }: OpsInputs): Verdict<OpsMeasurement> {
  const tooMany = excess(ops)
  if (tooMany !== undefined) return refuse('ops-too-many', tooMany, '/ops')
  const td = createOpTd(gpaw)
  const steps: OpStep[] = []
  for (const [index, op] of ops.entries()) {
    const page = op.op === 'PAGE.ADD' ? pageOf(op.content) : new Uint8Array(0)
    if (page === undefined)
      return refuse('content-too-long', `A page holds ${PAGE_BYTES} bytes.`, `/ops/${index}/content`)
    steps.push(perform(td, op, page))
  }
  return {
    ok: true,
    value: {
      mrtd: mrtdNow(td),
      finalized: td.finalized,
      statuses: steps.map(({ status }) => labelOf(status)),
      running: steps.map(({ digestAfter }) => digestAfter),
      steps,
    },
  }
}

/** The specification's way to write a status with its operand, which can only be RCX in these calls. */
const labelOf = ({ name, code }: Status): string =>
  BigInt.asUintN(32, BigInt(code)) === BigInt(OPERAND.RCX) ? `${name}|RCX` : name

function excess(ops: readonly Op[]): string | undefined {
  let pages = 0
  let seeds = 0
  let chunks = 0
  for (const op of ops) {
    if (op.op === 'MR.EXTEND') chunks += op.chunks ?? 1
    if (op.op !== 'PAGE.ADD') continue
    pages += op.pages ?? 1
    if (op.content !== undefined && 'seed' in op.content) seeds++
  }
  const [verb, count, what, most] =
    pages > MAX_OP_PAGES
      ? ['add', pages, 'pages', MAX_OP_PAGES]
      : chunks > MAX_OP_CHUNKS
        ? ['extend', chunks, 'chunks', MAX_OP_CHUNKS]
        : ['give', seeds, 'seeds', MAX_SEEDS]
  return count > most ? `The ops ${verb} ${count} ${what}; at most ${most} are measured at once.` : undefined
}

function perform(td: OpTd, op: Op, page: Uint8Array): OpStep {
  if (op.op === 'MR.FINALIZE')
    return stepOf(
      td,
      op.op,
      repeat(1, () => mrFinalize(td)),
    )
  const gpa = BigInt(op.gpa)
  const outcome = callsOf(td, op, gpa, page)
  return stepOf(td, op.op, outcome, gpa)
}

function callsOf(td: OpTd, op: Exclude<Op, { op: 'MR.FINALIZE' }>, gpa: bigint, page: Uint8Array): Outcome {
  switch (op.op) {
    case 'PAGE.ADD':
      return repeat(op.pages ?? 1, (index) => pageAdd(td, gpa + BigInt(index * PAGE_BYTES), page))
    case 'MR.EXTEND':
      return repeat(op.chunks ?? 1, (index) => mrExtend(td, gpa + BigInt(index * CHUNK_BYTES)))
    case 'PAGE.REMOVE':
      return repeat(1, () => pageRemove(td, gpa))
  }
}

type Outcome = { readonly done: number; readonly status: Status }

/** Makes calls until one is refused; the status is that of the last one made. */
function repeat(count: number, call: (index: number) => Status): Outcome {
  let status = call(0)
  let done = isSuccess(status) ? 1 : 0
  while (done > 0 && done < count) {
    status = call(done)
    if (!isSuccess(status)) break
    done++
  }
  return { done, status }
}

const stepOf = (td: OpTd, op: Op['op'], { done, status }: Outcome, gpa?: bigint): OpStep => ({
  op,
  ...(gpa !== undefined && { gpa: toHex(gpa) }),
  done,
  status,
  digestAfter: mrtdNow(td),
})
