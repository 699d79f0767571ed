import { type TSchema, Type } from 'typebox'

/** Longest base64 text of a file sent inside JSON: 64 MiB of bytes. The server's body limit is usually lower. */
const MAX_BASE64 = 89_478_488
const MAX_PART_NAME = 64

/** An object without any other member. */
export const closed = <T extends Record<string, TSchema>>(properties: T) =>
  Type.Object(properties, { additionalProperties: false })

/** A file: its bytes as base64, or the name of the multipart part that holds them. */
export const FileInput = Type.Union([
  closed({ base64: Type.String({ maxLength: MAX_BASE64, pattern: '^[A-Za-z0-9+/]*={0,2}$' }) }),
  closed({ part: Type.String({ minLength: 1, maxLength: MAX_PART_NAME }) }),
])

/** An unsigned number of at most 64 bits: a hex string, or an integer. */
export const HexOrInteger = Type.Union([
  Type.String({ pattern: '^0x[0-9a-fA-F]{1,16}$', minLength: 3, maxLength: 18 }),
  Type.Integer({ minimum: 0, maximum: Number.MAX_SAFE_INTEGER }),
])
