import { createHash } from 'node:crypto'

type Step = ReturnType<typeof JSON.parse>

/**
 * RIM and REMs once more from nothing but a transcript, written out from arm-cca.md 8 without the code under test. Asserts
 * nothing: where `rimAfter` of a step does not follow, the step's index stands in place of the RIM.
 */
export function rehash(steps: readonly Step[]): { rim: string; rem: string[] } {
  const [{ hash_algo: algo, ...params }] = steps
  const bytes = algo === 0 ? 32 : 64
  const sha = (...parts: Uint8Array[]) => {
    const hash = createHash(algo === 0 ? 'sha256' : 'sha512')
    for (const part of parts) hash.update(part)
    return hash.digest()
  }
  const rems = Array.from({ length: 4 }, () => Buffer.alloc(bytes))
  let rim = sha(
    structure(4096, [
      [0, word(params.flags)],
      [8, word(params.s2sz)],
      [16, word(params.sve_vl)],
      [24, word(params.num_bps)],
      [32, word(params.num_wps)],
      [40, word(params.pmu_num_ctrs)],
      [48, word(algo)],
    ]),
  )
  const extend = (type: number, fields: [number, Uint8Array][]) => {
    rim = sha(structure(256, [[0, word(type)], [8, word(256)], [16, rim], ...fields]))
  }
  for (const [index, step] of steps.entries()) {
    if (step.op === 'ripas')
      for (let base = BigInt(step.base); base < BigInt(step.top); base += BigInt(step.entrySize))
        extend(2, [
          [80, word(base)],
          [88, word(base + BigInt(step.entrySize))],
        ])
    if (step.op === 'data')
      for (const [page, digest] of digestsOf(step).entries())
        extend(0, [
          [80, word(BigInt(step.ipa) + BigInt(page) * 4096n)],
          [88, word(step.flags)],
          [96, Buffer.from(digest, 'hex')],
        ])
    if (step.op === 'rec' && BigInt(step.flags) % 2n === 1n) {
      const gprs = step.gprs.map((value: string, register: number) => [768 + 8 * register, word(value)])
      extend(1, [[80, sha(structure(4096, [[0, word(step.flags)], [512, word(step.pc)], ...gprs]))]])
    }
    if (step.op === 'rem_extend')
      rems[step.index - 1] = sha(rems[step.index - 1] ?? Buffer.alloc(0), Buffer.from(step.value, 'hex'))
    if (step.rimAfter !== rim.toString('hex')) return { rim: `step ${index}`, rem: [] }
  }
  return { rim: rim.toString('hex'), rem: rems.map((rem) => rem.toString('hex')) }
}

const digestsOf = ({ pages, flags, contents = [] }: Step): string[] =>
  flags === 0
    ? Array.from({ length: pages }, () => '')
    : contents.flatMap((run: Step) => Array.from({ length: run.pages }, () => run.digest))

function word(value: string | number | bigint): Buffer {
  const bytes = Buffer.alloc(8)
  bytes.writeBigUInt64LE(BigInt(value))
  return bytes
}

function structure(size: number, fields: readonly [number, Uint8Array][]): Buffer {
  const bytes = Buffer.alloc(size)
  for (const [at, value] of fields) bytes.set(value, at)
  return bytes
}
