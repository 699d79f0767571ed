import { test } from 'node:test'
import { type Ask, assertSurvivesKills, type Guest, type Story } from '../../../support/restart-stories.ts'

// reliability.md G8 for CCA: Realms in every state live through kill -9, and go on as those would that were never
// killed. The same requests go to a service that is killed between any two of them and to one that is not.

const GPA = 0x80000000
const PAGE = 4096
const at = (page: number): string => `0x${(GPA + page * PAGE).toString(16)}`

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
const convert =
  (page: number, pages: number, operation: 'private' | 'shared') =>
  (ask: Ask, { vm }: Guest) =>
    ask('POST', `/v1/vms/${vm}/page-states`, { entries: [{ gpa: at(page), pages, operation }] })
const stateSet = (page: number, pages: number, ripas: 'EMPTY' | 'RAM', flags: 0 | 1) =>
  call('RSI_IPA_STATE_SET', { base: at(page), top: at(page + pages), ripas, flags })
const update =
  (page: number, measure: boolean) =>
  (ask: Ask, { vm }: Guest) =>
    ask('POST', `/v1/vms/${vm}/launch/update`, {
      gpa: at(page),
      data: Buffer.alloc(PAGE, page + 1).toString('base64'),
      measure,
    })
const finish = (ask: Ask, { vm }: Guest) =>
  ask('POST', `/v1/vms/${vm}/launch/finish`, { ripas: [{ gpa: at(8), length: '0x30000' }], entry: at(0) })
const fallocate =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Guest) =>
    ask('POST', `/v1/memfiles/${memfile}/fallocate`, { offset: page * PAGE, length: pages * PAGE })
const punch =
  (page: number, pages: number) =>
  (ask: Ask, { memfile }: Guest) =>
    ask('POST', `/v1/memfiles/${memfile}/punch-hole`, { offset: page * PAGE, length: pages * PAGE })
const resume =
  (ret: number) =>
  async (ask: Ask, { vm }: Guest) => {
    const { items } = await ask('GET', `/v1/vms/${vm}/exits`)
    return ask('POST', `/v1/vms/${vm}/exits/${items[0]?.id ?? 'exit-0'}/resume`, { ret })
  }
const attest = (ask: Ask, { vm }: Guest) => ask('GET', `/v1/vms/${vm}/attestation?nonce=01`)
const explain =
  (page: number) =>
  (ask: Ask, { vm }: Guest) =>
    ask('GET', `/v1/vms/${vm}/pages/${at(page)}`)

/** What happens to each Realm; the service may die before any of it. */
const STORIES: Readonly<Record<string, { readonly options?: object; readonly story: Story }>> = {
  'NEW, with a RIM that grows': {
    options: { config: { hash: 'sha-512', rpv: '0102' }, vcpus: 2 },
    story: [update(0, true), update(1, false), update(2, true), explain(1), finish, access('read', 2), attest],
  },
  'an image, finished later': {
    options: { config: { s2sz: 33 } },
    story: [
      (ask, { vm }) =>
        ask('POST', `/v1/vms/${vm}/launch/image?finish=false&vmm=kvm-v12&ramSize=0x400000`, Buffer.alloc(9000, 7)),
      update(5, true),
      (ask, { vm }) => ask('POST', `/v1/vms/${vm}/launch/finish`, {}),
      access('read', 1),
      attest,
    ],
  },
  'pages that are RAM, EMPTY and DESTROYED': {
    story: [
      finish,
      access('write', 8),
      fallocate(8, 8),
      convert(10, 2, 'shared'),
      punch(9, 1),
      access('read', 9),
      access('read', 10),
      stateSet(8, 4, 'RAM', 0),
      stateSet(8, 4, 'RAM', 1),
      access('read', 9),
      access('read', 8),
    ],
  },
  'a request of the guest’s that waits, and its flag': {
    options: { conversion: 'manual', privacy: 'attributes' },
    story: [
      finish,
      (ask, { vm }) =>
        ask('PUT', `/v1/vms/${vm}/attributes`, { gpa: at(8), length: 8 * PAGE, attributes: ['private'] }),
      access('write', 9),
      punch(9, 1),
      stateSet(8, 4, 'RAM', 0),
      resume(0),
      stateSet(9, 3, 'RAM', 1),
      resume(-14),
      stateSet(9, 3, 'RAM', 1),
      resume(0),
      access('read', 9),
    ],
  },
  'measured by the guest, and a token half read': {
    story: [
      finish,
      fallocate(8, 2),
      call('RSI_MEASUREMENT_EXTEND', { index: 1, size: 32, value: '07'.repeat(64) }),
      call('RSI_ATTESTATION_TOKEN_INIT', { challenge: '01'.repeat(64) }),
      call('RSI_ATTESTATION_TOKEN_CONTINUE', { ipa: at(8), offset: 0, size: 1000 }),
      call('RSI_ATTESTATION_TOKEN_CONTINUE', { ipa: at(8), offset: 1000, size: 1000 }),
      call('RSI_ATTESTATION_TOKEN_CONTINUE', { ipa: at(8), offset: 2000, size: 1000 }),
      access('read', 8, { length: 2100 }),
    ],
  },
  'inside, then off': {
    options: { vcpus: 2 },
    story: [
      finish,
      call('RMI_REC_ENTER'),
      call('RSI_IPA_STATE_GET', { start: at(8), end: at(16) }),
      call('RMI_RTT_READ_ENTRY', { ipa: at(8), level: 3 }),
      call('PSCI_SYSTEM_OFF'),
      access('read', 8),
      punch(0, 1),
    ],
  },
}

test('Realms in every state go on after kill -9 as if nothing had been', { timeout: 90_000 }, (t) =>
  assertSurvivesKills(t, { technology: 'cca', gpa: at(0), stories: STORIES }),
)
