#!/bin/sh
# Checks the system and prints a line for each problem; exit code 0: none, 1: problems, 2: unknown.
#   TELEMETRON_URL (http://127.0.0.1:8080), TELEMETRON_TOKEN (the read token, if the server needs one)
# Needs curl and jq. As a health check: examples/health.sh && echo well
url=${TELEMETRON_URL:-http://127.0.0.1:8080}
state=$(curl -fsS --max-time 10 ${TELEMETRON_TOKEN:+-H "Authorization: Bearer $TELEMETRON_TOKEN"} \
    "$url/system/state") || exit 2

trouble=$(printf '%s' "$state" | jq -r '
    # Problems of sources come first: without them the rest is unknown.
    (.sources[] | select(.status | IN("degraded", "stale", "failing"))
        | "source \(.key) is \(.status): \([.problems[].reason] | unique | join(", "))"),
    (.agents[] | select(.status == "silent")
        | "agent \(.key) is silent"),
    (.agents[] | .key as $key | .activity.active_task_ids[] | select(.stalled)
        | "agent \($key) hangs in task \(.id)" + ((.waits[0] // empty
            | ", waits for \(.kind) \(.name // "")") // "")),
    (.litellm[] | select(.status == "unhealthy" or .status == "cooling_down")
        | "model \(.key) is \(.status)"),
    (.queues[] | select(.depth > 0 and .consumers == 0)
        | "queue \(.key): \(.depth) tasks, and no consumer"),
    (.workload[] | select(.live.rollout == "stuck")
        | "workload \(.key): the rollout is stuck"),
    (.workload[] | .key as $key | .pods[] | select(.reason != null and .status != "Succeeded")
        | "pod \(.pod_id) of \($key): \(.reason)")
') || exit 2

[ -z "$trouble" ] && exit 0
printf '%s\n' "$trouble"
exit 1
