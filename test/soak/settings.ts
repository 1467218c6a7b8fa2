import type { SandboxOptions } from '../../sandbox/server.ts'
import { FAST, TEST_KEYS } from '../helpers/gateway.ts'

/** A backend that works within milliseconds and never runs out of credits. */
export const QUICK: SandboxOptions = {
  speed: { textMs: 30, editMs: 40, generateMs: 120, renderMs: 50, chunkMs: 1, heartbeatMs: 40 },
  credits: 1_000_000,
  mintsPerIp: 1_000_000,
}

/** Waiting times in proportion. */
export const BAD_MOOD = {
  ...FAST,
  TOKEN_KEYS: TEST_KEYS,
  LOG_LEVEL: 'silent',
  MINTS_PER_WEEK: '1000000',
  RATE_LIMIT_PER_MINUTE: '1000000',
  RATE_LIMIT_RETRY_MS: '50',
  RECONCILE_FIRST_MS: '150',
  RECONCILE_EVERY_MS: '150',
  RECONCILE_READS: '3',
  STREAM_SILENCE_MS: '500',
  STREAM_NOTICE_MS: '100',
  SILENT_END_MS: '200',
  RUN_LIMIT_MS: '10000',
}
