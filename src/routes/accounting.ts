import Type from 'typebox'
import { account } from '../domain/accounting.ts'
import type { Api, Routes } from './api.ts'
import { hostOfVm, read, vmOf } from './reading.ts'
import { VmParams } from './schemas/names.ts'
import { closed } from './schemas/output.ts'
import { problems } from './schemas/problem.ts'

const bytes = (description: string) => Type.Integer({ minimum: 0, description })
const perSlot = {
  private: bytes('Populated in memfiles.'),
  shared: bytes("Populated in the VMM's own memory."),
  both: bytes('Guest memory that has both at once.'),
}

const Accounting = closed(
  {
    ...perSlot,
    pinned: bytes('Under long-term pins.'),
    metadata: bytes("The host's own tables of the technology."),
    slots: Type.Array(closed({ slot: Type.Integer(), ...perSlot })),
  },
  { description: "Where a VM's memory goes, in bytes." },
)

/** Where memory goes. */
export function accountingRoutes(app: Routes, { engine }: Api): void {
  app.get(
    '/v1/vms/:vm/accounting',
    {
      schema: {
        operationId: 'getAccounting',
        tags: ['vms'],
        summary: "Where a VM's memory goes, per slot and in all",
        params: VmParams,
        response: { 200: Accounting, ...problems(404) },
      },
    },
    ({ params }) =>
      read(engine, () => {
        const host = hostOfVm(engine, params.vm)
        return account(host, vmOf(host, params.vm))
      }),
  )
}
