import Type from 'typebox'
import type { Engine } from '../domain/engine.ts'
import { explainPage } from '../domain/explain.ts'
import { invalid } from '../domain/refusal.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import type { Json } from './mutation.ts'
import { runMembers } from './page-runs.ts'
import { hostOfVm, read, vmOf, whenServing } from './reading.ts'
import { AddressOutput } from './schemas/address.ts'
import { Bytes64Text, parseBytes64 } from './schemas/bytes64.ts'
import { Entry, presentEntry } from './schemas/journal-entry.ts'
import { VmId } from './schemas/names.ts'
import { closed, nullable, openObject } from './schemas/output.ts'
import { problems } from './schemas/problem.ts'

/** Journal entries that are shown with a page. */
const HISTORY = 10
const GPA_LIMIT = 2n ** 52n

const PageParams = Type.Object({ vm: VmId, gpa: Bytes64Text })
const address = nullable(AddressOutput)

const Page = closed(
  {
    ...runMembers,
    slot: nullable(Type.Integer()),
    attribute: Type.Enum(['private', 'shared'], { description: "KVM's own attribute of the frame." }),
    privacy: Type.Enum(['populated', 'attributes']),
    memfile: nullable(closed({ id: Type.String(), offset: Type.Integer() })),
    hpa: address,
    privateHpa: address,
    sharedHpa: address,
    mapping: nullable(closed({ hpa: AddressOutput, pageSize: Type.String(), private: Type.Boolean() })),
    tables: openObject("Every hardware table's entry for the page."),
    mappings: Type.Array(Type.String()),
    pins: Type.Array(closed({ id: Type.String(), by: Type.String() })),
    history: Type.Array(Entry, { description: 'What last touched it, newest first.' }),
  },
  { description: 'One guest page, explained.' },
)

/** One page with everything that decides what happens to it. */
export function pageRoutes(app: Routes, { engine }: Api): void {
  app.get(
    '/v1/vms/:vm/pages/:gpa',
    {
      schema: {
        operationId: 'explainPage',
        tags: ['vms'],
        summary: 'Explain one page: slot, backings, hardware tables, holds and history',
        params: PageParams,
        response: { 200: Page, ...problems(404) },
      },
    },
    ({ params }) => explain(engine, params.vm, unwrap(parsePage(params.gpa), 'path')),
  )
}

async function explain(engine: Engine, vm: string, gfn: number): Promise<Json> {
  const page = await read(engine, () => {
    const host = hostOfVm(engine, vm)
    return explainPage(host, vmOf(host, vm), gfn)
  })
  await whenServing(engine)
  const history = await engine.touching(vm, gfn, HISTORY)
  return { ...page, history: history.map(presentEntry) }
}

/** The frame that an address lies in. */
function parsePage(text: string) {
  const spelled = parseBytes64(/^\d+$/.test(text) ? `${text}B` : text, '/gpa')
  if (!spelled.ok) return spelled
  const gpa = BigInt(spelled.value)
  if (gpa < GPA_LIMIT) return { ok: true, value: Number(gpa >> 12n) } as const
  return invalid('gpa-beyond-limit', `${text} is beyond 2^52.`, '/gpa')
}
