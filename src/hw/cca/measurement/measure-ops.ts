import type { Verdict } from '../../contract.ts'
import type { HexOrInteger } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'
import { type Build, type DataBlobOp, type DataOp, data, dataBlob, initRipas, type RipasOp } from './measure-memory.ts'
import { MAX_MEASURED_PAGES, MAX_RIPAS_ENTRIES } from './measure-schema.ts'
import { type RealmInputs, realmShape } from './realm-inputs.ts'
import { type Measured, resultOf } from './result.ts'
import { addNoop, addRec, addRem, beginTranscript, type Transcript } from './transcript.ts'

export type Op =
  | ({ readonly op: 'realm_create' } & RealmInputs)
  | RipasOp
  | DataOp
  | DataBlobOp
  | {
      readonly op: 'rec'
      readonly flags: HexOrInteger
      readonly pc: HexOrInteger
      readonly gprs: readonly HexOrInteger[]
    }
  | { readonly op: 'rem_extend'; readonly index: number; readonly value: string; readonly size?: number }
  | { readonly op: 'noop'; readonly call: string }
export type OpsInputs = { readonly ops: readonly Op[] }

/**
 * Operations one by one (arm-cca.md 8), from REALM_CREATE on. Their arguments are checked, and that a Realm is NEW where it
 * must be; tables are not kept, so whether an entry is free for a page is for the caller to know.
 */
export function measureOps({ ops }: OpsInputs): Verdict<Measured & { readonly rim_after_each_op: readonly string[] }> {
  const [first, ...rest] = ops
  if (first?.op !== 'realm_create') return refuse('no-realm', 'The first op is realm_create.', '/ops/0')
  const shaped = realmShape(first)
  if (!shaped.ok) return at(0, shaped)
  const { shape } = shaped
  const transcript = beginTranscript(shape.params, '/ops/0')
  const build: Build = {
    shape,
    transcript,
    active: false,
    pagesLeft: MAX_MEASURED_PAGES,
    entriesLeft: MAX_RIPAS_ENTRIES,
  }
  const rims = [rimOf(transcript)]
  for (const [index, op] of rest.entries()) {
    const refused = perform(build, op, `/ops/${index + 1}`)
    if (refused !== undefined) return at(index + 1, refused)
    rims.push(rimOf(transcript))
  }
  return { ok: true, value: { ...resultOf(transcript), rim_after_each_op: rims } }
}

const rimOf = ({ steps }: Transcript): string => steps.at(-1)?.rimAfter ?? ''

const at = (index: number, { refusal }: Refused): Refused => ({
  ok: false,
  refusal: { ...refusal, pointer: `/ops/${index}${refusal.pointer ?? ''}` },
})

function perform(build: Build, op: Op, from: string): Refused | undefined {
  const { transcript } = build
  switch (op.op) {
    case 'realm_create':
      return refuse('realm-exists', 'One measurement is of one Realm.', '/op')
    case 'noop':
      if (op.call === 'RMI_REALM_ACTIVATE') build.active = true
      addNoop(transcript, op.call, from)
      return undefined
    case 'rem_extend':
      return remExtend(transcript, op, from)
    default:
      if (build.active)
        return refuse('realm-active', 'Only a Realm that is NEW takes this command; this one is ACTIVE.', '/op')
      return performNew(build, op, from)
  }
}

/** What only a Realm that is NEW takes (arm-cca.md 3). */
function performNew(
  build: Build,
  op: Exclude<Op, { op: 'realm_create' | 'noop' | 'rem_extend' }>,
  from: string,
): Refused | undefined {
  switch (op.op) {
    case 'ripas':
    case 'ripas_auto':
      return initRipas(build, op, from)
    case 'data':
      return data(build, op, from)
    case 'data_blob':
      return dataBlob(build, op, from)
    case 'rec':
      addRec(build.transcript, { flags: BigInt(op.flags), pc: BigInt(op.pc), gprs: op.gprs.map(BigInt) }, from)
      return undefined
  }
}

function remExtend(
  transcript: Transcript,
  { index, value, size }: Extract<Op, { op: 'rem_extend' }>,
  from: string,
): Refused | undefined {
  const bytes = Buffer.from(value, 'hex')
  if (size !== undefined && size > bytes.length)
    return refuse('rem-size', `The value has ${bytes.length} bytes.`, '/size')
  addRem(transcript, index, bytes.subarray(0, size), from)
  return undefined
}
