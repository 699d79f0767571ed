/** A gmemd at some address, spoken to with nothing but fetch. */
export class Gmemd {
  readonly url: string

  constructor(url: string) {
    this.url = url.replace(/\/$/, '')
  }

  /** Any answer at all, with its status. */
  async send(method: string, path: string, body?: unknown, headers: Record<string, string> = {}): Promise<Answer> {
    const json = body === undefined ? {} : { body: JSON.stringify(body) }
    const type = body === undefined ? {} : { 'content-type': 'application/json' }
    return this.#fetch(path, { method, headers: { ...type, ...headers }, ...json })
  }

  get<T>(path: string): Promise<T> {
    return this.#expect<T>(path, { method: 'GET' })
  }

  post<T>(path: string, body: unknown = {}, headers: Record<string, string> = {}): Promise<T> {
    const type = { 'content-type': 'application/json' }
    return this.#expect<T>(path, { method: 'POST', headers: { ...type, ...headers }, body: JSON.stringify(body) })
  }

  put<T>(path: string, body: unknown): Promise<T> {
    const headers = { 'content-type': 'application/json' }
    return this.#expect<T>(path, { method: 'PUT', headers, body: JSON.stringify(body) })
  }

  delete<T>(path: string): Promise<T> {
    return this.#expect<T>(path, { method: 'DELETE' })
  }

  /** Raw bytes as the body: a firmware image. */
  postBytes<T>(path: string, bytes: Uint8Array): Promise<T> {
    const headers = { 'content-type': 'application/octet-stream' }
    return this.#expect<T>(path, { method: 'POST', headers, body: new Uint8Array(bytes) })
  }

  /** A JSON request in the part "request", with files beside it that it names as `{"part": "name"}`. */
  postFiles<T>(path: string, request: unknown, files: Readonly<Record<string, Uint8Array>>): Promise<T> {
    const form = new FormData()
    form.set('request', new Blob([JSON.stringify(request)], { type: 'application/json' }))
    for (const [name, bytes] of Object.entries(files)) form.set(name, new Blob([new Uint8Array(bytes)]), name)
    return this.#expect<T>(path, { method: 'POST', body: form })
  }

  async #fetch(path: string, init: RequestInit): Promise<Answer> {
    const response = await fetch(`${this.url}${path}`, init)
    return { status: response.status, body: (await response.json()) as Problem }
  }

  /** Types are the caller's word for what the API documents; anything but a 2xx is an error with gmemd's own words. */
  async #expect<T>(path: string, init: RequestInit): Promise<T> {
    const { status, body } = await this.#fetch(path, init)
    if (status < 300) return body as T
    throw new Error(
      `${init.method} ${path}: ${status} ${body.code}: ${body.detail} ${JSON.stringify(body.errors ?? '')}`,
    )
  }
}

/** An RFC 9457 problem document, where the status is an error. */
export type Problem = {
  readonly code?: string
  readonly detail?: string
  readonly errno?: string
  readonly errors?: readonly unknown[]
  readonly currentState?: string
}
export type Answer = { readonly status: number; readonly body: Problem }

export const base64 = (text: string): string => Buffer.from(text).toString('base64')
/** Text of base64 bytes, without the zeros after it. */
export const textOf = (data = ''): string => Buffer.from(data, 'base64').toString('latin1').replace(/\0+$/, '')
export const hex = (address: number): string => `0x${address.toString(16)}`
