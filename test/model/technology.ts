import type { HostCommand } from '../../src/domain/apply.ts'
import type { Backend } from '../../src/hw/contract.ts'
import { backend as sevSnp } from '../../src/hw/sev-snp/index.ts'
import { backend as swProtected } from '../../src/hw/sw-protected/index.ts'
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
