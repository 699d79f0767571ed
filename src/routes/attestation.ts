import Type from 'typebox'
import type { Engine } from '../domain/engine.ts'
import { invalid, type Result } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { RefusalError, unwrap } from './errors.ts'
import type { Json } from './mutation.ts'
import { hostNamed, hostOfVm, read, vmOf } from './reading.ts'
import { HostParams, VmParams } from './schemas/names.ts'
import { closed, openObject } from './schemas/output.ts'
import { problems } from './schemas/problem.ts'

const tags = ['attestation']
/** Longer than any technology's report data. */
const NONCE_CHARACTERS = 256

const Nonce = closed({
  nonce: Type.Optional(
    Type.String({
      maxLength: NONCE_CHARACTERS,
      pattern: '^[A-Za-z0-9+/_-]*={0,2}$',
      description: 'What the evidence is to be bound to: hex, or else base64 or base64url. None where nothing is said.',
      'x-expected': `up to ${NONCE_CHARACTERS} characters of hex, base64 or base64url`,
      examples: ['00112233445566778899aabbccddeeff'],
    }),
  ),
})
const Evidence = openObject("The evidence in its technology's own layout, with its fields.", {
  vm: Type.String(),
  technology: Type.String(),
  nonce: Type.String({ description: 'The nonce in hex.' }),
  simulated: Type.Literal(true, { description: 'No hardware stands behind it.' }),
})
const Certificate = closed({ name: Type.String(), subject: Type.String(), pem: Type.String() })

/** Evidence and certificates. All of it is simulated. */
export function attestationRoutes(app: Routes, { engine }: Api): void {
  app.get(
    '/v1/vms/:vm/attestation',
    {
      schema: {
        operationId: 'getAttestation',
        tags,
        summary: "The VM's evidence over a nonce, signed by the emulated platform",
        params: VmParams,
        querystring: Nonce,
        response: { 200: Evidence, ...problems(404, 409, 422) },
      },
    },
    ({ params, query }) => {
      const nonce = unwrap(parseNonce(query.nonce ?? ''), 'query')
      return read(engine, () => evidence(engine, params.vm, nonce))
    },
  )

  app.get(
    '/v1/hosts/:host/certificates',
    {
      schema: {
        operationId: 'listCertificates',
        tags,
        summary: "The chain behind a host's evidence, leaf first",
        params: HostParams,
        response: { 200: closed({ items: Type.Array(Certificate), nextCursor: Type.Null() }), ...problems(404) },
      },
    },
    ({ params }) =>
      read(engine, () => ({ items: hostNamed(engine, params.host).hardware.certificates(), nextCursor: null })),
  )
}

function evidence(engine: Engine, id: string, nonce: Buffer): Json {
  const host = hostOfVm(engine, id)
  const verdict = host.hardware.evidence(vmOf(host, id).id, nonce)
  if (!verdict.ok) throw new RefusalError({ kind: 'kernel', ...verdict.refusal }, 'query')
  const { technology } = host.state
  return { vm: id, technology, nonce: nonce.toString('hex'), ...verdict.value, simulated: true }
}

/** Hex wins where a text could be both. */
function parseNonce(text: string): Result<Buffer> {
  if (/^(?:[0-9A-Fa-f]{2})*$/.test(text)) return { ok: true, value: Buffer.from(text, 'hex') }
  const bytes = Buffer.from(text, 'base64')
  const canonical = text.replaceAll('-', '+').replaceAll('_', '/').replace(/=+$/, '')
  if (bytes.toString('base64').replace(/=+$/, '') === canonical) return { ok: true, value: bytes }
  return invalid('not-base64', 'The nonce is neither hex nor base64.', '/nonce')
}
