#!/bin/sh
# Prints each change at once: `+` new, `-` gone, `~` changed. It ends after as many changes as the first
# argument says, or never. It uses long polls, so that it sends few requests.
#   TELEMETRON_URL (http://127.0.0.1:8080), TELEMETRON_TOKEN (the read token, if the server needs one)
# Needs curl and jq.
url=${TELEMETRON_URL:-http://127.0.0.1:8080} left=${1:--1}
folder=$(mktemp -d) && trap 'rm -rf "$folder"' EXIT && trap 'exit 130' INT TERM

ask() { # a query
    curl -fsS --max-time 40 ${TELEMETRON_TOKEN:+-H "Authorization: Bearer $TELEMETRON_TOKEN"} \
        -D "$folder/head" -o "$folder/body" "$url/system/state$1"
}
index() { # section, key and time of change of every entity; measures (as CPU) do not change it
    jq -r '("sources", "agents", "litellm", "queues", "workload") as $s | .[$s][]
        | "\($s)/\(.key)\t\(.updated_at // "\(.status) \(.since)")"' "$folder/body" | sort
}
place() { sed -n 's/^etag: W\/"\(.*\)".*/\1/p' "$folder/head"; }

until ask ""; do sleep 1; done
index >"$folder/old"
while [ "$left" -ne 0 ]; do
    ask "?since=$(place)&wait=30s" || { sleep 1; continue; }
    grep -q '^HTTP/[0-9.]* 304' "$folder/head" && continue
    index >"$folder/new"
    join -t "$(printf '\t')" -a 1 -a 2 -e - -o 0,1.2,2.2 "$folder/old" "$folder/new" |
        awk -F '\t' '$2 != $3 { print ($2 == "-" ? "+" : $3 == "-" ? "-" : "~"), $1 }' >"$folder/diff"
    mv "$folder/new" "$folder/old"
    [ -s "$folder/diff" ] || continue
    cat "$folder/diff"
    left=$((left - 1))
done
