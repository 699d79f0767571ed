import { Type } from 'typebox'
import type { Call } from '../../contract.ts'
import { interrupt, vpAddcx, vpCreate, vpEnter, vpFlush, vpInit } from '../module/vp.ts'
import {
  addressValue,
  closed,
  defineSeamcall,
  lpArgument,
  lpOf,
  optionalWord,
  pageArgument,
  tdrArgument,
  tdrWord,
  tdvprArgument,
  tdvprWord,
} from './call-definition.ts'

const ofVcpu = Type.Object({ tdvpr: tdvprArgument, lp: lpArgument }, closed)

const CREATE = defineSeamcall({
  name: 'TDH.VP.CREATE',
  summary: 'Makes a free page the TDVPR of a new vCPU.',
  schema: Type.Object({ page: pageArgument('the free page, RCX'), tdr: tdrArgument }, closed),
  example: { page: '0x8010000', tdr: '0x8000000' },
  run: (host, { page, tdr }, guest) => vpCreate(host, addressValue(page), tdrWord(host, guest, tdr)),
})

const ADDCX = defineSeamcall({
  name: 'TDH.VP.ADDCX',
  summary: "Gives a new vCPU one more page for the module's records of it.",
  schema: Type.Object({ page: pageArgument('the free page, RCX'), tdvpr: pageArgument('the TDVPR, RDX') }, closed),
  example: { page: '0x8011000', tdvpr: '0x8010000' },
  run: (host, { page, tdvpr }) => vpAddcx(host, addressValue(page), addressValue(tdvpr)),
})

const INIT = defineSeamcall({
  name: 'TDH.VP.INIT',
  summary: 'Initialises a vCPU; it is associated with the logical processor from now on.',
  schema: Type.Object(
    {
      tdvpr: pageArgument('the TDVPR, RCX'),
      initialRcx: optionalWord('What the guest finds in RCX and R8, RDX here; 0 by default.'),
      lp: lpArgument,
    },
    closed,
  ),
  example: { tdvpr: '0x8010000', initialRcx: '0x809000' },
  run: (host, { tdvpr, initialRcx = 0, lp = 0 }) => vpInit(host, addressValue(tdvpr), addressValue(initialRcx), lp),
})

const ENTER = defineSeamcall({
  name: 'TDH.VP.ENTER',
  summary: 'Enters a vCPU. It stays inside until a call of its guest exits or INTERRUPT makes it leave.',
  schema: ofVcpu,
  example: {},
  run(host, { tdvpr, lp }, guest) {
    const page = tdvprWord(host, guest, tdvpr)
    return vpEnter(host, page, lpOf(host, page, lp))
  },
})

const FLUSH = defineSeamcall({
  name: 'TDH.VP.FLUSH',
  summary: 'Ends the association of a vCPU with its logical processor.',
  schema: ofVcpu,
  example: {},
  run(host, { tdvpr, lp }, guest) {
    const page = tdvprWord(host, guest, tdvpr)
    return vpFlush(host, page, lpOf(host, page, lp))
  },
})

const INTERRUPT = defineSeamcall({
  name: 'INTERRUPT',
  summary:
    'An IPI to the logical processor of a vCPU that VP.ENTER put inside: it leaves, and VP.ENTER answers 0x1. No SEAMCALL.',
  schema: Type.Object({ tdvpr: tdvprArgument }, closed),
  example: {},
  run: (host, { tdvpr }, guest) => interrupt(host, tdvprWord(host, guest, tdvpr)),
})

export const VCPU_CALLS: readonly Call[] = [CREATE, ADDCX, INIT, ENTER, FLUSH, INTERRUPT]
