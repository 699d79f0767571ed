import type { Socket } from 'node:net'
import { ServiceError } from '../routes/errors.ts'
import type { ServiceCode } from '../routes/problem-codes.ts'
import { PROBLEM_TYPE, problemOf } from './problems.ts'

const CODES: Readonly<Record<string, ServiceCode>> = {
  ERR_HTTP_REQUEST_TIMEOUT: 'request-timeout',
  HPE_HEADER_OVERFLOW: 'headers-too-large',
}

/** Answers bytes that are not a request, before there is any request: written raw, and the connection is closed. */
export function answerClientError(error: Error & { code?: string }, socket: Socket, requestId: string): void {
  if (error.code === 'ECONNRESET' || socket.destroyed) return
  if (!socket.writable) {
    socket.destroy()
    return
  }
  const { document } = problemOf(new ServiceError(CODES[error.code ?? ''] ?? 'malformed-request'), requestId)
  const body = JSON.stringify(document)
  socket.end(
    `HTTP/1.1 ${document.status} ${document.title}\r\nContent-Type: ${PROBLEM_TYPE}; charset=utf-8\r\n` +
      `Content-Length: ${Buffer.byteLength(body)}\r\nConnection: close\r\nX-Content-Type-Options: nosniff\r\n\r\n${body}`,
    () => socket.destroy(),
  )
}
