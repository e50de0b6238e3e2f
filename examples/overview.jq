# The whole system on one screen: curl -fsS localhost:8080/system/state | jq -rf examples/overview.jq
# `?` means unknown.
def shown: if . == null then "?" else tostring end;
def row(name; value): "  \(name)  \(value)";
"\(.id) at \(.changed_at), revision \(.revision)",
"sources",
(.sources[] | row(.key; .status + ([.problems[].reason] | unique | map(" " + .) | add // ""))),
"agents \(.agents | length)",
(.agents[] | row(.key; "\(.status)  \(.activity.task_count) of \(.max_parallel_invocations) tasks"),
    (.activity.active_task_ids[:3][] | row("  " + .id; [.status // "?", .step // empty,
        (if .stalled then "STALLED" else empty end),
        (.waits[0] // empty | "waits for \(.kind) \(.name // "")")] | join(", ")))),
"models \(.litellm | length)",
(.litellm[] | row(.key; "\(.status)  \(.tpm | shown) of \(.tpm_max | shown) tokens a minute")),
"queues \(.queues | length)",
(.queues[] | row(.key; "\(.depth | shown) waiting  \(.consumers | shown) consumers")),
"workloads \(.workload | length)",
(.workload[] | row(.key; "\(.live.ready | shown) of \(.live.desired | shown) ready  \(.live.rollout | shown)"),
    (.pods[] | select(.reason) | row("  " + .pod_id; .reason)))
