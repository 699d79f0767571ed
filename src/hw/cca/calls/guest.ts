import { Buffer } from 'node:buffer'
import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { rsi } from '../rmm/answer.ts'
import { ABI_VERSION } from '../rmm/features.ts'
import { hex } from '../rmm/geometry.ts'
import { answered } from '../rmm/guest.ts'
import { PSCI, type PsciName, psciCall } from '../rmm/psci.ts'
import { hostCall, measurementExtend, measurementRead, realmConfig } from '../rmm/rsi.ts'
import { ipaStateGet, ipaStateSet } from '../rmm/rsi-ripas.ts'
import { CHALLENGE_BYTES, tokenContinue, tokenInit } from '../rmm/rsi-token.ts'
import { RIPAS, type RipasName } from '../rmm/states.ts'
import {
  addressValue,
  closed,
  type DefineGuestCall,
  guestRecArgument,
  ipaArgument,
  optionalWord,
  type Word,
  word,
} from './call-definition.ts'

const rec = guestRecArgument
const hexBytes = (length: number, description: string) =>
  Type.String({ pattern: `^[0-9a-fA-F]{${length * 2}}$`, description: `${description}: ${length} bytes in hex.` })

const RIPAS_ARGUMENT = Type.Union(
  [Type.Enum(Object.keys(RIPAS) as RipasName[]), Type.Integer({ minimum: 0, maximum: 0xff })],
  { description: 'EMPTY or RAM, or its number.' },
)
const ripasValue = (ripas: RipasName | number): bigint => BigInt(typeof ripas === 'number' ? ripas : RIPAS[ripas])

const VALUE_BYTES = 64

/** Versions, measurements and the configuration: what concerns no memory but a page of the Realm's. */
const informationCalls = (define: DefineGuestCall): readonly Call[] => [
  define({
    name: 'RSI_VERSION',
    summary: 'Asks for a version of RSI, and says which there are.',
    schema: Type.Object({ rec, req: word('The version, 1.0 is 0x10000.') }, closed),
    example: { req: '0x10000' },
    run: (_host, _realm, _rec, { req }) =>
      answered(
        rsi(addressValue(req) === BigInt(ABI_VERSION) ? 'RSI_SUCCESS' : 'RSI_ERROR_INPUT', {
          lower: hex(ABI_VERSION),
          higher: hex(ABI_VERSION),
        }),
      ),
  }),
  define({
    name: 'RSI_FEATURES',
    summary: 'Reads a feature register; all are zero.',
    schema: Type.Object({ rec, index: word('Which one.') }, closed),
    example: { index: 0 },
    run: () => answered(rsi('RSI_SUCCESS', { value: '0x0' })),
  }),
  define({
    name: 'RSI_MEASUREMENT_READ',
    summary: 'Reads the RIM or a REM, 64 bytes.',
    schema: Type.Object({ rec, index: word('0 the RIM, 1 to 4 a REM.') }, closed),
    example: { index: 0 },
    run: (_host, realm, _rec, { index }) => measurementRead(realm, addressValue(index)),
  }),
  define({
    name: 'RSI_MEASUREMENT_EXTEND',
    summary: 'Extends a REM.',
    schema: Type.Object(
      {
        rec,
        index: word('1 to 4.'),
        size: word('How many bytes of the value count.'),
        value: hexBytes(VALUE_BYTES, 'The eight registers'),
      },
      closed,
    ),
    example: { index: 1, size: 32, value: '00'.repeat(VALUE_BYTES) },
    run: (_host, realm, _rec, { index, size, value }) =>
      measurementExtend(realm, addressValue(index), addressValue(size), Buffer.from(value, 'hex')),
  }),
  define({
    name: 'RSI_REALM_CONFIG',
    summary: "Writes the Realm's configuration into one of its pages.",
    schema: Type.Object({ rec, ipa: ipaArgument }, closed),
    example: { ipa: '0x40000000' },
    run: (host, realm, _rec, { ipa }) => realmConfig(host, realm, addressValue(ipa)),
  }),
  define({
    name: 'RSI_ATTESTATION_TOKEN_INIT',
    summary: 'Starts an attestation token over a challenge.',
    schema: Type.Object({ rec, challenge: hexBytes(CHALLENGE_BYTES, 'The challenge') }, closed),
    example: { challenge: '00'.repeat(CHALLENGE_BYTES) },
    run: (host, realm, made, { challenge }) => tokenInit(host, realm, made, Buffer.from(challenge, 'hex')),
  }),
  define({
    name: 'RSI_ATTESTATION_TOKEN_CONTINUE',
    summary: "Writes the token's next bytes into a page of the Realm's.",
    schema: Type.Object(
      {
        rec,
        ipa: ipaArgument,
        offset: optionalWord('Where in the page.'),
        size: optionalWord('Bytes at most; a page.'),
      },
      closed,
    ),
    example: { ipa: '0x40000000', offset: 0, size: 4096 },
    run: (host, realm, made, { ipa, offset = 0, size = 4096 }) =>
      tokenContinue(host, realm, made, {
        ipa: addressValue(ipa),
        offset: addressValue(offset),
        size: addressValue(size),
      }),
  }),
]

