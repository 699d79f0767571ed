import type { HostCommand } from '../../src/domain/apply.ts'
import type { Host } from '../../src/domain/host.ts'
import type { Backend } from '../../src/hw/contract.ts'
import { backend as sevSnp } from '../../src/hw/sev-snp/index.ts'
import * as pageMap from '../../src/hw/shared/page-map.ts'
import { backend as swProtected } from '../../src/hw/sw-protected/index.ts'
import type { TdxHardware } from '../../src/hw/tdx/calls/call-definition.ts'
import { backend as tdxBackend } from '../../src/hw/tdx/index.ts'
import { PAGE_TYPE, typeOf } from '../../src/hw/tdx/module/pamt.ts'
import { accessKindBackend } from '../support/access-kind-backend.ts'

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
