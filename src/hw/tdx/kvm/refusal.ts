import type { HwRefusal, Verdict } from '../../contract.ts'
import type { Errno } from '../../shared/errno.ts'
import type { Answer } from '../module/answer.ts'

export const OK: Verdict = { ok: true, value: undefined }

/** KVM's own refusal: no SEAMCALL was made. */
export const refuse = (
  errno: Errno,
  code: string,
  detail: string,
  pointer?: string,
): { readonly ok: false; readonly refusal: HwRefusal } => ({
  ok: false,
  refusal: { errno, code, detail, ...(pointer === undefined ? {} : { pointer }) },
})

/** A SEAMCALL that the module refused: its status is the ioctl's hw_error (intel-tdx.md g). */
export const seamcallRefused = (
  errno: Errno,
  call: string,
  { status }: Answer,
  pointer?: string,
): { readonly ok: false; readonly refusal: HwRefusal } => ({
  ok: false,
  refusal: {
    errno,
    code: 'seamcall-refused',
    detail: `${call} answered ${status.name} (${status.code}).`,
    hardware: { status: status.name, code: status.code },
    ...(pointer === undefined ? {} : { pointer }),
  },
})
