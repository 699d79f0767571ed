import type { HwRefusal, Verdict } from '../../contract.ts'
import type { Errno } from '../../shared/errno.ts'
import type { Answer } from '../rmm/answer.ts'

export const OK: Verdict = { ok: true, value: undefined }

/** KVM's own refusal: no command was given to the RMM. */
export const refuse = (
  errno: Errno,
  code: string,
  detail: string,
  pointer?: string,
): { readonly ok: false; readonly refusal: HwRefusal } => ({
  ok: false,
  refusal: { errno, code, detail, ...(pointer === undefined ? {} : { pointer }) },
})

/** A command that the RMM refused: ENXIO to userspace (arm-cca.md 9). */
export const rmiRefused = (
  command: string,
  { status }: Answer,
): { readonly ok: false; readonly refusal: HwRefusal } => ({
  ok: false,
  refusal: {
    errno: 'ENXIO',
    code: 'rmi-refused',
    detail: `${command} answered ${status.name} (${status.code}).`,
    hardware: { status: status.name, code: status.code },
  },
})
