import assert from 'node:assert/strict'
import path from 'node:path'
import { test } from 'node:test'
import { sourceFiles } from '../support/source-files.ts'

const LONGEST_FILE = 400
const files = sourceFiles()
const named = (check: (file: string, text: string) => boolean): string[] =>
  files.filter(({ file, text }) => check(file, text)).map(({ file }) => file)

test(`no file has more than ${LONGEST_FILE} lines`, () => {
  assert.deepEqual(
    named((_file, text) => text.trimEnd().split('\n').length > LONGEST_FILE),
    [],
  )
})

test('files and folders are named in kebab-case', () => {
  assert.deepEqual(
    named((file) => !/^(?:[a-z0-9]+(?:-[a-z0-9]+)*\/)+[a-z0-9]+(?:-[a-z0-9]+)*\.ts$/.test(file)),
    [],
  )
})

test('a file is named for what it is', () => {
  assert.deepEqual(
    named((file) => /^(?:utils?|helpers?|common|misc|lib|tools?)$/.test(path.basename(file, '.ts'))),
    [],
  )
})

test('nothing is left for later in a comment', () => {
  assert.deepEqual(
    named((_file, text) => /\b(?:TODO|FIXME|XXX|HACK)\b/.test(text)),
    [],
  )
})
