/**
 * Every bound a request meets, in one place. A request exactly at a bound passes; one beyond it gets the status named
 * beside it. Bounds of the model itself (slots, runs) belong to the domain.
 */

const KIB = 1024
const MIB = 1024 * KIB

/** Body of an ordinary request (413). */
export const BODY_BYTES = 64 * KIB
/** Body of a request that carries a batch: page states, attributes, measurements. Set it as the route's `bodyLimit` (413). */
export const BULK_BODY_BYTES = 1 * MIB
/** Body of a request that carries a firmware image (413). */
export const IMAGE_BODY_BYTES = 64 * MIB

/** Nesting of arrays and objects in a JSON body (400). */
export const JSON_DEPTH = 32
/** Object members in a whole JSON body (400). */
export const JSON_KEYS = 50_000
/** Problems listed in one reply; the rest are counted in the detail. */
export const PROBLEM_ERRORS = 100

/** Request line and headers together (431). */
export const HEADER_BYTES = 16 * KIB
/** Path and query (414). */
export const URL_BYTES = 2 * KIB
/** One path parameter (414). */
export const PARAM_CHARACTERS = 128
/** An incoming `x-request-id`; a longer one is replaced, not refused. */
export const REQUEST_ID_CHARACTERS = 128
/** An `Idempotency-Key` header (400). */
export const IDEMPOTENCY_KEY_CHARACTERS = 128

/** Entries in one batch (400). */
export const BATCH_ENTRIES = 1000
/** Pages that the entries of one batch name together, each of its own size (400). */
export const BATCH_PAGES = 2 ** 28
/** Bytes that one guest or host access moves (400). */
export const ACCESS_BYTES = 64 * KIB
/** Guest memory that one launch update measures (400). */
export const LAUNCH_UPDATE_BYTES = 64 * MIB
/** Items in one page of a list, unless the client asks for fewer or more. */
export const PAGE_ITEMS_DEFAULT = 100
/** Items in one page of a list (400). */
export const PAGE_ITEMS_MAX = 1000
/** An opaque list cursor (400). */
export const CURSOR_CHARACTERS = 512

/** The largest integer a JSON number carries without rounding. */
export const MAX_SAFE_INTEGER = Number.MAX_SAFE_INTEGER

/** Event streams open at once (503). */
export const EVENT_STREAMS = 1000
/** What waits for one reader of events before it is let go. */
export const EVENT_QUEUE_BYTES = 256 * KIB
/** Journal entries read at once while events are replayed. */
export const EVENT_REPLAY_ENTRIES = 500
/** A comment sent on a silent event stream, so that nobody takes it for dead. */
export const HEARTBEAT_MS = 15_000

/** Open client connections; more are closed at once instead of left waiting. */
export const CONNECTIONS = 10_240
/** A connection with no traffic in either direction. Event streams send heartbeats more often than this. */
export const CONNECTION_TIMEOUT_MS = 120_000
/** From the first byte of a request to its last (408). */
export const REQUEST_TIMEOUT_MS = 60_000
/** From the first byte of a request to the end of its headers (408). */
export const HEADERS_TIMEOUT_MS = 15_000
/** An idle connection kept for another request. */
export const KEEP_ALIVE_TIMEOUT_MS = 10_000
/** How often the two request time-outs are checked, so how late they can be. */
export const TIMEOUT_CHECK_MS = 1_000

/**
 * Requests from one address (429). This is an emulator for CI on a loopback address: the bound is there to stop a
 * runaway client, far above what one process can answer.
 */
export const RATE_LIMIT = { requests: 1_000_000, windowMs: 1_000, addresses: 10_000 } as const

/** A drain that takes longer closes the remaining connections. */
export const DRAIN_MS = 3_500
/** A stop that takes longer exits anyway. */
export const STOP_MS = 4_800
