import type { HwRefusal } from '../contract.ts'

export type Refused = { readonly ok: false; readonly refusal: HwRefusal }

/** A refusal of an image, a plan or a measurement. `pointer` names the field where the caller has one. */
export const refuse = (code: string, detail: string, pointer?: string): Refused => ({
  ok: false,
  refusal: { errno: 'EINVAL', code, detail, ...(pointer !== undefined && { pointer }) },
})
