import assert from 'node:assert/strict'
import { hash } from 'node:crypto'
import { test } from 'node:test'
import { Value } from 'typebox/value'
import { idAuth, idBlock } from '../../../src/hw/amd/id-block.ts'
import { rehash, type SnpStep } from '../../../src/hw/amd/transcript.ts'
import type { HwRefusal, Verdict } from '../../../src/hw/contract.ts'
import { launchSchemas } from '../../../src/hw/sev-snp/config.ts'
import { p384 } from '../../../src/hw/shared/ecdsa.ts'
import { fixture, type LaunchVector, launchVectors, NO_VECTORS } from '../../support/snp-vectors.ts'
import { type Bench, codeOf, createBench, FRAME, fingerprint, GFN, hpa, VM } from './fake-machine.ts'
import { stateOfFrame } from './page-states.ts'

const refusalOf = (verdict: Verdict<unknown>): HwRefusal => {
  assert.ok(!verdict.ok)
  return verdict.refusal
}
const failure = (verdict: Verdict<unknown>) => [refusalOf(verdict).errno, refusalOf(verdict).hardware?.code ?? 0]
const BYTES = new Uint8Array(4096).fill(0x5a)
const launch = (bench: Bench, pageType: string, index = 0, source: Uint8Array | undefined = BYTES) =>
  bench.hardware.launchPage(VM, GFN + index, FRAME + index, source, { pageType })

test('d.2: each page type ends Guest-Valid with its contents, and the log re-hashes to the digest', () => {
  const bench = createBench()
  const types = ['NORMAL', 'NORMAL', 'ZERO', 'ZERO', 'UNMEASURED', 'SECRETS', 'CPUID']
  const cpuid = new Uint8Array(4096)
  for (const [index, pageType] of types.entries())
    assert.ok(launch(bench, pageType, index, pageType === 'CPUID' ? cpuid : BYTES).ok)
  for (const index of types.keys()) assert.equal(stateOfFrame(bench, FRAME + index), 'Guest-Valid')
  assert.deepEqual(bench.machine.read(FRAME), BYTES)
  assert.equal(bench.machine.read(FRAME + 2), undefined)
  assert.deepEqual(bench.machine.read(FRAME + 4), BYTES)
  const secrets = Buffer.from(bench.machine.read(FRAME + 5) ?? [])
  assert.equal(secrets.readUInt32LE(0), 3)
  assert.notEqual(secrets.subarray(0x20, 0x40).toString('hex'), secrets.subarray(0x40, 0x60).toString('hex'))
  const { steps, digest, state } = bench.hardware.launchLog(VM)
  assert.equal(state, 'LAUNCH')
  assert.deepEqual(
    steps.map(({ pageType, pages }) => [pageType, pages]),
    [
      ['NORMAL', 2],
      ['ZERO', 2],
      ['UNMEASURED', 1],
      ['SECRETS', 1],
      ['CPUID', 1],
    ],
  )
  const again = rehash({ startDigest: '00'.repeat(48), steps: steps as unknown as SnpStep[] })
  assert.deepEqual(again, { ok: true, digest })
})

test('d.4: VMSA is EINVAL, a second launch of a page EIO with error 0, after FINISH 2', () => {
  const bench = createBench()
  assert.deepEqual(failure(launch(bench, 'VMSA')), ['EINVAL', 0])
  assert.deepEqual(failure(bench.hardware.launchSource(VM, { pageType: 'VMSA' })), ['EINVAL', 0])
  assert.ok(launch(bench, 'NORMAL').ok)
  const before = fingerprint(bench)
  assert.deepEqual(failure(launch(bench, 'NORMAL')), ['EIO', 0])
  assert.equal(fingerprint(bench), before)
  assert.ok(bench.hardware.launchFinish(VM, {}).ok)
  assert.equal(bench.hardware.vmState(VM), 'running')
  assert.deepEqual(failure(launch(bench, 'NORMAL', 1)), ['EIO', 2])
  assert.deepEqual(failure(bench.hardware.launchFinish(VM, {})), ['EIO', 0x1a])
})

