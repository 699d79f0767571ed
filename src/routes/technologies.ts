import Type from 'typebox'
import { notFound } from '../domain/refusal.ts'
import type { Backend } from '../hw/contract.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import type { Json } from './mutation.ts'
import { TechnologyParams } from './schemas/names.ts'
import { closed, nullable, openObject } from './schemas/output.ts'
import { listOf, PageQuery } from './schemas/pagination.ts'
import { problems } from './schemas/problem.ts'

const tags = ['technologies']

const Properties = closed(
  {
    mappable: Type.Boolean({ description: 'Host userspace may map private memory.' }),
    movable: Type.Boolean({ description: 'The kernel may move a private page by plain copy.' }),
    reclaimable: Type.Boolean({ description: 'The kernel may swap a private page out.' }),
    inPlace: Type.Boolean({ description: 'A conversion keeps the physical page.' }),
    contents: Type.Enum(['kept', 'lost', 'own-store'], { description: 'What a conversion does to contents.' }),
    implicitConversion: Type.Boolean({ description: 'An access of the other kind is reported for conversion.' }),
    accessKind: Type.Enum(['access', 'record'], { description: 'Where the kind of a guest access comes from.' }),
    guestAccepts: Type.Boolean({ description: 'The guest must accept a private page before it can use it.' }),
    hostTold: Type.Boolean({ description: 'The host is told of conversions.' }),
    population: Type.Enum(['fallocate', 'measured'], { description: 'How memory gets its first contents.' }),
    launchDigest: nullable(Type.String({ description: 'The digest of a measured launch.' })),
    populateErrno: Type.String({ description: 'errno of a measured population that did nothing.' }),
    pageSizes: Type.Array(Type.Enum(['4K', '2M', '1G'])),
    initialState: Type.String({ description: 'The state that a populated page starts in.' }),
    keyName: nullable(Type.String({ description: 'What its keys are called.' })),
  },
  { description: 'What the technology is, in words that are the same for all.' },
)

const callMembers = { name: Type.String(), by: Type.Enum(['guest', 'host']), summary: Type.String() }
const members = { technology: Type.String(), title: Type.String(), properties: Properties }
const Technology = closed({ ...members, calls: Type.Array(closed(callMembers)) }, { description: 'A technology.' })
const schema = openObject('A JSON Schema.')
const FullTechnology = closed(
  {
    ...members,
    calls: Type.Array(closed({ ...callMembers, schema, example: openObject('Arguments that work.') })),
    configSchema: schema,
    launch: closed({ update: schema, finish: schema, image: nullable(schema) }),
  },
  { description: 'A technology with the schemas of all that is its own.' },
)

/** What can be emulated. */
export function technologyRoutes(app: Routes, { backends }: Api): void {
  app.get(
    '/v1/technologies',
    {
      schema: {
        operationId: 'listTechnologies',
        tags,
        summary: 'List technologies',
        querystring: PageQuery,
        response: { 200: listOf(Technology, 'Technologies by name.') },
      },
    },
    ({ query }) => listPage(backends.values(), query, ({ technology }) => technology, present),
  )

  app.get(
    '/v1/technologies/:technology',
    {
      schema: {
        operationId: 'getTechnology',
        tags,
        summary: 'Read a technology with its calls and schemas',
        params: TechnologyParams,
        response: { 200: FullTechnology, ...problems(404) },
      },
    },
    ({ params }) => presentFully(backends.get(params.technology) ?? unwrap(notFound('technology', params.technology))),
  )
}

const present = ({ technology, title, properties, calls }: Backend): Json => ({
  technology,
  title,
  properties,
  calls: calls.map(({ name, by, summary }) => ({ name, by, summary })),
})

const presentFully = (backend: Backend): Json => ({
  ...present(backend),
  calls: backend.calls.map(({ run: _, ...call }) => call),
  configSchema: backend.configSchema,
  launch: { ...backend.launch, image: backend.launch.image ?? null },
})
