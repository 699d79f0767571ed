import type { FastifyInstance } from 'fastify'
import { accessRoutes } from './accesses.ts'
import type { Api, RequestTypes } from './api.ts'
import { hostRoutes } from './hosts.ts'
import { memfileRangeRoutes } from './memfile-ranges.ts'
import { memfileRoutes } from './memfiles.ts'
import { memslotRoutes } from './memslots.ts'
import { pageStateRoutes } from './page-states.ts'
import { technologyRoutes } from './technologies.ts'
import { vmRoutes } from './vms.ts'

const RESOURCES = [
  technologyRoutes,
  hostRoutes,
  vmRoutes,
  memfileRoutes,
  memfileRangeRoutes,
  memslotRoutes,
  pageStateRoutes,
  accessRoutes,
]

/** Registers everything under /v1. */
export async function registerRoutes(app: FastifyInstance, api: Api): Promise<void> {
  const routes = app.withTypeProvider<RequestTypes>()
  for (const resource of RESOURCES) await resource(routes, api)
}