test('d.4: a page fallocate has assigned is launched in the 2022 model and refused otherwise', () => {
  for (const preparedByFallocate of [true, false]) {
    const bench = createBench({ preparedByFallocate })
    bench.hardware.assign(VM, GFN, FRAME, 512, 512)
    const verdict = launch(bench, 'NORMAL', 3)
    if (!preparedByFallocate) {
      assert.deepEqual(failure(verdict), ['EIO', 0])
      continue
    }
    assert.ok(verdict.ok)
    assert.equal(stateOfFrame(bench, FRAME + 3), 'Guest-Valid')
    assert.equal(stateOfFrame(bench, FRAME + 4), 'Guest-Invalid')
    assert.equal(bench.machine.events[0]?.name, 'PSMASH')
    assert.deepEqual(failure(bench.hardware.launchPage(VM, GFN + 9, FRAME + 4, BYTES, {})), ['EIO', 0], 'another gpa')
  }
})

/** A CPUID page with one function. */
function cpuidPage(leaf: number, ecx: number, count = 1, reserved = 0): Uint8Array {
  const page = Buffer.alloc(4096)
  page.writeUInt32LE(count, 0)
  page.writeUInt32LE(reserved, 4)
  page.writeUInt32LE(leaf, 16)
  page.writeUInt32LE(ecx, 16 + 32)
  return new Uint8Array(page)
}

test('d.2: the CPUID page: bad counts and values are 16, the corrected table is shown and passes', () => {
  const bench = createBench()
  const before = fingerprint(bench)
  assert.deepEqual(failure(launch(bench, 'CPUID', 0, cpuidPage(0, 0, 65))), ['EIO', 0x16])
  assert.deepEqual(failure(launch(bench, 'CPUID', 0, cpuidPage(0, 0, 1, 1))), ['EIO', 0x16])
  assert.equal(bench.machine.events.length, 0)
  const refused = launch(bench, 'CPUID', 0, cpuidPage(1, 0x21))
  assert.deepEqual(failure(refused), ['EIO', 0x16])
  assert.equal(fingerprint(bench), before)
  const shown = refused.ok ? undefined : refused.refusal.outputs?.cpuidPage
  const corrected = new Uint8Array(Buffer.from(String(shown), 'base64'))
  assert.deepEqual(corrected, cpuidPage(1, 1))
  assert.ok(launch(bench, 'CPUID', 0, corrected).ok)
  const direct = createBench()
  direct.machine.write(FRAME, cpuidPage(1, 0x21))
  direct.host('RMPUPDATE', { hpa: hpa(FRAME), gpa: hpa(GFN), assigned: true, asid: 1, immutable: true })
  const update = () => codeOf(direct.host('SNP_LAUNCH_UPDATE', { hpa: hpa(FRAME), pageType: 6 }))
  assert.equal(update(), 0x16)
  assert.equal(stateOfFrame(direct, FRAME), 'Pre-Guest')
  assert.deepEqual(direct.machine.read(FRAME), cpuidPage(1, 1), 'written back unencrypted')
  assert.equal(update(), 0)
})

test('d.3: a 2M update is 512 steps of 4K, and permissions are measured', () => {
  const large = createBench()
  const small = createBench()
  const rmpupdate = (bench: Bench, frame: number, gfn: number, pageSize: string) =>
    bench.host('RMPUPDATE', { hpa: hpa(frame), gpa: hpa(gfn), assigned: true, asid: 1, immutable: true, pageSize })
  for (const bench of [large, small]) bench.machine.write(FRAME + 9, BYTES)
  rmpupdate(large, FRAME, GFN, '2M')
  assert.equal(codeOf(large.host('SNP_LAUNCH_UPDATE', { hpa: hpa(FRAME), pageType: 1, pageSize: '2M' })), 0)
  for (let index = 0; index < 512; index++) {
    rmpupdate(small, FRAME + index, GFN + index, '4K')
    assert.equal(codeOf(small.host('SNP_LAUNCH_UPDATE', { hpa: hpa(FRAME + index), pageType: 1 })), 0)
  }
  assert.deepEqual(large.hardware.launchLog(VM), small.hardware.launchLog(VM))
  const permitted = createBench()
  permitted.machine.write(FRAME, BYTES)
  rmpupdate(permitted, FRAME, GFN, '4K')
  permitted.host('SNP_LAUNCH_UPDATE', { hpa: hpa(FRAME), pageType: 1, permissions: { vmpl1: 7 } })
  const plain = createBench()
  assert.ok(launch(plain, 'NORMAL').ok)
  assert.notEqual(permitted.hardware.launchLog(VM).digest, plain.hardware.launchLog(VM).digest)
})

