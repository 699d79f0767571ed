/** Replies kept for requests that are repeated; older ones are forgotten. */
export const REPLIES_KEPT = 10_000

/** Replies over the limit are deleted this many at a time, not one with every new one. */
export const REPLIES_BATCH = 256

/** Checkpoints kept of each host. */
export const CHECKPOINTS_KEPT = 4

/** The write-ahead log is copied into the database once it has this many pages. */
export const WAL_PAGES = 2_000

/** How long to wait for somebody who writes to the database by hand, in milliseconds: nothing else is served meanwhile. */
export const BUSY_TIMEOUT = 250

/** A probe writes this many bytes, enough to need fresh pages. */
export const PROBE_BYTES = 64 * 1024
