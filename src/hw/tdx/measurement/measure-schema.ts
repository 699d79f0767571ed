import { Type } from 'typebox'
import { closed, FileInput, HexOrInteger } from '../../shared/input-schema.ts'
import { EXTENDS, ORDERS, VMMS, type Vmm } from './vmms.ts'

const MAX_TEXT = 8192
const MAX_PATCHES = 4096
export const MAX_IMAGE_BYTES = 64 * 1024 * 1024
export const MAX_OPS = 4096
export const MAX_DIGESTS = 16384
/** Pages added in one measurement. */
export const MAX_OP_PAGES = 65536
/** Chunks in one measurement: those of 32 MiB. */
export const MAX_OP_CHUNKS = 131072
/** Pages given by a seed, each 128 hashes of its own. */
export const MAX_SEEDS = 512

/** Not a union of constants: those would hide a wrong value in one form of the inputs behind another form. */
const names = <T extends string | number>(values: readonly T[]) => Type.Enum([...values])
const digest = Type.String({ pattern: '^[0-9a-fA-F]{96}$', minLength: 96, maxLength: 96 })
const hexText = Type.String({ pattern: '^(?:[0-9a-fA-F]{2})*$', maxLength: MAX_TEXT })
const optional = Type.Optional

/** What one page holds; the rest of it is zero. A seed stands for SHA-256(text ‖ u32le n) for n = 0…127. */
const PageContent = Type.Union([
  closed({ fill: Type.Integer({ minimum: 0, maximum: 255 }) }),
  closed({ counter: Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }) }),
  closed({ seed: Type.String({ maxLength: MAX_TEXT }) }),
  closed({ hex: hexText }),
  ...FileInput.anyOf,
])

const Op = Type.Union([
  closed({
    op: names(['PAGE.ADD']),
    gpa: HexOrInteger,
    pages: optional(Type.Integer({ minimum: 1, maximum: MAX_OP_PAGES })),
    content: optional(PageContent),
  }),
  closed({
    op: names(['MR.EXTEND']),
    gpa: HexOrInteger,
    chunks: optional(Type.Integer({ minimum: 1, maximum: MAX_OP_CHUNKS })),
  }),
  closed({ op: names(['PAGE.REMOVE']), gpa: HexOrInteger }),
  closed({ op: names(['MR.FINALIZE']) }),
])

const Ops = closed({
  gpaw: names([48, 52]),
  ops: Type.Array(Op, { maxItems: MAX_OPS }),
})

const launch = {
  order: optional(names(ORDERS)),
  extend: optional(names(EXTENDS)),
  vmm: optional(names(Object.keys(VMMS) as Vmm[])),
  tdHob: optional(FileInput),
}
const Image = closed({ image: FileInput, ...launch })
/** `patches` are `[offset, "hex" or "base64", data]` over `imageSize` zero bytes. */
const SparseImage = closed({
  imageSize: Type.Integer({ minimum: 0, maximum: MAX_IMAGE_BYTES }),
  patches: Type.Array(
    Type.Array(Type.Union([Type.Integer({ minimum: 0, maximum: MAX_IMAGE_BYTES }), Type.String()]), {
      minItems: 3,
      maxItems: 3,
    }),
    { maxItems: MAX_PATCHES },
  ),
  ...launch,
})
const Rtmr = closed({ digests: Type.Array(digest, { maxItems: MAX_DIGESTS }), start: optional(digest) })
const Block = closed({ op: names(['MEM.PAGE.ADD', 'MR.EXTEND']), gpa: HexOrInteger })

/** `inputs` of `POST /v1/measurements` for TDX. */
export const TdxInputs = Type.Union([Image, SparseImage, Ops, Rtmr, Block])
