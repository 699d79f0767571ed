import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import type { Host } from '../data.ts'
import type { Answer } from '../rmm/answer.ts'
import { dataCreate, dataCreateUnknown, dataDestroy } from '../rmm/data-commands.ts'
import { rttInitRipas, rttSetRipas } from '../rmm/ripas-commands.ts'
import { rttCreate, rttDestroy, rttFold, rttReadEntry, type TableCall } from '../rmm/rtt-commands.ts'
import { rttMapUnprotected, rttUnmapUnprotected } from '../rmm/unprotected-commands.ts'
import {
  addressArgument,
  addressValue,
  closed,
  defineHostCall,
  ipaArgument,
  levelArgument,
  levelValue,
  rdArgument,
  rdWord,
  recArgument,
  recWord,
  word,
} from './call-definition.ts'

const place = { rd: rdArgument, ipa: ipaArgument, level: levelArgument }
const data = addressArgument('the DELEGATED granule')
const range = { rd: rdArgument, base: word('First IPA.'), top: word('IPA after the last.') }

const DATA_CREATE = defineHostCall({
  name: 'RMI_DATA_CREATE',
  summary: 'Copies a host page into a NEW Realm, and measures it.',
  schema: Type.Object(
    {
      rd: rdArgument,
      data,
      ipa: ipaArgument,
      src: addressArgument('the host page'),
      flags: word('1 measures the contents, 0 the address alone.'),
    },
    closed,
  ),
  example: { rd: '0x8000000', data: '0x8003000', ipa: '0x40000000', src: '0x8010000', flags: 1 },
  run: (host, args, guest) =>
    dataCreate(host, {
      rd: rdWord(host, guest, args.rd),
      data: addressValue(args.data),
      ipa: addressValue(args.ipa),
      src: addressValue(args.src),
      flags: addressValue(args.flags),
    }),
})

const DATA_CREATE_UNKNOWN = defineHostCall({
  name: 'RMI_DATA_CREATE_UNKNOWN',
  summary: 'Gives a Realm a page without contents; RIPAS stays what it was.',
  schema: Type.Object({ rd: rdArgument, data, ipa: ipaArgument }, closed),
  example: { rd: '0x8000000', data: '0x8003000', ipa: '0x40000000' },
  run: (host, args, guest) =>
    dataCreateUnknown(host, {
      rd: rdWord(host, guest, args.rd),
      data: addressValue(args.data),
      ipa: addressValue(args.ipa),
    }),
})

const DATA_DESTROY = defineHostCall({
  name: 'RMI_DATA_DESTROY',
  summary: 'Takes a page away from a Realm. Its contents are lost, and its IPA is DESTROYED unless it was EMPTY.',
  schema: Type.Object({ rd: rdArgument, ipa: ipaArgument }, closed),
  example: { rd: '0x8000000', ipa: '0x40000000' },
  run: (host, { rd, ipa }, guest) => dataDestroy(host, rdWord(host, guest, rd), addressValue(ipa)),
})

const RTT_CREATE = defineHostCall({
  name: 'RMI_RTT_CREATE',
  summary: 'Makes a DELEGATED granule a table, or unfolds a block into one.',
  schema: Type.Object({ ...place, rtt: addressArgument('the DELEGATED granule') }, closed),
  example: { rd: '0x8000000', rtt: '0x8002000', ipa: '0x40000000', level: 3 },
  run: (host, { rtt, ...args }, guest) =>
    rttCreate(host, {
      rtt: addressValue(rtt),
      rd: rdWord(host, guest, args.rd),
      ipa: addressValue(args.ipa),
      level: levelValue(args.level),
    }),
})

const TABLE = { rd: '0x8000000', ipa: '0x40000000', level: 3 }

const tableCall = (
  name: string,
  summary: string,
  run: (host: Host, call: TableCall) => Answer,
  example: Readonly<Record<string, unknown>> = TABLE,
): Call =>
  defineHostCall({
    name,
    summary,
    schema: Type.Object(place, closed),
    example,
    run: (host, { rd, ipa, level }, guest) =>
      run(host, { rd: rdWord(host, guest, rd), ipa: addressValue(ipa), level: levelValue(level) }),
  })

const RTT_MAP_UNPROTECTED = defineHostCall({
  name: 'RMI_RTT_MAP_UNPROTECTED',
  summary: 'Maps host memory at an unprotected IPA.',
  schema: Type.Object({ ...place, desc: word('Physical address, MemAttr [4:2] and S2AP [7:6].') }, closed),
  example: { rd: '0x8000000', ipa: '0xc0000000', level: 2, desc: '0x82000d8' },
  run: (host, { rd, ipa, level, desc }, guest) =>
    rttMapUnprotected(host, {
      rd: rdWord(host, guest, rd),
      ipa: addressValue(ipa),
      level: levelValue(level),
      desc: addressValue(desc),
    }),
})

const RTT_INIT_RIPAS = defineHostCall({
  name: 'RMI_RTT_INIT_RIPAS',
  summary: "Makes IPAs of a NEW Realm RAM, up to the end of one table, and measures each table's entry.",
  schema: Type.Object(range, closed),
  example: { rd: '0x8000000', base: '0x40000000', top: '0x80000000' },
  run: (host, { rd, base, top }, guest) =>
    rttInitRipas(host, { rd: rdWord(host, guest, rd), base: addressValue(base), top: addressValue(top) }),
})

const RTT_SET_RIPAS = defineHostCall({
  name: 'RMI_RTT_SET_RIPAS',
  summary: 'Does what a REC has asked for with RSI_IPA_STATE_SET, up to the end of one table.',
  schema: Type.Object({ ...range, rec: recArgument }, closed),
  example: { rd: '0x8000000', rec: '0x8001000', base: '0x40000000', top: '0x40001000' },
  run: (host, { rd, rec, base, top }, guest) =>
    rttSetRipas(host, {
      rd: rdWord(host, guest, rd),
      rec: recWord(host, guest, rec),
      base: addressValue(base),
      top: addressValue(top),
    }),
})

export const MEMORY_CALLS: readonly Call[] = [
  DATA_CREATE,
  DATA_CREATE_UNKNOWN,
  DATA_DESTROY,
  RTT_CREATE,
  tableCall('RMI_RTT_DESTROY', 'Takes away a table without live entries; what it covered is DESTROYED.', rttDestroy),
  tableCall('RMI_RTT_FOLD', 'Makes a table whose entries agree one entry.', rttFold),
  tableCall('RMI_RTT_READ_ENTRY', 'Reads the entry where a walk to a level ends.', rttReadEntry, {
    ipa: '0x40000000',
    level: 3,
  }),
  RTT_MAP_UNPROTECTED,
  tableCall('RMI_RTT_UNMAP_UNPROTECTED', 'Takes the mapping of host memory away.', rttUnmapUnprotected, {
    rd: '0x8000000',
    ipa: '0xc0000000',
    level: 2,
  }),
  RTT_INIT_RIPAS,
  RTT_SET_RIPAS,
]
