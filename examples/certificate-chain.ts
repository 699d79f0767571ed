import type { X509Certificate } from 'node:crypto'

/** Whether each certificate is signed by the next, and the last by itself. */
export const isChain = (certificates: readonly X509Certificate[]): boolean =>
  certificates.every((one, index) => one.verify((certificates[index + 1] ?? one).publicKey))
