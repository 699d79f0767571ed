import type { HostCommand } from '../../src/domain/apply.ts'
import type { Host } from '../../src/domain/host.ts'
import type { CcaHardware } from '../../src/hw/cca/calls/call-definition.ts'
import { backend as ccaBackend } from '../../src/hw/cca/index.ts'
import { GRANULE, granuleState } from '../../src/hw/cca/rmm/granules.ts'
import type { Backend } from '../../src/hw/contract.ts'
import { backend as sevSnp } from '../../src/hw/sev-snp/index.ts'
import * as pageMap from '../../src/hw/shared/page-map.ts'
import { backend as swProtected } from '../../src/hw/sw-protected/index.ts'
import type { TdxHardware } from '../../src/hw/tdx/calls/call-definition.ts'
import { backend as tdxBackend } from '../../src/hw/tdx/index.ts'
import { PAGE_TYPE, typeOf } from '../../src/hw/tdx/module/pamt.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'
import { hex } from '../support/domain.ts'

/** What a technology adds to KVM's rules, page by page: all that the naive model asks of it. */
export interface Technology {
  readonly name: string
  /** A new one for each host, so that no state is shared. */
  backend(): Backend
  /** The least memory of a host, in pages. */
  readonly leastPages: number
  /** What makes a new VM run: the end of its launch, where it has one. */
  launch(vm: string): readonly HostCommand[]
  /** The kind of an access that asks for `asked` of a page whose recorded kind is `recorded`. */
  accessIsPrivate(asked: boolean | null, recorded: boolean): boolean
  /** Who may use a private page that is populated. */
  readonly privateOwner: string
  /** A private table of the hardware's own, whose pages the guest accepts; undefined where there is none. */
  readonly sept?: SeptRules
}

export type SeptRules = {
  /** The guest accepts its pages (TDX), or asks for what they are to be and the hardware remembers (CCA). */
  readonly guest: 'accepts' | 'asks'
  /** What of a launch has to come before {@link Technology.launch} for the tables of the pages that are played with. */
  readonly launchesPages: boolean
  /** Pages that a launch takes and keeps beyond those of the creation, and those that it needs for a while. */
  launchPages(vcpus: number): { readonly kept: number; readonly passing: number }
  /** The state of a page in the words of the naive model. */
  stateOf(hardware: Readonly<Record<string, unknown>>): unknown
  /** Host memory of each host, in pages, beside which a VM's own pages leave too little. */
  readonly frames: readonly [number, number]
  /** Pages that a new VM takes for itself. */
  controlPages(vcpus: number): number
  /** One in four VMs dies of touching a page it has not accepted; the others get #VE. */
  config(die: number): Readonly<Record<string, unknown>>
  exitsOnPending(config: Readonly<Record<string, unknown>>): boolean
  /** Host frames that are the hardware's, and the VMs' own pages. */
  ownFrames(host: Host): number[]
  /** Private pages that the hardware's table of owners knows. */
  privatePages(host: Host): number
}

export const software: Technology = {
  name: 'sw-protected',
  backend: () => swProtected,
  accessIsPrivate: (_asked, recorded) => recorded,
  privateOwner: 'guest',
  leastPages: 1,
  launch: () => [],
}

/** As TDX and SNP: the access says its kind, and one of the other kind exits for conversion. */
export const accessKind: Technology = {
  name: 'access-kind',
  backend: () => accessKindBackend().backend,
  accessIsPrivate: (asked, recorded) => asked ?? recorded,
  privateOwner: 'guest',
  leastPages: 1,
  launch: () => [],
}

/** For what needs no model: replays and refusals. */
export const snp: Technology = {
  name: 'sev-snp',
  backend: () => sevSnp,
  accessIsPrivate: (asked, recorded) => asked ?? recorded,
  privateOwner: 'guest',
  leastPages: 4096,
  launch: (vm) => [{ type: 'launch.finish', vm, options: {} }],
}

const tdxData = (host: Host) => (host.hardware as TdxHardware).host.data

/** intel-tdx.md d: a Secure EPT beside KVM's table, and pages that are pending until the guest has accepted them. */
export const tdx: Technology = {
  name: 'tdx',
  backend: () => tdxBackend,
  accessIsPrivate: (asked, recorded) => asked ?? recorded,
  privateOwner: 'guest',
  leastPages: 4096,
  launch: (vm) => [{ type: 'launch.finish', vm, options: {} }],
  sept: {
    guest: 'accepts',
    launchesPages: true,
    launchPages: () => ({ kept: 4, passing: 2 }),
    stateOf: ({ sept }) => sept,
    frames: [150, 120],
    controlPages: (vcpus) => 7 + 6 * vcpus,
    config: (die) => (die % 4 === 3 ? {} : { attributes: '0x0' }),
    exitsOnPending: ({ attributes }) => attributes !== '0x0',
    ownFrames(host) {
      const { pamt, vms } = tdxData(host)
      const frames = Array.from({ length: pamt.frames - pamt.ownStart }, (_, index) => pamt.ownStart + index)
      for (const { pages } of vms.values())
        for (let frame = 0; frame < pamt.frames; frame++) if (pageMap.get(pages, frame) !== 0) frames.push(frame)
      return frames
    },
    privatePages(host) {
      const { pamt } = tdxData(host)
      let count = 0
      pageMap.forEachRun(pamt.types, 0, pamt.frames, (start, end, entry) => {
        if (typeOf(entry) === PAGE_TYPE.REG) count += end - start
      })
      return count
    },
  },
}

const ccaData = (host: Host) => (host.hardware as CcaHardware).host.data
const REC_PAGES = 17
const RAM_PAGES = 96

/** arm-cca.md 4, 7: tables of the RMM's, with what the guest was promised of each page. */
export const cca: Technology = {
  name: 'cca',
  backend: () => ccaBackend,
  accessIsPrivate: (asked, recorded) => asked ?? recorded,
  privateOwner: 'guest',
  leastPages: 4096,
  // RAM around the border of 2 MiB; the rest is EMPTY.
  launch: (vm) => [
    {
      type: 'launch.finish',
      vm,
      options: { ripas: [{ gpa: hex(INITIAL_RAM.first * 4096), length: RAM_PAGES * 4096 }] },
    },
  ],
  sept: {
    guest: 'asks',
    launchesPages: false,
    // A table of level 2 and two of level 3; a REC with its auxiliary granules a vCPU.
    launchPages: (vcpus) => ({ kept: 3 + REC_PAGES * vcpus, passing: 0 }),
    stateOf: ({ hipas, ripas, granule, pas }) => `${hipas} ${ripas} ${granule} ${pas}`,
    frames: [260, 220],
    controlPages: () => 2,
    // One root table, so that a VM needs no pages in a row.
    config: () => ({ s2sz: 39 }),
    exitsOnPending: () => false,
    ownFrames(host) {
      const { granules, vms } = ccaData(host)
      const frames = Array.from({ length: granules.frames - granules.ownStart }, (_, at) => granules.ownStart + at)
      for (const { pages } of vms.values())
        for (let frame = 0; frame < granules.frames; frame++) if (pageMap.get(pages, frame) !== 0) frames.push(frame)
      return frames
    },
    privatePages(host) {
      const { granules } = ccaData(host)
      let count = 0
      for (let frame = 0; frame < granules.frames; frame++) if (granuleState(granules, frame) === GRANULE.DATA) count++
      return count
    },
  },
}

/** Pages that a Realm starts with as RAM. */
export const INITIAL_RAM = { first: 464, end: 464 + RAM_PAGES } as const
