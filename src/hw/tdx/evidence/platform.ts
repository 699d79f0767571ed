import { hash, hkdfSync } from 'node:crypto'
import { type PublicKey, p256 } from '../../shared/ecdsa.ts'
import type { TeeTcbInfo } from './tdreport.ts'

/** Security versions of the platform's parts, as its PCK certificate states them; 16 components of one byte. */
export type PlatformTcb = { readonly components: Uint8Array; readonly pceSvn: number }

/** One emulated machine's identity: a pure function of the host's seed. */
export type Platform = {
  /** The CPU's own key of TDREPORT MACs. */
  readonly macKey: Uint8Array
  readonly tcb: PlatformTcb
  readonly teeTcbInfo: TeeTcbInfo
  readonly fmspc: Uint8Array
  readonly pceId: Uint8Array
  readonly ppid: Uint8Array
  readonly platformInstanceId: Uint8Array
  readonly qe: QuotingEnclaveIdentity
  readonly attestationKey: KeyPair
  /** The key that the PCK certificate is about. */
  readonly pck: KeyPair
}
export type QuotingEnclaveIdentity = {
  /** 16 bytes, shown in the user data of quotes. */
  readonly id: Uint8Array
  readonly attributes: Uint8Array
  readonly mrenclave: Uint8Array
  readonly mrsigner: Uint8Array
  readonly isvProdId: number
  readonly isvSvn: number
}
export type KeyPair = { readonly privateKey: Uint8Array; readonly publicKey: PublicKey }

/** A platform as seen in the field with TDX module 1.5: the numbers of a Sapphire Rapids, under simulated measurements. */
const TCB: PlatformTcb = { components: bytesOf('03030202020100020000000000000000'), pceSvn: 11 }
const TEE_TCB_SVN = bytesOf('02010600000000000000000000000000')
const FMSPC = bytesOf('50806f000000')
const PCE_ID = bytesOf('0000')
/** INIT, MODE64BIT and the provisioning key; x87 to AVX-512 state. */
const QE_ATTRIBUTES = bytesOf('1500000000000000e700000000000000')
/** Every field of TEE_TCB_INFO of TDX 1.5 is valid (intel-tdx.md e.3). */
const VALID_TDX_1_5 = 0x301ffn

export function platform(seed: string): Platform {
  const key = (purpose: string): KeyPair => {
    const privateKey = p256.scalarFrom(derive(seed, purpose, 48))
    return { privateKey, publicKey: p256.publicKeyOf(privateKey) }
  }
  return {
    macKey: derive(seed, 'report mac key', 32),
    tcb: TCB,
    teeTcbInfo: TEE_TCB_INFO,
    fmspc: FMSPC,
    pceId: PCE_ID,
    ppid: derive(seed, 'ppid', 16),
    platformInstanceId: derive(seed, 'platform instance id', 16),
    qe: { ...QE, id: derive(seed, 'qe id', 16) },
    attestationKey: key('attestation key'),
    pck: key(`pck ${Buffer.from(TCB.components).toString('hex')} ${TCB.pceSvn}`),
  }
}

/** Measurements of software that is not there: the hash of a name that says so. */
const TEE_TCB_INFO: TeeTcbInfo = {
  valid: VALID_TDX_1_5,
  seamAttributes: 0n,
  teeTcbSvn: TEE_TCB_SVN,
  mrseam: hash('sha384', 'gmemd SIMULATED TDX module 1.5.01', 'buffer'),
  mrsignerseam: new Uint8Array(48),
  teeTcbSvn2: TEE_TCB_SVN,
}
const QE: Omit<QuotingEnclaveIdentity, 'id'> = {
  attributes: QE_ATTRIBUTES,
  mrenclave: hash('sha256', 'gmemd SIMULATED TD quoting enclave', 'buffer'),
  mrsigner: hash('sha256', 'gmemd SIMULATED enclave signer', 'buffer'),
  isvProdId: 2,
  isvSvn: 4,
}

const derive = (seed: string, purpose: string, length: number): Buffer =>
  Buffer.from(hkdfSync('sha384', seed, 'gmemd simulated Intel platform v1', purpose, length))

function bytesOf(hex: string): Uint8Array {
  return Uint8Array.from(Buffer.from(hex, 'hex'))
}