/** RIPAS and host calls: what the host hears of. */
const exitingCalls = (define: DefineGuestCall): readonly Call[] => [
  define({
    name: 'RSI_IPA_STATE_SET',
    summary: 'Asks for a range of IPAs to be EMPTY (shared) or RAM (private).',
    schema: Type.Object(
      {
        rec,
        base: word('First IPA.'),
        top: word('IPA after the last.'),
        ripas: RIPAS_ARGUMENT,
        flags: optionalWord('1 CHANGE_DESTROYED: DESTROYED pages too; 0 stops at them.'),
      },
      closed,
    ),
    example: { base: '0x40200000', top: '0x40400000', ripas: 'EMPTY', flags: 1 },
    run: (_host, realm, made, { base, top, ripas, flags = 0 }) =>
      ipaStateSet(realm, made, {
        base: addressValue(base),
        top: addressValue(top),
        ripas: ripasValue(ripas),
        flags: addressValue(flags),
      }),
  }),
  define({
    name: 'RSI_IPA_STATE_GET',
    summary: 'Says what RIPAS an IPA has, and how far that goes.',
    schema: Type.Object({ rec, start: word('First IPA.'), end: word('IPA after the last.') }, closed),
    example: { start: '0x40000000', end: '0x40400000' },
    run: (_host, realm, _rec, { start, end }) => ipaStateGet(realm, addressValue(start), addressValue(end)),
  }),
  define({
    name: 'RSI_HOST_CALL',
    summary: "Exits to the host with a structure of the Realm's.",
    schema: Type.Object({ rec, ipa: word('IPA of RsiHostCall, aligned to 256.') }, closed),
    example: { ipa: '0x40000000' },
    run: (host, realm, made, { ipa }) => hostCall(host, realm, made, addressValue(ipa)),
  }),
]

const PSCI_SUMMARY: Readonly<Record<PsciName, string>> = {
  PSCI_VERSION: 'Asks for the version of PSCI.',
  PSCI_CPU_SUSPEND: 'Suspends the REC; the host hears of it.',
  PSCI_CPU_OFF: 'Switches the REC off: it is not runnable.',
  PSCI_CPU_ON: 'Switches another REC on, once the host has completed it.',
  PSCI_AFFINITY_INFO: 'Asks whether a REC is on, once the host has completed it.',
  PSCI_SYSTEM_OFF: 'Ends the Realm: SYSTEM_OFF.',
  PSCI_SYSTEM_RESET: 'Ends the Realm like PSCI_SYSTEM_OFF: there is no reset.',
  PSCI_FEATURES: 'Asks whether there is a PSCI call.',
}

const PSCI_EXAMPLES: Readonly<Partial<Record<PsciName, Readonly<Record<string, Word>>>>> = {
  PSCI_CPU_ON: { target_cpu: 1, entry_point_address: '0x40000000' },
  PSCI_AFFINITY_INFO: { target_affinity: 1 },
  PSCI_FEATURES: { psci_func_id: '0x84000008' },
}

const PSCI_ARGUMENTS: Readonly<Record<PsciName, Readonly<Record<string, string>>>> = {
  PSCI_VERSION: {},
  PSCI_CPU_SUSPEND: { x1: 'power_state', x2: 'entry_point_address', x3: 'context_id' },
  PSCI_CPU_OFF: {},
  PSCI_CPU_ON: { x1: 'target_cpu', x2: 'entry_point_address', x3: 'context_id' },
  PSCI_AFFINITY_INFO: { x1: 'target_affinity', x2: 'lowest_affinity_level' },
  PSCI_SYSTEM_OFF: {},
  PSCI_SYSTEM_RESET: {},
  PSCI_FEATURES: { x1: 'psci_func_id' },
}

/** PSCI calls take their arguments under the names of the PSCI specification; what isn't given is 0. */
const psciCalls = (define: DefineGuestCall): readonly Call[] =>
  (Object.keys(PSCI) as PsciName[]).map((name) => {
    const { x1 = '', x2 = '', x3 = '' } = PSCI_ARGUMENTS[name]
    const named = Object.entries(PSCI_ARGUMENTS[name])
    return define({
      name,
      summary: PSCI_SUMMARY[name],
      schema: Type.Object(
        { rec, ...Object.fromEntries(named.map(([register, key]) => [key, optionalWord(register.toUpperCase())])) },
        closed,
      ),
      example: PSCI_EXAMPLES[name] ?? {},
      run(_host, realm, made, args) {
        const given = args as Readonly<Record<string, Word | undefined>>
        const register = (key: string): bigint => addressValue(given[key] ?? 0)
        return psciCall(realm, made, name, { x1: register(x1), x2: register(x2), x3: register(x3) })
      },
    })
  })

export const guestCalls = (define: DefineGuestCall): readonly Call[] => [
  ...informationCalls(define),
  ...exitingCalls(define),
  ...psciCalls(define),
]
