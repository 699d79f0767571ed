import Type, { type Static } from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import { presentWaiting } from '../domain/present.ts'
import { invalid, notFound } from '../domain/refusal.ts'
import { ERRNO } from '../hw/shared/errno.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { listPage } from './listing.ts'
import { mutation } from './mutation.ts'
import { hostOfVm, read, vmOf, vmRevision } from './reading.ts'
import { Exit } from './schemas/exit.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { ExitParams, VmParams } from './schemas/names.ts'
import { closed, mutated, openObject } from './schemas/output.ts'
import { listOf, PageQuery } from './schemas/pagination.ts'
import { mutationProblems, problems } from './schemas/problem.ts'

const tags = ['accesses']
/** What a VMM that will not convert answers. */
const REFUSED = -ERRNO.EINVAL
/** The kernel's MAX_ERRNO. */
const MAX_ERRNO = 4095

const Resume = closed(
  {
    ret: Type.Optional(
      Type.Union([Type.Integer({ minimum: -MAX_ERRNO, maximum: 0 }), Type.Enum(Object.keys(ERRNO))], {
        'x-expected': `0, a negative errno down to -${MAX_ERRNO}, or the name of one such as "EAGAIN"`,
        description: "The VMM's answer; 0 where nothing is said: what the exit asked for is done.",
      }),
    ),
    refuse: Type.Optional(Type.Literal(true, { description: 'Short for `ret: "EINVAL"`.' })),
  },
  { examples: [{}, { ret: 'EAGAIN' }, { refuse: true }] },
)
const Resumed = mutated(
  {
    exit: Type.String(),
    ret: Type.Integer(),
    result: openObject('What the guest operation then came to: a reply as of its own request, or another exit.'),
  },
  'The vCPU has entered the guest again.',
)

/** Exits that wait until the client, as VMM, has converted what they ask for. */
export function exitRoutes(app: Routes, { engine }: Api): void {
  const resume = mutation<CommandOf<'exit.resume'>>(engine, { revision: vmRevision })

  app.get(
    '/v1/vms/:vm/exits',
    {
      schema: {
        operationId: 'listExits',
        tags,
        summary: 'List the exits that wait for the VMM',
        params: VmParams,
        querystring: PageQuery,
        response: { 200: listOf(Exit, 'Exits in order of their occurrence.'), ...problems(404) },
      },
    },
    ({ params, query }) =>
      read(engine, () => {
        const { exits } = vmOf(hostOfVm(engine, params.vm), params.vm)
        return listPage(exits.values(), query, ({ id }) => id, presentWaiting)
      }),
  )

  app.get(
    '/v1/vms/:vm/exits/:exit',
    {
      schema: {
        operationId: 'getExit',
        tags,
        summary: 'Read an exit that waits for the VMM',
        params: ExitParams,
        response: { 200: Exit, ...problems(404) },
      },
    },
    ({ params: { vm, exit } }) =>
      read(engine, () =>
        presentWaiting(vmOf(hostOfVm(engine, vm), vm).exits.get(exit) ?? unwrap(notFound('exit', exit))),
      ),
  )

  app.post(
    '/v1/vms/:vm/exits/:exit/resume',
    {
      schema: {
        operationId: 'resumeExit',
        tags,
        summary: 'Let the vCPU enter the guest again, with the answer of the VMM',
        params: ExitParams,
        headers: GuardedMutationHeaders,
        body: Resume,
        response: { 200: Resumed, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm, exit } = request.params
      const command = { type: 'exit.resume', vm, exit, ret: answerOf(request.body) } as const
      return resume(request, reply, engine.hostOfVm(vm), command)
    },
  )
}

function answerOf({ ret, refuse }: Static<typeof Resume>): number {
  if (refuse === undefined) return typeof ret === 'string' ? -ERRNO[ret as keyof typeof ERRNO] : (ret ?? 0)
  if (ret === undefined) return REFUSED
  return unwrap(invalid('ret-or-refuse', 'A refusal has its own answer; give ret or refuse.', '/refuse'))
}
