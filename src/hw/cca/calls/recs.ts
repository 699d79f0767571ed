import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { type Answer, DONE, done, INPUT } from '../rmm/answer.ts'
import { ENTRY_FLAG, type Entered, PLAIN_ENTRY, readEntry, recEnter } from '../rmm/enter.ts'
import { IRQ, leave } from '../rmm/exits.ts'
import { recAt } from '../rmm/operands.ts'
import { psciComplete } from '../rmm/psci.ts'
import { MAX_AUX } from '../rmm/rec.ts'
import { REC_GPRS, readRecParams, recAuxCount, recCreate, recDestroy } from '../rmm/rec-commands.ts'
import { rsiStatus } from '../status.ts'
import { createWithLentAux, returnPages } from './aux-granules.ts'
import {
  addressArgument,
  addressValue,
  closed,
  defineHostCall,
  optionalWord,
  rdArgument,
  rdWord,
  recArgument,
  recWord,
  type Word,
  word,
} from './call-definition.ts'
import { resumedOutputs } from './outcome.ts'

const words = (maxItems: number, description: string) =>
  Type.Optional(Type.Array(word('A 64-bit word.'), { maxItems, description }))
const values = (given: readonly Word[] | undefined): bigint[] => (given ?? []).map((value) => addressValue(value))

const CREATE = defineHostCall({
  name: 'RMI_REC_CREATE',
  summary: 'Makes the next REC of a NEW Realm. A runnable one is measured.',
  schema: Type.Object(
    {
      rd: rdArgument,
      rec: addressArgument('the DELEGATED granule'),
      params: optionalWord(
        'Host page with RmiRecParams. Without it they are the fields here, zero where none is given.',
      ),
      flags: optionalWord('Bit 0: runnable.'),
      mpidr: optionalWord('Affinity of the next REC: 0, 1, 2 …, 0x100 after 0xf.'),
      pc: optionalWord('Where it starts.'),
      gprs: words(REC_GPRS, 'X0 to X7.'),
      aux: words(
        MAX_AUX,
        'The DELEGATED auxiliary granules. Without them the host lends pages of its own, until the REC is destroyed.',
      ),
    },
    closed,
  ),
  example: { rd: '0x8000000', rec: '0x8001000', flags: 1, mpidr: 0, pc: '0x40000000' },
  run(host, { rd, rec, params: page, flags = 0, mpidr = 0, pc = 0, gprs, aux }, guest) {
    const own = rdWord(host, guest, rd)
    const address = addressValue(rec)
    if (page !== undefined) {
      const params = readRecParams(host, addressValue(page))
      return params.ok ? recCreate(host, own, address, params.value) : params.answer
    }
    const x = values(gprs)
    const fields = {
      flags: addressValue(flags),
      mpidr: addressValue(mpidr),
      pc: addressValue(pc),
      gprs: Array.from({ length: REC_GPRS }, (_, index) => x[index] ?? 0n),
    }
    if (aux === undefined) return createWithLentAux(host, own, address, fields)
    return recCreate(host, own, address, { ...fields, numAux: aux.length, aux: values(aux) })
  },
})

const DESTROY = defineHostCall({
  name: 'RMI_REC_DESTROY',
  summary: 'Ends a REC that is not inside.',
  schema: Type.Object({ rec: recArgument }, closed),
  example: { rec: '0x8001000' },
  run(host, { rec }, guest) {
    const address = recWord(host, guest, rec)
    const found = recAt(host.data, address)
    const answer = recDestroy(host, address)
    if (answer === DONE && found?.auxLent === true) returnPages(host, found.aux)
    return answer
  },
})

const AUX_COUNT = defineHostCall({
  name: 'RMI_REC_AUX_COUNT',
  summary: 'Says how many auxiliary granules a REC takes.',
  schema: Type.Object({ rd: rdArgument }, closed),
  example: {},
  run: (host, { rd }, guest) => recAuxCount(host, rdWord(host, guest, rd)),
})

