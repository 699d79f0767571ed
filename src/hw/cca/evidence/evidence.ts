import type { Certificate, Verdict } from '../../contract.ts'
import { hexOf } from '../../shared/hex.ts'
import { once } from '../../shared/once.ts'
import { refuse } from '../../shared/refusal.ts'
import { digestBytes } from '../measurement/digest.ts'
import { cpakChain } from './certificates.ts'
import { platform } from './platform.ts'
import { buildToken, CHALLENGE_BYTES, platformPart, type RealmInfo, realmPart } from './token.ts'
import { describeToken } from './token-view.ts'

/** The evidence of one machine. What its keys and certificates cost to make is paid when they're first asked for. */
export type Evidence = {
  /** RSI_ATTESTATION_TOKEN_*: the token over a challenge of exactly 64 bytes (arm-cca.md 7, 8.1); below 4096 bytes. */
  token(realm: RealmInfo, challenge: Uint8Array): Uint8Array
  /** The token for a challenge of at most 64 bytes, padded with zeros, and its claims; a longer one is EINVAL. */
  report(realm: RealmInfo, challenge: Uint8Array): Verdict<Readonly<Record<string, unknown>>>
  /** CPAK, Root CA. */
  certificates(): readonly Certificate[]
}

/** A pure function of the host's seed: nothing in it belongs into the host's data, for it can be made again. */
export function createEvidence(seed: string): Evidence {
  const machine = once(() => platform(seed))
  const signedPlatform = once(() => platformPart(machine()))
  const chain = once(() => cpakChain(machine()))
  const token = (realm: RealmInfo, challenge: Uint8Array): Uint8Array =>
    buildToken(signedPlatform(), realmPart(realm, challenge, machine()))
  return {
    token,
    report: (realm, challenge) =>
      challenge.length > CHALLENGE_BYTES
        ? refuse('nonce-length', `A nonce has at most ${CHALLENGE_BYTES} bytes.`, '/nonce')
        : report(realm, token(realm, padded(challenge))),
    certificates() {
      const { cpak, root } = chain()
      return [
        { name: 'CPAK', subject: cpak.subject, pem: cpak.pem },
        { name: 'Root CA', subject: root.subject, pem: root.pem },
      ]
    },
  }
}

function padded(challenge: Uint8Array): Uint8Array {
  const whole = new Uint8Array(CHALLENGE_BYTES)
  whole.set(challenge)
  return whole
}

function report({ hashAlgo, rim }: RealmInfo, token: Uint8Array): Verdict<Readonly<Record<string, unknown>>> {
  const described = describeToken(token)
  return {
    ok: true,
    value: {
      format: 'arm-cca-token',
      simulated: true,
      token: Buffer.from(token).toString('base64'),
      measurement: hexOf(rim.subarray(0, digestBytes(hashAlgo))),
      ...(described.ok && { fields: described.fields }),
    },
  }
}
