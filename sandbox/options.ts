/** Times in ms. A run varies by a seventh around its value, so that two runs differ but the same run repeats. */
export interface Speed {
  /** until an answer in words is complete */
  textMs: number
  /** until an edit takes effect */
  editMs: number
  /** until a generated video has its title and music; the raw video comes at 60 % of it */
  generateMs: number
  /** a render's work, without its place in the queue */
  renderMs: number
  /** between two words of a partial answer */
  chunkMs: number
  /** between two heartbeats while nothing else is said */
  heartbeatMs: number
}

export interface SandboxOptions {
  /** 0 or absent: the port that `dataDir` remembers, if it is free, else any. */
  port?: number
  /** default 127.0.0.1 */
  host?: string
  /** Where state and journal are kept; null or absent: in memory. */
  dataDir?: string | null
  speed?: Partial<Speed>
  /** There is no lenient sandbox; the word is here so that a caller can say what it relies on. */
  strict?: true
  /**
   * Tokens for one address in 7 days. The real limit is about 10 (§0.6), but a development machine is one
   * address for months: tests of that limit set 10.
   */
  mintsPerIp?: number
  /** default 500,000,000 */
  maxUploadBytes?: number
  /** The spelling that POST /run_sse takes; the other one is refused. Default 'snake'. */
  bodyCase?: 'snake' | 'camel'
  /** What a new account has. Default 100. */
  credits?: number
}

export interface Settings extends Required<Omit<SandboxOptions, 'port' | 'dataDir' | 'strict' | 'speed'>> {
  speed: Speed
}

const demoSpeed: Speed = {
  textMs: 1500,
  editMs: 3000,
  generateMs: 7000,
  renderMs: 6000,
  chunkMs: 60,
  heartbeatMs: 1000,
}

/** The default times, `pace` times as fast. */
export function paced(pace: number): Speed {
  const { heartbeatMs, ...times } = demoSpeed
  const quick = Object.entries(times).map(([name, ms]) => [name, ms / pace])
  return { ...(Object.fromEntries(quick) as Omit<Speed, 'heartbeatMs'>), heartbeatMs }
}

/** Fills in the defaults. */
export function toSettings(options: SandboxOptions): Settings {
  return {
    host: options.host ?? '127.0.0.1',
    speed: { ...demoSpeed, ...options.speed },
    mintsPerIp: options.mintsPerIp ?? 1000,
    maxUploadBytes: options.maxUploadBytes ?? 500_000_000,
    bodyCase: options.bodyCase ?? 'snake',
    credits: options.credits ?? 100,
  }
}