/** A digest begun elsewhere and a VMSA address of another host are nothing that this machine launches. */
const isLaunch = ({ kind, inputs }: LaunchVector): boolean =>
  kind === 'launch-digest' && inputs.mode === 'snp' && inputs.ovmfHash === undefined && inputs.vmsaGpa === undefined
for (const vector of launchVectors.vectors.filter(isLaunch)) {
  const { inputs, expected } = vector
  const image = fixture((inputs.image as { fixture?: string }).fixture ?? '')
  test(`vector ${vector.name}: plan, pages and finish give the tool's digest`, {
    skip: image ? false : NO_VECTORS,
  }, () => {
    if (image === undefined) return
    const bench = createBench({ vcpus: (inputs.vcpus as number | undefined) ?? 1 })
    const bytes = (name: string): Buffer | undefined => {
      const file = inputs[name] as { base64?: string } | null | undefined
      return file?.base64 === undefined ? undefined : Buffer.from(file.base64, 'base64')
    }
    const kernel = bytes('kernel')
    const initrd = bytes('initrd')
    const query = {
      ...(inputs.vmm === undefined ? {} : { vmm: inputs.vmm }),
      ...(inputs.vcpuSignature === undefined ? {} : { vcpuSignature: String(inputs.vcpuSignature) }),
      ...(inputs.guestFeatures === undefined ? {} : { guestFeatures: String(inputs.guestFeatures) }),
      ...(kernel && { kernelHash: hash('sha256', kernel) }),
      ...(initrd && { initrdHash: hash('sha256', initrd) }),
      ...(kernel && inputs.cmdline ? { cmdline: inputs.cmdline } : {}),
    }
    assert.ok(launchSchemas.image && Value.Check(launchSchemas.image, query), JSON.stringify(query))
    const plan = bench.hardware.launchPlan(VM, image, query)
    if (expected.launchDigest === undefined) {
      assert.equal(refusalOf(plan).errno, 'EINVAL')
      return
    }
    assert.ok(plan.ok, plan.ok ? '' : plan.refusal.detail)
    let frame = FRAME
    for (const { gfn, pages, bytes: source, options } of plan.value.steps)
      for (let index = 0; index < pages; index++) {
        const page = source?.subarray(index * 4096, (index + 1) * 4096)
        assert.ok(bench.hardware.launchPage(VM, gfn + index, frame++, page, options).ok)
      }
    const finish = { ...plan.value.finish, ...(inputs.vmsaOverride ? { vmsaOverride: inputs.vmsaOverride } : {}) }
    assert.ok(Value.Check(launchSchemas.finish, finish), JSON.stringify(finish))
    assert.ok(bench.hardware.launchFinish(VM, finish).ok)
    const log = bench.hardware.launchLog(VM)
    assert.equal(log.digest, expected.launchDigest)
    assert.equal(log.state, 'RUNNING')
    const again = rehash({ startDigest: '00'.repeat(48), steps: log.steps as unknown as SnpStep[] })
    assert.deepEqual(again, { ok: true, digest: expected.launchDigest })
  })
}

const signer = (name: string) => {
  const privateKey = p384.scalarFrom(Buffer.alloc(72, name))
  return { privateKey, publicKey: p384.publicKeyOf(privateKey) }
}
const idKey = signer('id')
const authorKey = signer('author')

/** Finish options with an ID block for what `bench` will have measured. */
function identity(digest: Uint8Array, policy = 0x30000n, change: (auth: Buffer) => void = () => undefined) {
  const block = idBlock({
    launchDigest: digest,
    familyId: new Uint8Array(16).fill(1),
    imageId: new Uint8Array(16).fill(2),
    version: 1,
    guestSvn: 9,
    policy,
  })
  const auth = idAuth(block, { id: idKey, author: authorKey })
  change(auth)
  return { idBlock: block.toString('base64'), idAuth: auth.toString('base64'), authorKeyEnabled: true }
}

/** The digest a VM without pages ends with. */
function emptyDigest(): Uint8Array {
  const bench = createBench()
  bench.hardware.launchFinish(VM, {})
  return Buffer.from(bench.hardware.launchLog(VM).digest ?? '', 'hex')
}

