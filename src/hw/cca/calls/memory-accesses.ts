import { Buffer } from 'node:buffer'
import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import type { Host } from '../data.ts'
import { access } from '../rmm/access.ts'
import { type Answer, done, INPUT } from '../rmm/answer.ts'
import { PAGE_BITS, PAGE_SIZE } from '../rmm/geometry.ts'
import { isHostMemory } from '../rmm/granules.ts'
import { runGuest } from '../rmm/guest.ts'
import { readPage } from '../rmm/guest-memory.ts'
import { realmAt } from '../rmm/operands.ts'
import { rimText } from '../rmm/rsi.ts'
import { GPF, OK, SMC_NOT_SUPPORTED } from '../status.ts'
import {
  addressArgument,
  addressValue,
  type CcaHardware,
  closed,
  defineHostCall,
  guestRecArgument,
  ipaArgument,
  rdArgument,
  rdWord,
  recWord,
  type Word,
} from './call-definition.ts'
import { outcomeResult } from './outcome.ts'

/** Accesses as text at the start of a page, and the RIM: what traces of an RMM are written in, beside its calls. */

const text = (description: string) =>
  Type.String({ maxLength: PAGE_SIZE, pattern: '^[\\x20-\\x7e]*$', description: `${description}; the rest is zero.` })

/** The text that a page begins with. */
function readText(host: Host, frame: number): string {
  const page = readPage(host, frame)
  const end = page.indexOf(0)
  return page.toString('latin1', 0, end < 0 ? PAGE_SIZE : end)
}

function writeText({ machine }: Host, frame: number, data: string): void {
  const page = new Uint8Array(PAGE_SIZE)
  page.set(Buffer.from(data, 'latin1'))
  machine.write(frame, data === '' ? undefined : page)
}

const frameOf = (address: bigint): number => Number(address >> BigInt(PAGE_BITS))
const REFUSED: Answer = { status: GPF, outputs: { outcome: 'GPF' } }

const HOST_READ = defineHostCall({
  name: 'host read',
  summary: 'The host reads the text at the start of a page. No RMI call.',
  schema: Type.Object({ addr: addressArgument('the page') }, closed),
  example: { addr: '0x8010000' },
  run(host, { addr }) {
    const frame = frameOf(addressValue(addr))
    if (!isHostMemory(host.data.granules, frame)) return REFUSED
    return { status: OK, outputs: { outcome: 'ok', data: readText(host, frame) } }
  },
})

const HOST_WRITE = defineHostCall({
  name: 'host write',
  summary: 'The host fills a page with text and zeros. No RMI call.',
  schema: Type.Object({ addr: addressArgument('the page'), data: text('What it writes') }, closed),
  example: { addr: '0x8010000', data: 'page' },
  run(host, { addr, data }) {
    const frame = frameOf(addressValue(addr))
    if (!isHostMemory(host.data.granules, frame)) return REFUSED
    writeText(host, frame, data)
    return { status: OK, outputs: { outcome: 'ok' } }
  },
})

const RIM = defineHostCall({
  name: 'RIM',
  summary: "A Realm's initial measurement as it stands. No RMI call.",
  schema: Type.Object({ rd: rdArgument }, closed),
  example: {},
  run(host, { rd }, guest) {
    const realm = realmAt(host.data, rdWord(host, guest, rd))
    return realm === undefined ? INPUT : done({ rim: rimText(realm) })
  },
})

const ACCESS_SCHEMA = Type.Object(
  {
    rec: guestRecArgument,
    ipa: ipaArgument,
    kind: Type.Enum(['read', 'write', 'execute']),
    data: Type.Optional(text('What a write leaves in the page')),
    isv: Type.Optional(
      Type.Boolean({ default: true, description: 'One register, so that the host could emulate it.' }),
    ),
  },
  closed,
)
type AccessArguments = {
  readonly rec?: Word
  readonly ipa: Word
  readonly kind: 'read' | 'write' | 'execute'
  readonly data?: string
  readonly isv?: boolean
}

const REGISTER_BYTES = 8

/** What a store of text has in its register. */
const registerOf = (data: string): bigint => Buffer.from(data.padEnd(REGISTER_BYTES, '\0'), 'latin1').readBigUInt64LE(0)

/** A 64-bit access by a REC, never retried: the exit, where it comes to one, is the answer. */
const GUEST_ACCESS: Call = {
  name: 'guest access',
  by: 'guest',
  summary: 'A load, store or fetch by a REC: what it sees, or the fault or exit. No RSI call.',
  schema: ACCESS_SCHEMA,
  example: { ipa: '0x40000000', kind: 'read' },
  run(hardware, args, guest) {
    if (guest.by !== 'guest') return { kind: 'done', status: SMC_NOT_SUPPORTED }
    const { host } = hardware as CcaHardware
    const { rec, ipa, kind, data = '', isv = true } = args as AccessArguments
    const made = runGuest(host, recWord(host, guest, rec), (inside, realm) =>
      access(inside, realm, { ipa: addressValue(ipa), kind, value: registerOf(data), isv }),
    )
    const result = outcomeResult(made)
    if (made.outcome.kind !== 'ok' || result.kind !== 'done') return result
    if (kind === 'write') {
      writeText(host, made.outcome.frame, data)
      return result
    }
    return { ...result, outputs: { ...result.outputs, data: readText(host, made.outcome.frame) } }
  },
}

export const ACCESS_CALLS: readonly Call[] = [HOST_READ, HOST_WRITE, RIM, GUEST_ACCESS]
