import Type, { type TProperties, type TSchema } from 'typebox'

/** A value of one type that may be null. Cheaper to serialise than a union, which must be told apart. */
export const nullable = <S extends TSchema & { readonly type?: string }>(schema: S) =>
  Type.Unsafe<unknown>({ ...schema, type: [schema.type, 'null'] })

/** An object whose members are the emulated hardware's own. */
export const openObject = (description: string, properties: TProperties = {}) =>
  Type.Object(properties, { description, additionalProperties: true })

export const closed = <P extends TProperties>(properties: P, options: object = {}) =>
  Type.Object(properties, { additionalProperties: false, ...options })

const hostEvent = closed({
  name: Type.String({ examples: ['PSMASH'] }),
  gfn: Type.Optional(Type.Integer()),
  frame: Type.Optional(Type.Integer()),
  detail: Type.Optional(Type.String()),
})

/** What every reply to a mutation carries beside its own members. */
export const mutationMembers = {
  seq: Type.Integer({ minimum: 1, description: 'The journal sequence number that made this durable.' }),
  events: Type.Optional(
    Type.Array(hostEvent, { description: 'What KVM or the firmware did by itself while serving this.' }),
  ),
  hostCrashed: Type.Optional(Type.String({ description: 'The host did not survive: why.' })),
}

/** The reply of a mutation: members of its own, and those that every such reply carries. */
export const mutated = (properties: TProperties, description: string) =>
  closed({ ...properties, ...mutationMembers }, { description })

/** The same where the members are the emulated hardware's own. */
export const mutatedOpen = (properties: TProperties, description: string) =>
  openObject(description, { ...properties, ...mutationMembers })
