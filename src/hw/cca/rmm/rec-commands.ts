import { Buffer } from 'node:buffer'
import type { Host } from '../data.ts'
import { extendRec, REC_RUNNABLE } from '../measurement/rim.ts'
import { type Answer, type Checked, DONE, done, fail, INPUT, pass, REC, realmError } from './answer.ts'
import { MAX_RECS } from './features.ts'
import { PAGE_SIZE } from './geometry.ts'
import { GRANULE, isHostMemory, setGranules } from './granules.ts'
import { granuleIn, pageOf, realmAt, recAt } from './operands.ts'
import { AUX_COUNT, MAX_AUX, mpidrOf, NO_EXIT, type Rec } from './rec.ts'

/** The fields of RmiRecParams (arm-cca.md 1). */
export type RecParams = {
  readonly flags: bigint
  readonly mpidr: bigint
  readonly pc: bigint
  /** X0 to X7. */
  readonly gprs: readonly bigint[]
  readonly numAux: number
  readonly aux: readonly bigint[]
}

export const REC_GPRS = 8
const ZERO_PAGE = new Uint8Array(PAGE_SIZE)

/** RmiRecParams as it lies in memory. */
export function decodeRecParams(bytes: Uint8Array): RecParams {
  const view = Buffer.from(bytes.buffer, bytes.byteOffset, PAGE_SIZE)
  const words = (offset: number, count: number): bigint[] =>
    Array.from({ length: count }, (_, index) => view.readBigUInt64LE(offset + 8 * index))
  const numAux = Number(view.readBigUInt64LE(0x800))
  return {
    flags: view.readBigUInt64LE(0),
    mpidr: view.readBigUInt64LE(0x100),
    pc: view.readBigUInt64LE(0x200),
    gprs: words(0x300, REC_GPRS),
    numAux,
    aux: words(0x808, Math.min(numAux, MAX_AUX)),
  }
}

/** The parameters in the page the host names (arm-cca.md 3): INPUT where that isn't an aligned NS granule. */
export function readRecParams({ data, machine }: Host, address: bigint): Checked<RecParams> {
  const frame = pageOf(address)
  if (frame < 0 || !isHostMemory(data.granules, frame)) return fail(INPUT)
  return pass(decodeRecParams(machine.read(frame) ?? ZERO_PAGE))
}

/**
 * REC_CREATE (arm-cca.md 3), in a NEW Realm: INPUT for the granules and the RD, REALM for the state, INPUT for an mpidr that
 * isn't the next REC's or a number of auxiliary granules that isn't REC_AUX_COUNT. A runnable REC extends the RIM.
 */
export function recCreate({ data }: Host, rd: bigint, address: bigint, params: RecParams): Answer {
  if (params.numAux > MAX_AUX) return INPUT
  const frame = granuleIn(data, address, GRANULE.DELEGATED)
  const aux = params.aux.map((granule) => granuleIn(data, granule, GRANULE.DELEGATED))
  const realm = realmAt(data, rd)
  if (realm === undefined || frame < 0 || aux.includes(-1)) return INPUT
  if (new Set([frame, ...aux]).size !== aux.length + 1) return INPUT
  if (realm.state !== 'NEW') return realmError()
  const index = realm.recs.length
  if (index >= MAX_RECS || params.mpidr !== mpidrOf(index) || params.numAux !== AUX_COUNT) return INPUT
  const runnable = (params.flags & REC_RUNNABLE) !== 0n
  if (runnable) realm.rim = extendRec(realm.hashAlgo, realm.rim, params)
  setGranules(data.granules, frame, 1, GRANULE.REC, realm.owner)
  for (const granule of aux) setGranules(data.granules, granule, 1, GRANULE.REC_AUX, realm.owner)
  data.recs.set(frame, newRec(frame, realm.rd, index, aux, runnable, params))
  realm.recs.push(frame)
  realm.recCount++
  return DONE
}

const newRec = (
  frame: number,
  rd: number,
  index: number,
  aux: readonly number[],
  runnable: boolean,
  { pc, gprs }: RecParams,
): Rec => ({
  frame,
  rd,
  index,
  mpidr: mpidrOf(index),
  aux,
  auxLent: false,
  runnable,
  running: false,
  pc,
  gprs: [...gprs],
  ripasChange: undefined,
  hostCall: undefined,
  psci: undefined,
  psciResult: undefined,
  lastExit: NO_EXIT,
  token: undefined,
})

/** REC_DESTROY (3), in any Realm: INPUT without a REC, REC while it runs. Its granules are DELEGATED and zero. */
export function recDestroy({ data }: Host, address: bigint): Answer {
  const rec = recAt(data, address)
  if (rec === undefined) return INPUT
  if (rec.running) return REC
  for (const granule of [rec.frame, ...rec.aux]) setGranules(data.granules, granule, 1, GRANULE.DELEGATED, 0)
  data.recs.delete(rec.frame)
  const realm = data.realms.get(rec.rd)
  if (realm !== undefined) {
    realm.recs[rec.index] = -1
    realm.recCount--
  }
  return DONE
}

/** REC_AUX_COUNT (1, 10) of a Realm: INPUT without one. */
export const recAuxCount = ({ data }: Host, rd: bigint): Answer =>
  realmAt(data, rd) === undefined ? INPUT : done({ aux_count: AUX_COUNT })
