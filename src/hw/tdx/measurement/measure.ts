import type { HwRefusal, Measurer, Verdict } from '../../contract.ts'
import { type HexOrInteger, hexOf } from '../../shared/hex.ts'
import { refuse } from '../../shared/refusal.ts'
import { CHUNK_BYTES, PAGE_BYTES } from './blocks.ts'
import { type ImageInputs, measureImage } from './measure-image.ts'
import { measureOps, type OpsInputs } from './measure-ops.ts'
import { TdxInputs } from './measure-schema.ts'
import { blockHex } from './mrtd-stream.ts'
import { replayRtmr } from './rtmr.ts'

type RtmrInputs = { readonly digests: readonly string[]; readonly start?: string }
type BlockInputs = { readonly op: 'MEM.PAGE.ADD' | 'MR.EXTEND'; readonly gpa: HexOrInteger }
type MeasureInputs = ImageInputs | OpsInputs | RtmrInputs | BlockInputs

const ADDRESS_LIMIT = 1n << 52n

/** What TDX would measure: an image's MRTD, that of single calls, one call's block, or an event log's RTMR (e, f). */
export const measurer: Measurer = {
  technology: 'tdx',
  schema: TdxInputs,
  measure(inputs) {
    const measured = measureOne(inputs as MeasureInputs)
    return measured.ok ? measured : { ok: false, refusal: inInputs(measured.refusal) }
  },
}

const inInputs = (refusal: HwRefusal): HwRefusal => ({ ...refusal, pointer: `/inputs${refusal.pointer ?? ''}` })

function measureOne(inputs: MeasureInputs): Verdict<Readonly<Record<string, unknown>>> {
  if ('ops' in inputs) return measureOps(inputs)
  if ('digests' in inputs) return { ok: true, value: measureRtmr(inputs) }
  if ('op' in inputs) return measureBlock(inputs)
  return measureImage(inputs)
}

/** Each step is SHA-384(the register before ‖ the digest) (intel-tdx.md e.2). */
function measureRtmr({ digests, start }: RtmrInputs): Readonly<Record<string, unknown>> {
  const first = Buffer.from(start ?? '00'.repeat(48), 'hex')
  const values = replayRtmr(
    digests.map((digest) => Buffer.from(digest, 'hex')),
    first,
  ).map(hexOf)
  return {
    rtmr: values.at(-1) ?? hexOf(first),
    steps: values.map((rtmrAfter, index) => ({ digest: digests[index], rtmrAfter })),
  }
}

function measureBlock({ op, gpa }: BlockInputs): Verdict<Readonly<Record<string, unknown>>> {
  const address = BigInt(gpa)
  if (address % BigInt(op === 'MR.EXTEND' ? CHUNK_BYTES : PAGE_BYTES) !== 0n || address >= ADDRESS_LIMIT)
    return refuse('gpa', `${op} takes an aligned address below 2^52.`, '/gpa')
  const offset = Number(address % BigInt(PAGE_BYTES))
  return { ok: true, value: { hex: blockHex(op, Number(address / BigInt(PAGE_BYTES)), offset) } }
}
