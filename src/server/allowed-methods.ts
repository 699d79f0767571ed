import type { FastifyInstance } from 'fastify'

/**
 * Learns which methods each path takes as routes are registered, for the Allow header of a 405. Consulted only when
 * the router found nothing, so it costs the requests that are served nothing.
 */
export function trackMethods(app: FastifyInstance): (path: string) => string[] {
  const methodsOf = new Map<string, Set<string>>()
  const patterns = new Map<string, RegExp>()
  app.addHook('onRoute', ({ url, method }) => {
    const methods = methodsOf.get(url) ?? new Set()
    for (const name of Array.isArray(method) ? method : [method]) methods.add(name)
    methodsOf.set(url, methods)
    patterns.set(url, patternOf(url))
  })
  return (path) => {
    const allowed = new Set<string>()
    for (const [url, pattern] of patterns) {
      if (pattern.test(path)) for (const method of methodsOf.get(url) ?? []) allowed.add(method)
    }
    return [...allowed].sort()
  }
}

function patternOf(url: string): RegExp {
  const source = url
    .split('/')
    .map((part) => {
      if (part === '*') return '.*'
      return part.replace(/[.+?^${}()|[\]\\*]/g, '\\$&').replace(/:[A-Za-z_]\w*/g, '[^/]+')
    })
    .join('/')
  return new RegExp(`^${source}$`)
}
