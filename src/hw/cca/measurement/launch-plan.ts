import { type Refused, refuse } from '../../shared/refusal.ts'
import { REC_RUNNABLE } from './rim.ts'
import type { Order } from './vmms.ts'

/** Pages from `gfn` with `bytes` at their start and zeros after; `pointer` is its place in what the caller was given. */
export type Image = {
  readonly gfn: number
  readonly pages: number
  readonly bytes: Uint8Array
  readonly measured: boolean
  readonly pointer: string
}

/** What a Realm is launched with. `gprs` are the eight registers of the boot REC; the others are parked. */
export type Launch = {
  readonly ram: { readonly gfn: number; readonly pages: number }
  readonly images: readonly Image[]
  /** An event log, given to the Realm unmeasured once everything else is in place. */
  readonly log: Omit<Image, 'measured'> | undefined
  readonly boot: { readonly pc: bigint; readonly gprs: readonly bigint[] }
  readonly vcpus: number
  /** Pages of the protected half of the IPA space (arm-cca.md 4). */
  readonly protectedPages: number
}

/**
 * What is done to a Realm that is NEW: RTT_INIT_RIPAS over a range in which nothing is assigned yet, DATA_CREATE of an
 * image's pages in ascending order, REC_CREATE of one vCPU, REALM_ACTIVATE.
 */
export type LaunchStep =
  | { readonly op: 'init-ripas'; readonly gfn: number; readonly pages: number }
  | ({ readonly op: 'populate' } & Image)
  | {
      readonly op: 'rec'
      readonly vcpu: number
      readonly flags: bigint
      readonly pc: bigint
      readonly gprs: readonly bigint[]
    }
  | { readonly op: 'activate' }

const PARKED = { flags: 0n, pc: 0n, gprs: Array.from({ length: 8 }, () => 0n) }

/** The steps in order (arm-cca.md 9). Refuses images that share a page, and memory outside the protected half. */
export function planLaunch(
  order: Order,
  launch: Launch,
): { readonly ok: true; readonly steps: readonly LaunchStep[] } | Refused {
  const images = [...launch.images].sort((one, other) => one.gfn - other.gfn)
  const log: Image[] = launch.log === undefined ? [] : [{ ...launch.log, measured: false }]
  const populated = [...images, ...log].sort((one, other) => one.gfn - other.gfn)
  const refused = outside(launch, populated) ?? overlapping(populated)
  if (refused !== undefined) return refused
  const recs = recsOf(launch)
  const steps = stepsOf(order, launch, images, log, recs, populated)
  return { ok: true, steps: [...steps, { op: 'activate' }] }
}

function stepsOf(
  order: Order,
  { ram }: Launch,
  images: readonly Image[],
  log: readonly Image[],
  recs: readonly LaunchStep[],
  populated: readonly Image[],
): LaunchStep[] {
  switch (order) {
    case 'ripas-images-recs-log':
      return [ripas(ram.gfn, ram.pages), ...images.map(populate), ...recs, ...log.map(populate)]
    case 'recs-then-each-image':
      return [...recs, ...[...images, ...log].flatMap((image) => [ripas(image.gfn, image.pages), populate(image)])]
    case 'images-recs-ripas':
      return [...populated.map(populate), ...recs, ...gaps(ram, populated)]
  }
}

const ripas = (gfn: number, pages: number): LaunchStep => ({ op: 'init-ripas', gfn, pages })
const populate = (image: Image): LaunchStep => ({ op: 'populate', ...image })

const recsOf = ({ boot, vcpus }: Launch): LaunchStep[] =>
  Array.from({ length: vcpus }, (_, vcpu) => ({
    op: 'rec',
    vcpu,
    ...(vcpu === 0 ? { flags: REC_RUNNABLE, ...boot } : PARKED),
  }))

/** What of RAM no image covers: RTT_INIT_RIPAS stops at a page that is assigned (arm-cca.md 5). */
function gaps({ gfn, pages }: Launch['ram'], populated: readonly Image[]): LaunchStep[] {
  const end = gfn + pages
  const steps: LaunchStep[] = []
  let from = gfn
  for (const image of populated) {
    const to = Math.min(image.gfn, end)
    if (to > from) steps.push(ripas(from, to - from))
    from = Math.max(from, image.gfn + image.pages)
  }
  if (end > from) steps.push(ripas(from, end - from))
  return steps
}

function outside({ ram, protectedPages }: Launch, populated: readonly Image[]): Refused | undefined {
  const places = [{ ...ram, pointer: '/ramSize' }, ...populated]
  const beyond = places.find(({ gfn, pages }) => gfn + pages > protectedPages)
  return beyond && refuse('ipa-unprotected', 'It ends beyond the protected half of the IPA space.', beyond.pointer)
}

function overlapping(populated: readonly Image[]): Refused | undefined {
  for (const [index, image] of populated.entries()) {
    const before = populated[index - 1]
    if (before !== undefined && before.gfn + before.pages > image.gfn)
      return refuse('image-overlap', `It shares a page with ${before.pointer}.`, image.pointer)
  }
  return undefined
}
