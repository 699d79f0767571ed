/**
 * Why an image, a plan or a measurement was refused. Data, never an exception: the caller maps it to its own refusal.
 * `pointer` is a JSON pointer relative to the `inputs` object; empty where the fault isn't one field's.
 */
export type Fault = { readonly code: string; readonly detail: string; readonly pointer: string }
export type Refused = { readonly ok: false; readonly fault: Fault }

export const refused = (code: string, detail: string, pointer = ''): Refused => ({
  ok: false,
  fault: { code, detail, pointer },
})
