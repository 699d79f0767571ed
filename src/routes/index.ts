import type { FastifyInstance } from 'fastify'
import { accessRoutes } from './accesses.ts'
import { accountingRoutes } from './accounting.ts'
import type { Api, RequestTypes } from './api.ts'
import { attestationRoutes } from './attestation.ts'
import { attributeRoutes } from './attributes.ts'
import { callRoutes } from './calls.ts'
import { eventRoutes } from './events.ts'
import { exitRoutes } from './exits.ts'
import { hostRoutes } from './hosts.ts'
import { journalRoutes } from './journal.ts'
import { launchRoutes } from './launch.ts'
import { launchImageRoutes } from './launch-image.ts'
import { mappingRoutes } from './mappings.ts'
import { measurementRoutes } from './measurements.ts'
import { memfileRangeRoutes } from './memfile-ranges.ts'
import { memfileRoutes } from './memfiles.ts'
import { memslotRoutes } from './memslots.ts'
import { pageRunRoutes } from './page-runs.ts'
import { pageStateRoutes } from './page-states.ts'
import { pageRoutes } from './pages.ts'
import { pinRoutes } from './pins.ts'
import { technologyRoutes } from './technologies.ts'
import { vmRoutes } from './vms.ts'

const RESOURCES = [
  technologyRoutes,
  hostRoutes,
  vmRoutes,
  accountingRoutes,
  pageRoutes,
  memfileRoutes,
  memfileRangeRoutes,
  memslotRoutes,
  pageStateRoutes,
  pageRunRoutes,
  attributeRoutes,
  accessRoutes,
  exitRoutes,
  mappingRoutes,
  pinRoutes,
  callRoutes,
  launchRoutes,
  launchImageRoutes,
  measurementRoutes,
  attestationRoutes,
  journalRoutes,
  eventRoutes,
]

/** Registers everything under /v1. */
export async function registerRoutes(app: FastifyInstance, api: Api): Promise<void> {
  const routes = app.withTypeProvider<RequestTypes>()
  for (const resource of RESOURCES) await resource(routes, api)
}
