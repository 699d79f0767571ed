import { hash, hkdfSync } from 'node:crypto'
import { type PublicKey, p384 } from '../../shared/ecdsa.ts'
import { coseKey } from './cose.ts'

export type KeyPair = { readonly privateKey: Uint8Array; readonly publicKey: PublicKey }
export type SoftwareComponent = {
  readonly type: string
  readonly version: string
  readonly measurement: Uint8Array
  readonly signer: Uint8Array
}

/** One emulated machine's identity: a pure function of the host's seed. */
export type Platform = {
  /** CCA platform attestation key: signs the platform part. */
  readonly cpak: KeyPair
  /** Realm attestation key: signs the Realm part. It is the machine's, so all its Realms have the same. */
  readonly rak: KeyPair
  /** 33 bytes, the first 01. */
  readonly instanceId: Uint8Array
  readonly implementationId: Uint8Array
  readonly lifecycle: number
  readonly configuration: Uint8Array
  readonly verificationService: string
  readonly components: readonly SoftwareComponent[]
}

/** Secured (arm-cca.md 8.1). */
const LIFECYCLE_SECURED = 0x3003
const RANDOM_ID = 1

export function platform(seed: string): Platform {
  const key = (purpose: string): KeyPair => {
    const privateKey = p384.scalarFrom(derive(seed, purpose, 72))
    return { privateKey, publicKey: p384.publicKeyOf(privateKey) }
  }
  const cpak = key('platform attestation key')
  return {
    cpak,
    rak: key('realm attestation key'),
    instanceId: Uint8Array.from([RANDOM_ID, ...hash('sha256', coseKey(cpak.publicKey), 'buffer')]),
    implementationId: sha256('gmemd SIMULATED CCA platform'),
    lifecycle: LIFECYCLE_SECURED,
    configuration: Buffer.from('SIMULATED'),
    verificationService: 'https://gmemd.invalid/SIMULATED',
    components: COMPONENTS,
  }
}

/** Measurements of software that is not there: the hash of a name that says so. */
const COMPONENTS: readonly SoftwareComponent[] = ['RSE', 'AP_BL', 'MONITOR', 'RMM'].map((name) => ({
  type: `SIMULATED_${name}`,
  version: '1.0',
  measurement: sha256(`gmemd SIMULATED ${name} 1.0`),
  signer: sha256('gmemd SIMULATED CCA signer'),
}))

function sha256(text: string): Buffer {
  return hash('sha256', text, 'buffer')
}

const derive = (seed: string, purpose: string, length: number): Buffer =>
  Buffer.from(hkdfSync('sha384', seed, 'gmemd simulated Arm CCA platform v1', purpose, length))
