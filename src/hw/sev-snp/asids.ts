/** CPUID 8000001F ECX: ASIDs of the machine, as on the reported hosts (amd-sev-snp.md f). */
export const TOTAL_ASIDS = 509
/** CPUID 8000001F EDX: ASIDs below are for SEV-ES and SNP. 233 leaves 232, the largest number users report. */
export const MIN_SEV_ASID = 233

const CLEAN = 0
const DIRTY = 1
const WRITTEN_BACK = 2

/**
 * ASIDs 1 to `limit` for SNP guests. KVM and the firmware keep books of their own: KVM hands an ASID out again only
 * after it flushed (`reclaim`), the firmware refuses one that is `dirty` or owned.
 */
export type Asids = {
  readonly limit: number
  readonly used: Uint8Array
  readonly reclaim: Uint8Array
  readonly dirty: Uint8Array
  /** Frame of the context page each ASID is activated for, or -1. */
  readonly owner: Int32Array
  /** Activations so far: each gives the ASID a new memory key. */
  readonly generation: Uint32Array
}

export const createAsids = (limit = MIN_SEV_ASID - 1): Asids => ({
  limit,
  used: new Uint8Array(limit + 1),
  reclaim: new Uint8Array(limit + 1),
  dirty: new Uint8Array(limit + 1),
  owner: new Int32Array(limit + 1).fill(-1),
  generation: new Uint32Array(TOTAL_ASIDS + 1),
})

export type AsidChoice = {
  /** 0 when the pool is empty. */
  readonly asid: number
  readonly flush: boolean
  readonly obstacle: 'pages' | 'owned' | 'dirty' | undefined
}

/**
 * What KVM takes next: the lowest free ASID, or the lowest it gets back by a flush. [C] Where SNP_ACTIVATE would refuse
 * that one, because the RMP still holds its pages, another context owns it or it's dirty, the next is taken: KVM gets
 * there by failing once for each. Only if none is left does the refusal show.
 */
export function nextAsid(asids: Asids, counters: Float64Array): AsidChoice {
  let refused: AsidChoice | undefined
  for (const flush of [false, true]) {
    for (let asid = 1; asid <= asids.limit; asid++) {
      const offered = flush ? asids.reclaim[asid] === 1 : asids.used[asid] === 0
      if (!offered) continue
      const obstacle = obstacleOf(asids, counters, asid, flush)
      if (obstacle === undefined) return { asid, flush, obstacle }
      refused ??= { asid, flush, obstacle }
    }
  }
  return refused ?? { asid: 0, flush: false, obstacle: undefined }
}

function obstacleOf(asids: Asids, counters: Float64Array, asid: number, flush: boolean): AsidChoice['obstacle'] {
  if (counters[asid] !== 0) return 'pages'
  if (asids.owner[asid] !== -1) return 'owned'
  return isDirty(asids, asid) && !flush ? 'dirty' : undefined
}

/** KVM's sev_flush_asids: WBINVD on all cores, DF_FLUSH, and what was to be reclaimed is free. */
export function flushAsids(asids: Asids): void {
  writeBackCaches(asids)
  dataFabricFlush(asids)
  for (let asid = 1; asid <= asids.limit; asid++) {
    if (asids.reclaim[asid] === 0) continue
    asids.reclaim[asid] = 0
    asids.used[asid] = 0
  }
}

/** WBINVD on every core. */
export function writeBackCaches(asids: Asids): void {
  for (let asid = 1; asid <= asids.limit; asid++) if (asids.dirty[asid] === DIRTY) asids.dirty[asid] = WRITTEN_BACK
}

/** DF_FLUSH (amd-sev-snp.md a.2): whether all are clean now. Those that some core hasn't written back stay dirty. */
export function dataFabricFlush(asids: Asids): boolean {
  let clean = true
  for (let asid = 1; asid <= asids.limit; asid++) {
    if (asids.dirty[asid] === WRITTEN_BACK) asids.dirty[asid] = CLEAN
    else if (asids.dirty[asid] === DIRTY) clean = false
  }
  return clean
}

export const isDirty = (asids: Asids, asid: number): boolean => asids.dirty[asid] !== CLEAN
export const markDirty = (asids: Asids, asid: number): void => {
  asids.dirty[asid] = DIRTY
}

export function asidsInUse(asids: Asids): number {
  let count = 0
  for (let asid = 1; asid <= asids.limit; asid++) if (asids.used[asid] === 1 && asids.reclaim[asid] === 0) count++
  return count
}
