import assert from 'node:assert/strict'
import { test } from 'node:test'
import { pino } from 'pino'
import { REDACTED_PATHS } from '../../src/server/log.ts'
import { Metrics } from '../../src/server/metrics.ts'

test('secrets do not reach the log, wherever they are', () => {
  let written = ''
  const write = (line: string) => {
    written += line
  }
  const logger = pino({ redact: [...REDACTED_PATHS] }, { write })
  const secrets = { authorization: 'CANARY', launchSecret: 'CANARY', token: 'CANARY', 'set-cookie': 'CANARY' }
  logger.info({ ...secrets, body: { ...secrets, guest: { ...secrets, id: 'seen' } } }, 'entry')
  assert.doesNotMatch(written, /CANARY/)
  assert.match(written, /seen/)
})

test('commands, groups and pages are counted', async () => {
  const metrics = new Metrics({ processMetrics: false })
  metrics.countCommand('convert', 'accepted')
  metrics.countCommand('convert', 'accepted')
  metrics.countCommand('convert', 'misaligned-size')
  metrics.observeGroup(5, 0.0004)
  metrics.setPagesSource(() => [{ host: 'sev-snp', state: 'private', pages: 512 }])
  const text = await metrics.text()
  assert.match(text, /^gmemd_commands_total\{type="convert",outcome="accepted"\} 2$/m)
  assert.match(text, /^gmemd_commands_total\{type="convert",outcome="misaligned-size"\} 1$/m)
  assert.match(text, /^gmemd_journal_group_records_sum 5$/m)
  assert.match(text, /^gmemd_journal_flush_seconds_bucket\{le="0\.0005"\} 1$/m)
  assert.match(text, /^gmemd_pages\{host="sev-snp",state="private"\} 512$/m)
  assert.equal(await metrics.text(), text)
})