const ENTER = defineHostCall({
  name: 'RMI_REC_ENTER',
  summary: 'Enters a REC. It stays inside until its guest exits or IRQ makes it leave; its last exit is answered.',
  schema: Type.Object(
    {
      rec: recArgument,
      run: optionalWord('Host page with RmiRecRun, whose entry half is read. Without it the fields are these.'),
      flags: optionalWord('Bit 0 emul_mmio, 1 inject_sea, 2 trap_wfi, 3 trap_wfe, 4 ripas_response (reject).'),
      gprs: words(31, 'The answer to a host call, or in X0 to a read.'),
      gicv3_hcr: optionalWord('ICH_HCR_EL2.'),
      gicv3_lrs: words(16, 'List registers.'),
    },
    closed,
  ),
  example: {},
  run(host, { rec, run, flags = 0, gprs, gicv3_hcr = 0, gicv3_lrs }, guest) {
    const address = recWord(host, guest, rec)
    const fields = {
      flags: addressValue(flags),
      gprs: values(gprs),
      gicv3Hcr: addressValue(gicv3_hcr),
      gicv3Lrs: values(gicv3_lrs),
    }
    const entry = run === undefined ? { ok: true as const, value: fields } : readEntry(host, addressValue(run))
    if (!entry.ok) return entry.answer
    const entered = recEnter(host, address, entry.value)
    return entered.ok ? done(resumedOutputs(entered.value.resumed)) : entered.answer
  },
})

const AFTER_RIPAS_CHANGE = defineHostCall({
  name: 'RMI_REC_ENTER after RIPAS_CHANGE',
  summary: 'Enters a REC, lets its guest have the answer of RSI_IPA_STATE_SET, and leaves by an interrupt.',
  schema: Type.Object(
    {
      rec: recArgument,
      ripas_response: Type.Optional(
        Type.Integer({
          minimum: 0,
          maximum: 1,
          default: 0,
          description: '1 rejects what of a change to RAM is not done.',
        }),
      ),
    },
    closed,
  ),
  example: {},
  run(host, { rec, ripas_response = 0 }, guest) {
    const flags = ripas_response === 0 ? 0n : ENTRY_FLAG.RIPAS_RESPONSE
    const entered = recEnter(host, recWord(host, guest, rec), { ...PLAIN_ENTRY, flags })
    return entered.ok ? afterEntry(entered.value) : entered.answer
  },
})

function afterEntry({ rec, resumed }: Entered): Answer {
  if (rec.running) leave(rec, IRQ)
  const outputs = resumedOutputs(resumed)
  return resumed.kind === 'ipa-state-set' ? { status: rsiStatus('RSI_SUCCESS'), outputs } : done(outputs)
}

const INTERRUPT = defineHostCall({
  name: 'IRQ',
  summary: 'A physical interrupt: a REC that RMI_REC_ENTER put inside exits. No RMI call.',
  schema: Type.Object({ rec: recArgument }, closed),
  example: {},
  run(host, args, guest) {
    const rec = recAt(host.data, recWord(host, guest, args.rec))
    if (rec === undefined) return INPUT
    const wasInside = rec.running
    if (wasInside) leave(rec, IRQ)
    return done({ exited: wasInside })
  },
})

const PSCI_COMPLETE = defineHostCall({
  name: 'RMI_PSCI_COMPLETE',
  summary: 'Names the REC that a pending PSCI call is about, and allows it or not.',
  schema: Type.Object(
    {
      calling_rec: recArgument,
      target_rec: addressArgument('the REC that the call names'),
      status: Type.Integer({ minimum: -9, maximum: 0, description: '0 PSCI_SUCCESS, -3 PSCI_DENIED.' }),
    },
    closed,
  ),
  example: { target_rec: '0x8001000', status: 0 },
  run: (host, { calling_rec, target_rec, status }, guest) =>
    psciComplete(host, recWord(host, guest, calling_rec), addressValue(target_rec), status),
})

export const REC_CALLS: readonly Call[] = [
  CREATE,
  DESTROY,
  AUX_COUNT,
  ENTER,
  AFTER_RIPAS_CHANGE,
  INTERRUPT,
  PSCI_COMPLETE,
]
