const BUCKET_SECONDS = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 1, 5] as const

type Timings = { readonly buckets: Float64Array; sum: number; count: number }
type Route = { readonly route: string; readonly method: string; readonly byStatus: Map<number, Timings> }

/** Request counts and durations. An observation is a map lookup and three additions: it is made on every request. */
export class RequestTimings {
  readonly #routes: Route[] = []

  /** The observer of one route, made once when the route is registered. */
  observer(route: string, method: string): (status: number, seconds: number) => void {
    const byStatus: Route['byStatus'] = new Map()
    this.#routes.push({ route, method, byStatus })
    return (status, seconds) => {
      let timings = byStatus.get(status)
      if (timings === undefined) {
        timings = { buckets: new Float64Array(BUCKET_SECONDS.length), sum: 0, count: 0 }
        byStatus.set(status, timings)
      }
      let bucket = 0
      while (bucket < BUCKET_SECONDS.length && seconds > (BUCKET_SECONDS[bucket] ?? 0)) bucket++
      if (bucket < BUCKET_SECONDS.length) timings.buckets[bucket] = (timings.buckets[bucket] ?? 0) + 1
      timings.sum += seconds
      timings.count++
    }
  }

  /** In the Prometheus text format. */
  text(): string {
    const requests = ['# HELP gmemd_http_requests_total Requests answered.', '# TYPE gmemd_http_requests_total counter']
    const durations = [
      '# HELP gmemd_http_request_duration_seconds Time from the headers of a request to the end of its reply.',
      '# TYPE gmemd_http_request_duration_seconds histogram',
    ]
    for (const { route, method, byStatus } of this.#routes) {
      for (const [status, { buckets, sum, count }] of byStatus) {
        const labels = `method="${method}",route="${route}",status="${status}"`
        requests.push(`gmemd_http_requests_total{${labels}} ${count}`)
        let below = 0
        for (const [index, limit] of BUCKET_SECONDS.entries()) {
          below += buckets[index] ?? 0
          durations.push(`gmemd_http_request_duration_seconds_bucket{le="${limit}",${labels}} ${below}`)
        }
        durations.push(`gmemd_http_request_duration_seconds_bucket{le="+Inf",${labels}} ${count}`)
        durations.push(`gmemd_http_request_duration_seconds_sum{${labels}} ${sum}`)
        durations.push(`gmemd_http_request_duration_seconds_count{${labels}} ${count}`)
      }
    }
    return `${[...requests, '', ...durations].join('\n')}\n`
  }
}
