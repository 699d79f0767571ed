/** What a command comes to: the errno or code of a refusal, or what can be compared of the reply. */
export type Expected = { readonly refused: string } | { readonly reply: Readonly<Record<string, unknown>> }

export const refuse = (refused: string): Expected => ({ refused })
export const reply = (value: Readonly<Record<string, unknown>> = {}): Expected => ({ reply: value })
