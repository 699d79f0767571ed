import { hash, randomBytes, X509Certificate } from 'node:crypto'
import { type Cast, call } from './cast.ts'
import { brokenLink, partsOf, realmClaims } from './cca-token.ts'
import { isChain } from './certificate-chain.ts'
import { chapter, check, same, say } from './narrator.ts'
import type { Certificates, Token } from './replies.ts'

export async function attest(cast: Cast, rim: string): Promise<void> {
  const { gmemd, vm, host } = cast
  chapter('Evidence, simulated but well made')
  const event = hash('sha512', 'not much of a kernel', 'buffer')
  await call(cast, 'RSI_MEASUREMENT_EXTEND', { index: 1, size: event.length, value: event.toString('hex') })
  const rem = hash('sha512', Buffer.concat([Buffer.alloc(64), event]))
  const read = await call(cast, 'RSI_MEASUREMENT_READ', { index: 1 })
  same('the guest extends the first REM, to SHA-512(zeros, digest)', read.value, rem)

  const nonce = randomBytes(64)
  const evidence = await gmemd.get<Token>(`/v1/vms/${vm}/attestation?nonce=${nonce.toString('hex')}`)
  same('it says itself that it is simulated', evidence.simulated, true)
  const token = Buffer.from(evidence.token, 'base64')
  const claims = realmClaims(partsOf(token).realm)
  say(`token: ${token.length} bytes, CBOR`)
  check("the Realm's part holds our nonce", claims.challenge.equals(nonce))
  same('the RIM', claims.rim, rim)
  same('and the REM', claims.rems[0], rem)

  const { items } = await gmemd.get<Certificates>(`/v1/hosts/${host}/certificates`)
  for (const { name, subject } of items) say(`${name}: ${subject}`)
  const chain = items.map(({ pem }) => new X509Certificate(pem))
  check("the platform's key is vouched for, up to the simulated root", isChain(chain))
  const [cpak] = chain
  const broken = cpak && brokenLink(token, cpak.publicKey)
  same("from there to the Realm's claims no link is broken", broken, 'none')
}
