/** The same bytes as a plain array: `slice` of a Buffer is a window into it, of an array a copy. */
export const plain = (bytes: Buffer): Uint8Array => new Uint8Array(bytes.buffer, bytes.byteOffset, bytes.length)