test('d.8: the ID block is judged in order: digest, policy, algorithms, signature; a refused guest stays in LAUNCH', () => {
  const digest = emptyDigest()
  const wrong = new Uint8Array(48)
  const badAlgorithm = (auth: Buffer): void => void auth.writeUInt32LE(2, 0)
  const badAuthorAlgorithm = (auth: Buffer): void => void auth.writeUInt32LE(2, 4)
  const badSignature = (auth: Buffer): void => void auth.writeUInt8(auth.readUInt8(0x40) ^ 1, 0x40)
  const badCurve = (auth: Buffer): void => void auth.writeUInt32LE(1, 0x240)
  const rows = [
    [identity(wrong, 0n, badAlgorithm), 0xb],
    [identity(digest, 0n, badAlgorithm), 7],
    [identity(digest, 0x30000n, badAlgorithm), 0x16],
    [identity(digest, 0x30000n, badAuthorAlgorithm), 0x16],
    [identity(digest, 0x30000n, badCurve), 0xa],
    [identity(digest, 0x30000n, badSignature), 0xa],
  ] as const
  for (const [options, code] of rows) {
    const bench = createBench()
    assert.deepEqual(failure(bench.hardware.launchFinish(VM, options)), ['EIO', code])
    assert.equal(bench.hardware.vmState(VM), 'launching')
    assert.deepEqual(Buffer.from(bench.hardware.launchLog(VM).digest ?? '', 'hex'), digest, 'VMSAs are measured')
    assert.deepEqual(failure(bench.hardware.launchFinish(VM, identity(digest))), ['EIO', 0x1a])
  }
})

test('d.8: options that KVM or the VMM would not send are EINVAL, before anything is measured', () => {
  const bench = createBench()
  const before = fingerprint(bench)
  const { idBlock: block, idAuth: auth } = identity(new Uint8Array(48))
  const rows = [
    [{ idBlock: block }, '/idBlock'],
    [{ idBlock: 'AAAA', idAuth: auth }, '/idBlock'],
    [{ idBlock: block, idAuth: 'AAAA' }, '/idAuth'],
    [{ hostData: Buffer.alloc(33).toString('base64') }, '/hostData'],
    [{ resetEip: '0x100000000' }, '/resetEip'],
    [{ vcpuType: 'EPYC-v4', vcpuSignature: '0x1' }, '/vcpuSignature'],
  ] as const
  for (const [options, pointer] of rows) {
    const refusal = refusalOf(bench.hardware.launchFinish(VM, options))
    assert.deepEqual([refusal.errno, refusal.pointer], ['EINVAL', pointer])
  }
  assert.equal(fingerprint(bench), before)
})

test('d.8: a good ID block finishes, and VMSAs are pages of the guest that go back with it', () => {
  const bench = createBench({ vcpus: 3 })
  const probe = createBench({ vcpus: 3 })
  probe.hardware.launchFinish(VM, {})
  const digest = Buffer.from(probe.hardware.launchLog(VM).digest ?? '', 'hex')
  const free = bench.machine.next
  assert.ok(bench.hardware.launchFinish(VM, identity(digest)).ok)
  assert.equal(bench.data.contexts.get(bench.data.vms.get(VM)?.context ?? 0)?.identity?.guestSvn, 9)
  const vmsas = bench.data.vms.get(VM)?.vmsas ?? []
  assert.deepEqual(vmsas, [free, free + 1, free + 2])
  for (const frame of vmsas) assert.equal(stateOfFrame(bench, frame), 'Guest-Valid')
  bench.hardware.destroyVm(VM)
  for (const frame of vmsas) assert.equal(stateOfFrame(bench, frame), 'Hypervisor')
  assert.equal(bench.machine.freed.length, 4)
})

test('no memory for VMSAs is ENOMEM and leaves no trace', () => {
  const bench = createBench({ vcpus: 3 })
  bench.machine.next = bench.machine.frames - 2
  const verdict = bench.hardware.launchFinish(VM, {})
  assert.equal(refusalOf(verdict).errno, 'ENOMEM')
  assert.deepEqual(bench.data.vms.get(VM)?.vmsas, [])
  assert.equal(bench.machine.freed.length, 2)
})
