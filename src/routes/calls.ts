import Type, { type TProperties, type TSchema } from 'typebox'
import type { CommandOf } from '../domain/commands.ts'
import type { Host } from '../domain/host.ts'
import { invalid } from '../domain/refusal.ts'
import type { Call } from '../hw/contract.ts'
import type { Api, Routes } from './api.ts'
import { unwrap } from './errors.ts'
import { BULK_BODY_BYTES } from './limits.ts'
import { mutation } from './mutation.ts'
import { vmRevision } from './reading.ts'
import { checker, checksFirst } from './schemas/checked-later.ts'
import { Status } from './schemas/exit.ts'
import { GuardedMutationHeaders } from './schemas/headers.ts'
import { VmParams } from './schemas/names.ts'
import { closed, mutatedOpen, openObject } from './schemas/output.ts'
import { mutationProblems } from './schemas/problem.ts'

const by = Type.Enum(['guest', 'host'], { description: "Who executes it; the call's own side where nothing is said." })
const vcpu = Type.Integer({ minimum: 0, maximum: 511, default: 0 })
const common = { by: Type.Optional(by), vcpu: Type.Optional(vcpu) }

/** What any call has; its arguments are checked when the technology is known. */
const AnyCall = openObject('A call.', { call: Type.String({ minLength: 1 }), ...common })
type Body = { readonly call: string; readonly by?: 'guest' | 'host'; readonly vcpu?: number }

const Called = mutatedOpen(
  { call: Type.String(), status: Status },
  'The status and the outputs of the call, under their own names.',
)

/** Raw calls of the emulated hardware, each with its own arguments. */
export function callRoutes(app: Routes, { engine, backends }: Api): void {
  const execute = mutation<CommandOf<'call'>>(engine, { revision: vmRevision })
  const known = new Map(
    [...backends].map(([technology, { calls }]) => [
      technology,
      new Map(calls.map((call) => [call.name, { call, check: checker(app, bodyOf(call)) }])),
    ]),
  )

  /** The call's own side, once the arguments are what it takes. */
  const checkedSide = ({ state }: Host, body: Body): 'guest' | 'host' => {
    const found = known.get(state.technology)?.get(body.call)
    if (found === undefined) {
      return unwrap(invalid('no-such-call', `${state.technology} has no call "${body.call}".`, '/call'))
    }
    found.check(body)
    return found.call.by
  }

  app.post(
    '/v1/vms/:vm/calls',
    {
      bodyLimit: BULK_BODY_BYTES,
      validatorCompiler: checksFirst(app, 'body', AnyCall),
      schema: {
        operationId: 'makeCall',
        tags: ['calls'],
        summary: 'Make one raw call of the hardware',
        params: VmParams,
        headers: GuardedMutationHeaders,
        body: documentedBody([...backends.values()].flatMap(({ calls }) => calls)),
        response: { 200: Called, ...mutationProblems(404, 412) },
      },
    },
    (request, reply) => {
      const { vm } = request.params
      const host = engine.hostOfVm(vm)
      const { call, by: asked, vcpu: on = 0, ...args } = request.body
      const side = host === undefined ? 'guest' : checkedSide(host, request.body)
      return execute(request, reply, host, { type: 'call', vm, vcpu: on, call, by: asked ?? side, args })
    },
  )
}

const propertiesOf = (schema: TSchema): TProperties =>
  'properties' in schema ? (schema.properties as TProperties) : {}

const bodyOf = ({ name, summary, schema, example }: Call) =>
  closed(
    { call: Type.Literal(name), ...common, ...propertiesOf(schema) },
    { title: name, description: summary, examples: [{ call: name, ...example }] },
  )

/** One form of the body for each call; technologies that share a call share its form. */
function documentedBody(calls: readonly Call[]) {
  const forms = new Map(calls.map((call) => [JSON.stringify(bodyOf(call)), bodyOf(call)]))
  const [first] = calls
  return Type.Unsafe<Body & Readonly<Record<string, unknown>>>({
    oneOf: [...forms.values()],
    discriminator: { propertyName: 'call' },
    examples: first === undefined ? [] : [{ call: first.name, ...first.example }],
  })
}
