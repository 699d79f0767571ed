import assert from 'node:assert/strict'
import { test } from 'node:test'
import { rootTables } from '../../../../src/hw/cca/rmm/realm-params.ts'
import { type Op, type RimVector, rimVectors } from '../measurement/vectors.ts'
import { addTables, ask, type Bench, createRealm, DATA, delegate, ipa, must, pa, REC, SOURCE } from './rmm-bench.ts'

const MEASURED = ['realm_create', 'ripas', 'ripas_auto', 'rec', 'data', 'rem_extend', 'noop']
const GRANULES = 0x8000

type Content = { readonly utf8?: string; readonly hex?: string; readonly fill?: number }
const isPlain = (content: unknown): content is Content =>
  typeof content === 'object' && content !== null && ['utf8', 'hex', 'fill'].some((key) => key in content)

/** Vectors whose pages are given as they are, one by one: the rest the measurement's own tests have. */
const isPlayable = ({ ops }: RimVector): boolean =>
  ops.every((op) => MEASURED.includes(op.op) && (op.op !== 'data' || op.flags === 0 || isPlain(op.content)))

const page = (address: unknown): number => Number(BigInt(String(address)) / 4096n)

/** Bytes of one page that starts with the content. */
function bytesOf({ utf8, hex, fill }: Content): Buffer {
  const given = hex === undefined ? Buffer.from(utf8 ?? '') : Buffer.from(hex, 'hex')
  assert.ok(given.length <= 4096)
  return Buffer.concat([given, Buffer.alloc(4096)])
    .subarray(0, 4096)
    .fill(fill ?? 0, fill === undefined ? 4096 : 0)
}

/** The deepest root that an IPA space can have: tables are concatenated where that saves a level. */
function created(op: Op): Bench {
  const s2sz = Number(op.s2sz)
  const lpa2 = (Number(op.flags) & 1) !== 0
  const level = Number(op.rtt_start_level ?? [2, 1, 0, -1].find((at) => rootTables(s2sz, at, lpa2) > 0))
  const { flags, sve_vl, num_bps, num_wps, pmu_num_ctrs, hash_algo, rpv } = op
  const fields = { flags, sve_vl, num_bps, num_wps, pmu_num_ctrs, hash_algo }
  const bench = createRealm({
    s2sz,
    level,
    tables: rootTables(s2sz, level, lpa2),
    fields: rpv === undefined ? fields : { ...fields, rpv },
  })
  delegate(bench, GRANULES, 64)
  delegate(bench, DATA, 64)
  return bench
}

type Player = { readonly bench: Bench; granule: number; frame: number }

/** INIT_RIPAS as a host loops over it: from where it came to, with a table where an entry doesn't fit. */
function initRipas(player: Player, op: Op): void {
  const top = page(op.top)
  for (let at = page(op.base); at < top; ) {
    if (op.entry_size !== undefined) {
      const level = 3 - Math.log2(Number(op.entry_size) / 4096) / 9
      player.granule = addTables(player.bench, at, level, player.granule)
    }
    const answer = ask(player.bench, 'RMI_RTT_INIT_RIPAS', { base: ipa(at), top: ipa(top) })
    if (answer.status === 'RMI_SUCCESS') at = page(answer.out_top)
    else player.granule = addTables(player.bench, at, Number(answer.index) + 1, player.granule)
  }
}

function play(player: Player, op: Op): void {
  const { bench } = player
  switch (op.op) {
    case 'ripas':
    case 'ripas_auto':
      initRipas(player, op)
      break
    case 'rec':
      must(bench, 'RMI_REC_CREATE', {
        rec: pa(REC + player.frame++),
        mpidr: op.mpidr ?? 0,
        flags: op.flags,
        pc: op.pc,
        gprs: op.gprs,
      })
      break
    case 'data':
      player.granule = addTables(bench, page(op.ipa), 3, player.granule)
      bench.machine.write(SOURCE, isPlain(op.content) ? bytesOf(op.content) : undefined)
      must(bench, 'RMI_DATA_CREATE', { data: pa(DATA + player.frame++), ipa: op.ipa, src: pa(SOURCE), flags: op.flags })
  }
}

const playable = rimVectors.filter(isPlayable)

for (const { name, ops, expect } of playable)
  test(`8: the RMM's own commands give the RIM of ${name}`, () => {
    const [create, ...rest] = ops
    assert.ok(create?.op === 'realm_create')
    const player: Player = { bench: created(create), granule: GRANULES, frame: 0 }
    for (const op of rest) play(player, op)
    assert.equal(must(player.bench, 'RIM').rim, expect.rim)
  })

test('most vectors can be played', () => {
  assert.ok(playable.length >= 20, `${playable.length}`)
})
