import Type from 'typebox'
import { ERRNO } from '../../hw/shared/errno.ts'
import { PROBLEM_ERRORS } from '../limits.ts'
import { StatusCode } from './exit.ts'

/** The schema of a problem document (RFC 9457). */
export const ProblemSchema = Type.Object(
  {
    type: Type.String({ description: 'Names the kind of problem: `urn:gmemd:problem:` and the code.' }),
    title: Type.String({ description: 'The kind of problem in words.' }),
    status: Type.Integer({ minimum: 400, maximum: 599, description: 'The HTTP status again.' }),
    detail: Type.String({ description: 'What was wrong with this request.' }),
    code: Type.String({ description: 'A stable name of the reason, from docs/errors.md.' }),
    requestId: Type.String({ description: 'The log has entries under this id.' }),
    errno: Type.Optional(Type.Enum(Object.keys(ERRNO), { description: 'What the system call would have returned.' })),
    hardware: Type.Optional(
      Type.Object(
        { status: Type.String(), code: StatusCode },
        { description: 'What the emulated hardware answered.', additionalProperties: false },
      ),
    ),
    currentState: Type.Optional(Type.String({ description: 'The state that does not allow the request.' })),
    allowedStates: Type.Optional(Type.Array(Type.String(), { description: 'The states that would.' })),
    errors: Type.Optional(
      Type.Array(
        Type.Object(
          {
            in: Type.Enum(['body', 'query', 'path', 'headers'], { description: 'The part of the request.' }),
            pointer: Type.String({ description: 'RFC 6901 pointer to the field in that part.' }),
            detail: Type.String(),
          },
          { additionalProperties: false },
        ),
        { maxItems: PROBLEM_ERRORS, description: 'Every field at fault.' },
      ),
    ),
    progress: Type.Optional(
      Type.Object(
        { seq: Type.Optional(Type.Integer()) },
        {
          description:
            'What the request had done before it was refused, and what the hardware gave back with the refusal. With ' +
            '`seq` it had changed something, which stays.',
          additionalProperties: true,
        },
      ),
    ),
  },
  {
    $id: 'Problem',
    description: 'A problem document (RFC 9457).',
    additionalProperties: false,
    examples: [
      {
        type: 'urn:gmemd:problem:no-such-vm',
        title: 'There is no such thing',
        status: 404,
        detail: 'There is no vm "vm-7".',
        code: 'no-such-vm',
        requestId: 'mh3x-2f',
      },
    ],
  },
)

const DESCRIPTIONS = {
  400: 'The request is malformed; `errors` names every bad field.',
  404: 'There is no such thing.',
  405: 'The path does not take this method.',
  409: 'The current state does not allow this.',
  412: 'The If-Match precondition does not hold.',
  413: 'The body is too large.',
  415: 'The body has an unsupported media type.',
  422: 'Well-formed, and refused by the rules of the kernel: `errno` says how.',
  503: 'The service is not ready or could not write its journal.',
  507: 'The storage is full.',
} as const

export type ProblemStatus = keyof typeof DESCRIPTIONS

/** Statuses that any operation can answer with. They are documented once, as `default`, on every one. */
export const UNIVERSAL_STATUSES: readonly number[] = [400, 405, 408, 413, 414, 415, 429, 431, 500, 503]

const problemResponse = (description: string) => ({
  description,
  content: { 'application/problem+json': { schema: Type.Unsafe({ $ref: 'Problem#' }) } },
})

/** The `default` response of every operation. The server adds it to routes by itself. */
export const defaultProblemResponse = problemResponse(
  'The request was refused before the operation, or the service failed: see the problem document.',
)

/** Problem responses for a route's schema: `response: { 200: Vm, ...problems(404, 409) }`. */
export function problems<Status extends ProblemStatus>(
  ...statuses: readonly Status[]
): Record<Status, ReturnType<typeof problemResponse>> {
  const entries = statuses.map((status) => [status, problemResponse(DESCRIPTIONS[status])])
  return Object.fromEntries(entries) as Record<Status, ReturnType<typeof problemResponse>>
}

/** The same for a mutation: state, an Idempotency-Key, the kernel and the disk can refuse any of them. */
export const mutationProblems = <Status extends ProblemStatus = never>(...statuses: readonly Status[]) =>
  problems<Status | 409 | 422 | 507>(...statuses, 409, 422, 507)
