import assert from 'node:assert/strict'
import { test } from 'node:test'
import { aim, documentedExamples, type Operation } from '../support/examples.ts'
import { service } from '../support/service.ts'

test('every operation with a JSON body has examples, and they work when sent', async (t) => {
  const all = await service(t)
  const examples = documentedExamples(all)
  assert.ok(examples.length > 30)
  for (const example of examples) {
    const { url, text } = await aim(all, example)
    const answer = await all.send(example.method, url, JSON.parse(text))
    // A call refuses by its own rules what comes at the wrong moment; the form of the request is right.
    const isCall = example.operationId === 'makeCall' && (answer.status !== 400 || answer.body.code === 'no-such-call')
    assert.ok(isCall || answer.status < 300, `${example.operationId} ${text}: ${answer.text}`)
  }
})

test('every operation says what it is', async (t) => {
  const { app } = await service(t)
  const { paths } = app.swagger() as unknown as { paths: Record<string, Record<string, Operation>> }
  for (const operation of Object.values(paths).flatMap((methods) => Object.values(methods))) {
    assert.match(operation.operationId, /^[a-z][A-Za-z]+$/)
    assert.equal(operation.tags?.length, 1, operation.operationId)
    assert.ok((operation.summary ?? '').length > 5, operation.operationId)
  }
})
