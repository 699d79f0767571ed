import assert from 'node:assert/strict'
import { test } from 'node:test'
import { operandStatus, SUCCESS, statusOf, statusWith } from '../../../../src/hw/tdx/status.ts'

test('0.1: a code is class and operand in one 64-bit word', () => {
  assert.equal(SUCCESS.code, '0x0')
  assert.equal(operandStatus('TDX_EPT_ENTRY_STATE_INCORRECT', 'RCX').code, '0xc0000b0d00000001')
  assert.equal(operandStatus('TDX_TLB_TRACKING_NOT_DONE', 'RCX').code, '0xc0000b0800000001')
  assert.equal(operandStatus('TDX_TLB_TRACKING_NOT_DONE', 'SEPT_TREE').code, '0xc0000b0800000092')
  assert.equal(operandStatus('TDX_OPERAND_INVALID', 'NUM_L2_VMS').code, '0xc000010000000047')
  assert.equal(operandStatus('TDX_OPERAND_BUSY', 'WBCACHE').code, '0x80000200000000bc')
  assert.equal(statusOf('TDX_TD_FATAL').code, '0xe000060400000000')
  assert.equal(statusWith('TDX_NON_RECOVERABLE_VCPU', 2).code, '0x4000000100000002')
})

test('0.1: informational statuses have no error bit', () => {
  assert.equal(statusWith('TDX_PAGE_ALREADY_ACCEPTED', 1).code, '0xb0a00000001')
  assert.equal(operandStatus('TDX_GPA_RANGE_ALREADY_BLOCKED', 'RCX').code, '0xb0700000001')
  assert.equal(statusOf('TDX_KEY_CONFIGURED').code, '0x81500000000')
  assert.equal(statusOf('TDX_NO_HKID_READY_TO_WBCACHE').code, '0x82100000000')
})

test('a status is built once', () => {
  assert.equal(statusWith('TDX_PAGE_SIZE_MISMATCH', 1), statusWith('TDX_PAGE_SIZE_MISMATCH', 1))
})
