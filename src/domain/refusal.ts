import type { StatusCode } from '../hw/contract.ts'
import type { Errno } from '../hw/shared/errno.ts'

/**
 * Why a command was not accepted. A refusal is data, and a refused command changed nothing.
 * - `invalid`: the request itself is wrong in a way no state could mend; names the field by JSON pointer.
 * - `not-found`: the thing addressed does not exist.
 * - `conflict`: the thing exists, but its current state forbids this.
 * - `kernel`: well-formed, and refused by the kernel's own rules with an errno.
 */
export type RefusalKind = 'invalid' | 'not-found' | 'conflict' | 'kernel'

export type Refusal = {
  readonly kind: RefusalKind
  /** Stable name of the reason, from the table in docs/errors.md. */
  readonly code: string
  readonly detail: string
  readonly errno?: Errno
  /** JSON pointer of the request field at fault. */
  readonly pointer?: string
  /** What the emulated hardware answered when the refusal comes from there. */
  readonly hardware?: { readonly status: string; readonly code: StatusCode }
  /** What the hardware hands back all the same. */
  readonly outputs?: Readonly<Record<string, unknown>>
  readonly currentState?: string
  readonly allowedStates?: readonly string[]
}

export type Result<T> = { readonly ok: true; readonly value: T } | { readonly ok: false; readonly refusal: Refusal }

export const accept = <T>(value: T): Result<T> => ({ ok: true, value })
export const refuse = (refusal: Refusal): Result<never> => ({ ok: false, refusal })

/** A refusal by the kernel's rules, with the errno the system call would have returned. */
export const kernelRefusal = (errno: Errno, code: string, detail: string, pointer?: string): Result<never> =>
  refuse({ kind: 'kernel', code, detail, errno, ...(pointer === undefined ? {} : { pointer }) })

export const notFound = (what: string, id: string): Result<never> =>
  refuse({ kind: 'not-found', code: `no-such-${what}`, detail: `There is no ${what} "${id}".` })

export const conflict = (
  code: string,
  detail: string,
  states: { currentState?: string; allowedStates?: readonly string[] } = {},
): Result<never> => refuse({ kind: 'conflict', code, detail, ...states })

export const invalid = (code: string, detail: string, pointer: string): Result<never> =>
  refuse({ kind: 'invalid', code, detail, pointer })
