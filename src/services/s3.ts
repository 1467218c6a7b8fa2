import type { S3Config } from '../config.ts'

/** How the SDK finds a bucket's service. One with an address of its own has buckets in paths, not in host names. */
export const connectionOf = ({ region, endpoint, credentials }: S3Config) => ({
  region,
  ...(endpoint && { endpoint, forcePathStyle: true }),
  ...(credentials && { credentials }),
})
