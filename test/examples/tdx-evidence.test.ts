import assert from 'node:assert/strict'
import { test } from 'node:test'
import { tdvfImage } from '../../examples/tdvf-image.ts'
import { brokenLink } from '../../examples/tdx-quote.ts'
import { rehash } from '../../examples/tdx-transcript.ts'
import { createEvidence } from '../../src/hw/tdx/evidence/evidence.ts'
import { measurer } from '../../src/hw/tdx/measurement/measure.ts'

type Measured = { readonly mrtd: string; readonly steps: Parameters<typeof rehash>[0] }

const ZERO = new Uint8Array(48)
const TD = {
  attributes: 0n,
  xfam: 0xe7n,
  mrtd: ZERO,
  mrconfigid: ZERO,
  mrowner: ZERO,
  mrownerconfig: ZERO,
  rtmrs: [ZERO, ZERO, ZERO, ZERO] as const,
  servtdHash: ZERO,
}

test('the example tells which link of a quote is broken (intel-tdx.md e.4)', () => {
  const evidence = createEvidence('example')
  const made = evidence.quote(evidence.tdReport(TD, new Uint8Array(64)), 4)
  assert.ok(made.ok)
  assert.equal(brokenLink(made.quote), 'none')
  for (const [at, link] of [
    [200, 'quote'],
    [640, 'quote'],
    [800, 'QE report'],
    [1225, 'attestation key'],
  ] as const) {
    const changed: Buffer = Buffer.from(made.quote)
    changed.writeUInt8(changed.readUInt8(at) ^ 1, at)
    assert.equal(brokenLink(changed), link, `byte ${at}`)
  }
})

test('the example hashes the transcript of every order to MRTD, and of no other image (intel-tdx.md e.1, f.2)', () => {
  const image = tdvfImage()
  for (const order of ['interleaved', 'two-pass-section', 'two-pass-image']) {
    const measured = measurer.measure({ image, order })
    assert.ok(measured.ok)
    const { mrtd, steps } = measured.value as Measured
    assert.equal(rehash(steps, image), mrtd, order)
    const changed = Buffer.from(image).fill(0x90, 5000, 5001)
    assert.throws(() => rehash(steps, changed), /^Error: step \d+ \(BFV at 0xffffd000\) comes to /)
  }
})
