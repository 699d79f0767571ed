import type { Verdict } from '../../contract.ts'
import type { HexOrInteger } from '../../shared/hex.ts'
import { type Refused, refuse } from '../../shared/refusal.ts'
import { type Contents, contentsOf } from './contents.ts'
import { PAGE_BYTES } from './digest.ts'
import { entryRuns } from './entries.ts'
import { type Image, type Launch, type LaunchStep, planLaunch } from './launch-plan.ts'
import { MAX_MEASURED_PAGES } from './measure-schema.ts'
import { frameOf, type RealmInputs, type RealmShape, realmShape } from './realm-inputs.ts'
import { type Measured, resultOf } from './result.ts'
import { addData, addNoop, addRec, addRipas, beginTranscript, type Transcript } from './transcript.ts'
import { type Machine, VMMS, type Vmm } from './vmms.ts'

type Region = { readonly ipa: HexOrInteger; readonly content: Contents }
export type LaunchInputs = {
  readonly vmm: Vmm
  readonly ramBase?: HexOrInteger
  readonly ramSize: number
  readonly images: readonly (Region & { readonly measured?: boolean })[]
  readonly dtb?: { readonly ipa?: HexOrInteger; readonly content: Contents }
  readonly log?: Region
  readonly entry: HexOrInteger
  readonly gprs?: readonly HexOrInteger[]
  readonly vcpus?: number
  readonly realm?: Partial<RealmInputs>
}

/** What QEMU and kvmtool ask for on the models that the public measurements come from. */
const PARAMS = { flags: 0, sve_vl: 0, num_bps: 5, num_wps: 5, pmu_num_ctrs: 0 } as const
const REGISTERS = 8

/**
 * A VMM's whole launch (arm-cca.md 9): what isn't given is as that VMM does it. The steps are the operations performed;
 * the device tree is measured as it is given, and a VMM edits the one it is given.
 */
export function measureLaunch(inputs: LaunchInputs): Verdict<Measured & { readonly vmm: Vmm }> {
  const machine: Machine = VMMS[inputs.vmm]
  const ram = ramOf(inputs, machine)
  if (!ram.ok) return ram
  const shaped = shapeOf(inputs, machine, ram)
  if (!shaped.ok) return shaped
  const { shape } = shaped
  const regions = regionsOf(inputs, machine)
  if (!regions.ok) return regions
  const { images, dtb, log } = regions
  const plan = planLaunch(machine.order, {
    ram,
    images: dtb === undefined ? images : [...images, dtb],
    log,
    boot: bootOf(inputs, machine, dtb?.gfn),
    vcpus: inputs.vcpus ?? 1,
    protectedPages: shape.protectedPages,
  })
  if (!plan.ok) return plan
  const transcript = beginTranscript(shape.params)
  for (const step of plan.steps) perform(transcript, step, shape.rootLevel)
  return { ok: true, value: { vmm: inputs.vmm, ...resultOf(transcript) } }
}

type Ram = { readonly ok: true; readonly gfn: number; readonly pages: number }

function ramOf({ ramBase, ramSize }: LaunchInputs, { ramGfn }: Machine): Ram | Refused {
  const base = ramBase === undefined ? { ok: true as const, gfn: ramGfn } : frameOf(ramBase, '/ramBase')
  if (!base.ok) return base
  if (ramSize % PAGE_BYTES !== 0) return refuse('ram-size', 'RAM is whole pages of 4096 bytes.', '/ramSize')
  return { ok: true, gfn: base.gfn, pages: ramSize / PAGE_BYTES }
}

function shapeOf(
  { realm }: LaunchInputs,
  { s2sz, hashAlgo }: Machine,
  { gfn, pages }: Ram,
): { readonly ok: true; readonly shape: RealmShape } | Refused {
  const last = (BigInt(gfn) + BigInt(pages)) * BigInt(PAGE_BYTES) - 1n
  const shaped = realmShape({ ...PARAMS, s2sz: s2sz(last.toString(2).length), hash_algo: hashAlgo, ...realm })
  if (shaped.ok) return shaped
  const { refusal } = shaped
  return { ok: false, refusal: { ...refusal, pointer: `/realm${refusal.pointer ?? ''}` } }
}

type Regions = {
  readonly ok: true
  readonly images: readonly Image[]
  readonly dtb: Image | undefined
  readonly log: Image | undefined
}

function regionsOf(inputs: LaunchInputs, { dtbGfn, dtbPages }: Machine): Regions | Refused {
  const budget = { pages: MAX_MEASURED_PAGES }
  const images: Image[] = []
  for (const [index, { measured = true, ...region }] of inputs.images.entries()) {
    const image = regionOf(region, measured, `/images/${index}`, budget)
    if (!image.ok) return image
    images.push(image.image)
  }
  const { dtb: { ipa = dtbGfn * PAGE_BYTES, content } = {} } = inputs
  const dtb = content === undefined ? NONE : regionOf({ ipa, content }, true, '/dtb', budget, dtbPages)
  if (!dtb.ok) return dtb
  const log = inputs.log === undefined ? NONE : regionOf(inputs.log, false, '/log', budget)
  if (!log.ok) return log
  return { ok: true, images, dtb: dtb.image, log: log.image }
}

const NONE = { ok: true, image: undefined } as const

function regionOf(
  { ipa, content }: Region,
  measured: boolean,
  pointer: string,
  budget: { pages: number },
  leastPages = 1,
): { readonly ok: true; readonly image: Image } | Refused {
  const place = frameOf(ipa, `${pointer}/ipa`)
  if (!place.ok) return place
  const bytes = contentsOf(content, budget.pages)
  const pages = Math.max(leastPages, (bytes?.length ?? 0) / PAGE_BYTES)
  if (bytes === undefined || pages > budget.pages)
    return refuse(
      'content',
      `It is no zlib stream, or more than the ${budget.pages} pages left to measure.`,
      `${pointer}/content`,
    )
  budget.pages -= pages
  return { ok: true, image: { gfn: place.gfn, pages, bytes, measured, pointer } }
}

/** x0 is the device tree's address, unless a firmware is entered that looks for it itself. */
function bootOf({ entry, gprs }: LaunchInputs, { firmwareEntry }: Machine, dtbGfn = 0): Launch['boot'] {
  const pc = BigInt(entry)
  const x0 = pc === firmwareEntry ? 0n : BigInt(dtbGfn * PAGE_BYTES)
  return { pc, gprs: gprs?.map(BigInt) ?? [x0, ...Array.from({ length: REGISTERS - 1 }, () => 0n)] }
}

function perform(transcript: Transcript, step: LaunchStep, rootLevel: number): void {
  switch (step.op) {
    case 'init-ripas':
      for (const run of entryRuns(step.gfn, step.pages, rootLevel)) addRipas(transcript, run)
      return
    case 'populate':
      addData(transcript, step.gfn, step.pages, step.measured ? padded(step) : undefined, step.pointer)
      return
    case 'rec':
      addRec(transcript, step)
      return
    case 'activate':
      addNoop(transcript, 'RMI_REALM_ACTIVATE')
  }
}

function padded({ bytes, pages }: Image): Uint8Array {
  if (bytes.length === pages * PAGE_BYTES) return bytes
  const whole = new Uint8Array(pages * PAGE_BYTES)
  whole.set(bytes)
  return whole
}
