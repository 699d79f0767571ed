import { test } from 'node:test'
import { type Ask, assertSurvivesKills, type Guest, type Story } from '../../../support/restart-stories.ts'
import { tdvfImage } from '../measurement/tdvf-image.ts'

// reliability.md G8 for TDX: TDs in every state there is live through kill -9, and go on as those would that were never
// killed. The same requests go to a service that is killed between any two of them and to one that is not.

const GPA = '0x40000000'
const PAGE = 4096
const at = (page: number): string => `0x${(0x40000000 + page * PAGE).toString(16)}`

const call =
  (name: string, args: object = {}) =>
  (ask: Ask, { vm }: Guest) =>
    ask('POST', `/v1/vms/${vm}/calls`, { call: name, ...args })
const access =
  (kind: string, page: number, more: object = {}) =>
  (ask: Ask, { vm }: Guest) =>
    ask('POST', `/v1/vms/${vm}/vcpus/0/accesses`, {
      gpa: at(page),
      kind,
      private: true,
      ...(kind === 'write' ? { data: 'c2VjcmV0' } : { length: 6 }),
      ...more,
    })
const accept =
  (page: number, pages: number) =>
  (ask: Ask, { vm }: Guest) =>
    ask('POST', `/v1/vms/${vm}/page-states`, {
      accept: true,
      entries: [{ gpa: at(page), pages, operation: 'private' }],
    })
const update =
  (page: number, measure: boolean) =>
  (ask: Ask, { vm }: Guest) =>
    ask('POST', `/v1/vms/${vm}/launch/update`, {
      gpa: at(page),
      data: Buffer.alloc(PAGE, page + 1).toString('base64'),
      measure,
    })
const finish = (ask: Ask, { vm }: Guest) => ask('POST', `/v1/vms/${vm}/launch/finish`, {})
const fallocate =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Guest) =>
    ask('POST', `/v1/memfiles/${memfile}/fallocate`, { offset: page * PAGE, length: pages * PAGE })
const punch =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Guest) =>
    ask('POST', `/v1/memfiles/${memfile}/punch-hole`, { offset: page * PAGE, length: pages * PAGE })
const hostWrite =
  (page: number) =>
  async (ask: Ask, { vm }: Guest) => {
    const { hpa } = await ask('GET', `/v1/vms/${vm}/pages/${at(page)}`)
    return ask('POST', `/v1/vms/${vm}/host-accesses`, { as: 'kernel', hpa, kind: 'write', data: 'AA==' })
  }
const resume =
  (ret: number) =>
  async (ask: Ask, { vm }: Guest) => {
    const { items } = await ask('GET', `/v1/vms/${vm}/exits`)
    return ask('POST', `/v1/vms/${vm}/exits/${items[0]?.id ?? 'exit-0'}/resume`, { ret })
  }
const attest = (ask: Ask, { vm }: Guest) => ask('GET', `/v1/vms/${vm}/attestation?nonce=01`)
const describeTd = (ask: Ask, { vm }: Guest) => ask('GET', `/v1/vms/${vm}/pages/${GPA}`)

const VE = { attributes: '0x0' }

/** What happens to each TD; the service may die before any of it. */
const STORIES: Readonly<Record<string, { readonly options?: object; readonly story: Story }>> = {
  'launching, with a running MRTD': {
    story: [
      update(0, true),
      update(1, false),
      update(2, true),
      call('TDH.MR.EXTEND', { gpa: at(1) }),
      finish,
      access('read', 2),
      attest,
    ],
  },
  'an image, finished later': {
    story: [
      (ask, { vm }) => ask('POST', `/v1/vms/${vm}/launch/image?finish=false&order=two-pass-image`, tdvfImage()),
      update(5, true),
      finish,
      attest,
    ],
  },
  'running, with accepted, pending and removed pages': {
    options: { config: VE },
    story: [
      finish,
      fallocate(0, 6),
      accept(0, 2),
      access('write', 1),
      access('read', 4),
      access('read', 4),
      punch(1, 1),
      access('read', 1),
      call('TDG.VP.VEINFO.GET'),
      accept(1, 1),
      access('read', 1),
      attest,
    ],
  },
  'blocked, tracked and inside by raw calls': {
    options: { vcpus: 2, config: VE },
    story: [
      finish,
      accept(0, 4),
      call('TDH.VP.ENTER'),
      call('TDH.MEM.RANGE.BLOCK', { gpa: at(0) }),
      call('TDH.MEM.TRACK'),
      call('TDH.MEM.TRACK'),
      call('TDH.MEM.PAGE.REMOVE', { gpa: at(0) }),
      call('INTERRUPT'),
      call('TDH.MEM.RANGE.BLOCK', { gpa: GPA, level: 1 }),
      access('read', 1),
      call('TDH.MEM.TRACK'),
      call('TDH.MEM.RANGE.UNBLOCK', { gpa: GPA, level: 1 }),
      access('read', 1),
      describeTd,
    ],
  },
  'poisoned, then fatal': {
    story: [
      finish,
      accept(0, 2),
      access('write', 0),
      hostWrite(0),
      access('write', 1),
      access('read', 0),
      access('read', 1),
      call('TDH.VP.ENTER'),
      call('TDH.MEM.TRACK'),
      punch(0, 1),
    ],
  },
  'given up by KVM': {
    story: [finish, fallocate(0, 1), access('read', 0), access('read', 0), describeTd],
  },
  'an exit that waits, chunk after chunk': {
    options: { conversion: 'manual', privacy: 'attributes' },
    story: [
      finish,
      call('TDG.VP.VMCALL', { r11: '0x10001', r12: GPA, r13: '0x202000' }),
      (ask, { vm }) => ask('PUT', `/v1/vms/${vm}/attributes`, { gpa: GPA, length: 64 * PAGE, attributes: ['private'] }),
      resume(0),
      resume(-11),
      accept(0, 4),
      resume(0),
      access('read', 3),
    ],
  },
  'half torn down': {
    story: [
      finish,
      accept(0, 2),
      call('TDH.VP.FLUSH'),
      call('TDH.MNG.VPFLUSHDONE'),
      call('TDH.PHYMEM.CACHE.WB'),
      access('read', 0),
      call('TDH.MNG.KEY.FREEID'),
      call('TDH.PHYMEM.CACHE.WB', { package: 1 }),
      call('TDH.MNG.KEY.FREEID'),
      describeTd,
    ],
  },
}

test('TDs in every state go on after kill -9 as if nothing had been', { timeout: 90_000 }, (t) =>
  assertSurvivesKills(t, { technology: 'tdx', gpa: GPA, stories: STORIES }),
)
