import { Type } from 'typebox'
import { closed, FileInput, HexOrInteger } from '../../shared/input-schema.ts'
import { VMMS, type Vmm } from './vmms.ts'

const MAX_OPS = 4096
const MAX_IMAGES = 64
const MAX_VCPUS = 512
const MAX_TEXT = 8192
/** Base64 of one compressed page: deflate never makes it longer than this. */
const MAX_ZLIB = 8192
const MAX_RAM_BYTES = 2 ** 51
/** Pages that one measurement hashes: 64 MiB. */
export const MAX_MEASURED_PAGES = 16384
/** Table entries that one measurement passes: 1 GiB at 4 KiB each. */
export const MAX_RIPAS_ENTRIES = 262144
const MAX_CONTENT_BYTES = MAX_MEASURED_PAGES * 4096

const optional = Type.Optional
const integer = (minimum: number, maximum: number) => Type.Integer({ minimum, maximum })
const hexText = (bytes: number) => Type.String({ pattern: '^(?:[0-9a-fA-F]{2})*$', maxLength: bytes * 2 })
const names = <T extends string | number>(values: readonly T[]) => Type.Enum([...values])
const u8 = integer(0, 255)
const flag = integer(0, 1)
const gprs = Type.Array(HexOrInteger, { minItems: 8, maxItems: 8 })
const length = optional(integer(1, MAX_CONTENT_BYTES))

/** Bytes, padded with zeros to whole pages. `fill` and `counter` make `length` of them, one page when left out. */
const Contents = Type.Union([
  closed({ fill: u8, length }),
  closed({ counter: integer(0, Number.MAX_SAFE_INTEGER), step: optional(integer(0, Number.MAX_SAFE_INTEGER)), length }),
  closed({ utf8: Type.String({ maxLength: MAX_TEXT }) }),
  closed({ hex: hexText(MAX_TEXT) }),
  closed({ zlib_base64: Type.String({ maxLength: MAX_ZLIB, pattern: '^[A-Za-z0-9+/]*={0,2}$' }) }),
  ...FileInput.anyOf,
])

/** The measured fields of RmiRealmParams: num_bps and num_wps are the architectural numbers minus one. */
const realm = {
  flags: HexOrInteger,
  s2sz: integer(32, 52),
  sve_vl: u8,
  num_bps: integer(1, 63),
  num_wps: integer(1, 63),
  pmu_num_ctrs: u8,
  hash_algo: flag,
}
const rttLevelStart = optional(integer(-1, 2))

const Op = Type.Union([
  closed({
    op: names(['realm_create']),
    ...realm,
    rpv: optional(hexText(64)),
    vmid: optional(integer(0, 65535)),
    rtt_base: optional(HexOrInteger),
    rtt_level_start: rttLevelStart,
    rtt_num_start: optional(integer(1, 16)),
  }),
  closed({
    op: names(['ripas']),
    base: HexOrInteger,
    top: HexOrInteger,
    entry_size: names([4096, 4096 * 512, 4096 * 512 ** 2, 4096 * 512 ** 3]),
  }),
  closed({ op: names(['ripas_auto']), base: HexOrInteger, top: HexOrInteger }),
  closed({
    op: names(['data']),
    ipa: HexOrInteger,
    flags: flag,
    content: optional(Contents),
    content_hash: optional(Type.String({ pattern: '^(?:[0-9a-fA-F]{64}){1,2}$', minLength: 64, maxLength: 128 })),
  }),
  closed({ op: names(['data_blob']), ipa: HexOrInteger, flags: flag, content: Contents }),
  closed({
    op: names(['rec']),
    flags: HexOrInteger,
    pc: HexOrInteger,
    gprs,
    mpidr: optional(HexOrInteger),
    num_aux: optional(integer(0, 16)),
    aux: optional(Type.Array(HexOrInteger, { maxItems: 16 })),
  }),
  closed({ op: names(['rem_extend']), index: integer(1, 4), value: hexText(64), size: optional(integer(0, 64)) }),
  closed({
    op: names(['noop']),
    call: Type.String({ pattern: '^R[MS]I_[A-Z_]{1,40}$', maxLength: 48 }),
    ipa: optional(HexOrInteger),
    level: optional(integer(-1, 3)),
    base: optional(HexOrInteger),
    top: optional(HexOrInteger),
    ripas: optional(names(['EMPTY', 'RAM', 'DESTROYED'])),
  }),
])
const Ops = closed({ ops: Type.Array(Op, { minItems: 1, maxItems: MAX_OPS }) })

const Launch = closed({
  vmm: names(Object.keys(VMMS) as Vmm[]),
  ramBase: optional(HexOrInteger),
  ramSize: integer(4096, MAX_RAM_BYTES),
  images: Type.Array(closed({ ipa: HexOrInteger, content: Contents, measured: optional(Type.Boolean()) }), {
    maxItems: MAX_IMAGES,
  }),
  dtb: optional(closed({ ipa: optional(HexOrInteger), content: Contents })),
  log: optional(closed({ ipa: HexOrInteger, content: Contents })),
  entry: HexOrInteger,
  gprs: optional(gprs),
  vcpus: optional(integer(1, MAX_VCPUS)),
  realm: optional(Type.Partial(closed({ ...realm, rtt_level_start: integer(-1, 2) }))),
})

/** `inputs` of `POST /v1/measurements` for CCA: RMM operations one by one, or a VMM's whole launch. */
export const CcaInputs = Type.Union([Ops, Launch])
