import { chainOf } from '../amd/certificates.ts'
import { NO_IDENTITY } from '../amd/id-block.ts'
import { attest, type PlatformIdentity, platform } from '../amd/platform-keys.ts'
import { describeReport } from '../amd/report-view.ts'
import type { Certificate, Verdict } from '../contract.ts'
import { hexOf } from '../shared/hex.ts'
import { type Host, vmOf } from './data.ts'
import { guestSecret } from './derive.ts'
import { contextAt } from './firmware-guest.ts'
import { FW, firmwareRefusal, refuse } from './status.ts'

const REPORT_DATA_BYTES = 64

/** What the platform's identity costs to make is paid once a machine, when it's first asked for. */
export type Evidence = {
  report(host: Host, vm: string, nonce: Uint8Array): Verdict<Readonly<Record<string, unknown>>>
  certificates(): readonly Certificate[]
}

export function createEvidence(seed: string): Evidence {
  let identity: PlatformIdentity | undefined
  let chain: readonly Certificate[] | undefined
  const platformOf = (): PlatformIdentity => {
    identity ??= platform(seed)
    return identity
  }
  return {
    report: (host, vm, nonce) => report(host, vm, nonce, platformOf()),
    certificates() {
      chain ??= certificatesOf(platformOf())
      return chain
    },
  }
}

/** The report a guest at VMPL0 gets for `nonce` (amd-sev-snp.md e). Only a running guest can ask (b.6: status 2). */
function report(
  host: Host,
  vm: string,
  nonce: Uint8Array,
  machine: PlatformIdentity,
): Verdict<Readonly<Record<string, unknown>>> {
  if (nonce.length > REPORT_DATA_BYTES)
    return refuse('EINVAL', 'nonce-length', `A nonce has at most ${REPORT_DATA_BYTES} bytes.`, '/nonce')
  const guest = contextAt(host, vmOf(host, vm).context)
  if (guest === undefined) return firmwareRefusal(FW.INVALID_GUEST, 'The guest context page is gone.')
  if (guest.state !== 'RUNNING')
    return firmwareRefusal(FW.INVALID_GUEST_STATE, `The guest is ${guest.state}; only a running guest is attested.`)
  const reportData = new Uint8Array(REPORT_DATA_BYTES)
  reportData.set(nonce)
  const bytes = attest(machine, {
    policy: guest.policy,
    measurement: guest.digest,
    reportData,
    hostData: guest.hostData,
    reportId: guestSecret(host.data.seed, guest.serial, 'report-id'),
    vmpl: 0,
    identity: guest.identity ?? NO_IDENTITY,
  })
  const described = describeReport(bytes)
  return {
    ok: true,
    value: {
      format: 'amd-sev-snp-attestation-report',
      simulated: true,
      report: bytes.toString('base64'),
      measurement: hexOf(guest.digest),
      ...(described.ok && { fields: described.fields }),
    },
  }
}

function certificatesOf(machine: PlatformIdentity): readonly Certificate[] {
  const { ark, ask, vcek } = chainOf(machine)
  return [
    { name: 'VCEK', subject: vcek.subject, pem: vcek.pem },
    { name: 'ASK', subject: ask.subject, pem: ask.pem },
    { name: 'ARK', subject: ark.subject, pem: ark.pem },
  ]
}
