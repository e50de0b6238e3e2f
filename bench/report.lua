-- Prints the results of one run of wrk as a line of JSON; times in microseconds.
done = function(summary, latency, requests)
  local e = summary.errors
  io.write(string.format(
    '{"requests":%d,"duration":%d,"errors":%d,"p99":%d,"max":%d}\n',
    summary.requests, summary.duration,
    e.connect + e.read + e.write + e.status + e.timeout,
    latency:percentile(99), latency.max))
end
