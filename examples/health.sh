#!/bin/sh
# Is the system well? One line for each thing that is not; exit code 0 well, 1 not, 2 unknown.
#   TELEMETRON_URL (http://127.0.0.1:8080), TELEMETRON_TOKEN (where the server wants the read token)
# Needs curl and jq. As a health check: examples/health.sh && echo well
url=${TELEMETRON_URL:-http://127.0.0.1:8080}
state=$(curl -fsS --max-time 10 ${TELEMETRON_TOKEN:+-H "Authorization: Bearer $TELEMETRON_TOKEN"} \
    "$url/system/state") || exit 2

trouble=$(printf '%s' "$state" | jq -r '
    # What is not observed is no good news: it comes first.
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
        | "queue \(.key): \(.depth) tasks, and nobody takes them"),
    (.workload[] | select(.live.rollout == "stuck")
        | "workload \(.key): the rollout is stuck"),
    (.workload[] | .key as $key | .pods[] | select(.reason != null and .status != "Succeeded")
        | "pod \(.pod_id) of \($key): \(.reason)")
') || exit 2

[ -z "$trouble" ] && exit 0
printf '%s\n' "$trouble"
exit 1
