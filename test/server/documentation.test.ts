import assert from 'node:assert/strict'
import { test } from 'node:test'
import { compose } from '../../src/server/compose.ts'
import { readConfig } from '../../src/server/config.ts'
import { Lifecycle } from '../../src/server/lifecycle.ts'
import { testApp } from '../support/app.ts'

type Paths = { readonly paths: Readonly<Record<string, Readonly<Record<string, { readonly operationId: string }>>>> }

test('Swagger UI works from local files under a policy of its own', async (t) => {
  const app = await testApp(t)
  const page = await app.inject({ url: '/docs' })
  assert.equal(page.statusCode, 200)
  assert.match(page.body, /swagger-ui/)
  assert.doesNotMatch(page.body, /https?:\/\/(?!www\.w3\.org)/)
  assert.match(String(page.headers['content-security-policy']), /script-src 'self'/)
  for (const file of ['swagger-ui.css', 'swagger-ui-bundle.js', 'swagger-initializer.js']) {
    assert.equal((await app.inject({ url: `/docs/static/${file}` })).statusCode, 200, file)
  }
  assert.equal((await app.inject({ url: '/docs/json' })).statusCode, 200)
})

test('the API answers under the strictest policy', async (t) => {
  const { headers } = await (await testApp(t)).inject({ url: '/healthz' })
  assert.equal(headers['content-security-policy'], "default-src 'none'; frame-ancestors 'none'")
  assert.equal(headers['x-content-type-options'], 'nosniff')
  assert.equal(headers['cache-control'], 'no-store')
  assert.equal(headers['access-control-allow-origin'], undefined)
  assert.equal(headers['x-powered-by'], undefined)
})

test('health, readiness and metrics', async (t) => {
  const lifecycle = new Lifecycle()
  const health = { ready: () => ({ ok: false, reason: 'the journal is being read' }) }
  const starting = await testApp(t, { health })
  assert.equal((await starting.inject({ url: '/readyz' })).json().detail, 'Not ready: the journal is being read.')
  assert.equal((await starting.inject({ url: '/healthz' })).statusCode, 200)
  const app = await testApp(t, { lifecycle })
  assert.deepEqual((await app.inject({ url: '/readyz' })).json(), { status: 'ready' })
  await app.inject({ url: '/nope' })
  const metrics = await app.inject({ url: '/metrics' })
  assert.match(String(metrics.headers['content-type']), /^text\/plain; version=0\.0\.4/)
  assert.match(metrics.body, /^gmemd_http_requests_total\{method="GET",route="\/readyz",status="200"\} 1$/m)
  assert.match(metrics.body, /^gmemd_http_requests_total\{method="any",route="unmatched",status="404"\} 1$/m)
  lifecycle.fail()
  assert.equal((await app.inject({ url: '/readyz' })).statusCode, 503)
})

test('the route table is the OpenAPI document, exactly', async (t) => {
  const read = readConfig({ GMEMD_DATA: ':memory:' })
  assert.ok(read.ok)
  const { app, steps } = await compose({ config: read.config, lifecycle: new Lifecycle(), processMetrics: false })
  t.after(async () => {
    await app.close()
    for (const step of steps) await step.close()
  })
  const document = app.swagger() as unknown as Paths
  const operations: string[] = []
  for (const [path, methods] of Object.entries(document.paths)) {
    for (const [method, { operationId }] of Object.entries(methods)) {
      operations.push(operationId)
      const url = path.replace(/\{(\w+)\}/g, ':$1')
      assert.ok(app.hasRoute({ method: method.toUpperCase() as 'GET', url }), `${method} ${url} is not served`)
    }
  }
  assert.equal(new Set(operations).size, operations.length, 'operationIds are unique')
  // The router prints one line for each route; those of the documentation page are the only ones outside the document.
  const served = app.printRoutes({ commonPrefix: false, includeHooks: false })
  const count = [...served.matchAll(/\(([A-Z, ]+)\)/g)].flatMap(([, list = '']) => list.split(', '))
  const documentation = (await documentationRoutes(t)).length
  assert.equal(count.filter((method) => method !== 'HEAD').length, operations.length + documentation)
})

/** What the documentation page serves: the routes of an application that has no others but four of the service. */
async function documentationRoutes(t: Parameters<typeof testApp>[0]): Promise<readonly string[]> {
  const app = await testApp(t)
  const served = app.printRoutes({ commonPrefix: false, includeHooks: false })
  const methods = [...served.matchAll(/\(([A-Z, ]+)\)/g)].flatMap(([, list = '']) => list.split(', '))
  return methods.filter((method) => method !== 'HEAD').slice(4)
}

test('an undocumented route does not start', async () => {
  await assert.rejects(
    testApp({ after: () => {} } as unknown as Parameters<typeof testApp>[0], {
      registerRoutes: (app) => void app.get('/bare', () => 'x'),
    }),
    /lacks operationId, summary, tags, response/,
  )
})
