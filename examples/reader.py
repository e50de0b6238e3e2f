"""Follow the state and print each hanging task with its place; needs only Python.

python examples/reader.py [--url URL] [--once]
Set TELEMETRON_TOKEN to the read token if the server needs one.
"""

import argparse
import json
import os
import time
from collections.abc import Iterator
from datetime import datetime
from email.utils import parsedate_to_datetime
from typing import Any, NamedTuple
from urllib.error import HTTPError, URLError
from urllib.parse import urlencode
from urllib.request import Request, urlopen

Json = dict[str, Any]


class Answer(NamedTuple):
    """A state and the server's time, against which ages are computed."""

    state: Json
    now: datetime


def states(url: str, token: str | None = None) -> Iterator[Answer]:
    """Yield the state now and after each change; retry if the server does not answer."""
    query = ""
    while True:
        try:
            request = Request(f"{url}/system/state{query}")
            if token:
                request.add_header("Authorization", f"Bearer {token}")
            with urlopen(request, timeout=40) as answer:
                now = parsedate_to_datetime(answer.headers["Date"])
                query = "?" + urlencode({"since": answer.headers["ETag"], "wait": "30s"})
                yield Answer(json.load(answer), now)
        except HTTPError as error:
            if error.code != 304:  # no change within the 30 seconds
                raise
        except (URLError, OSError, ValueError):
            time.sleep(1)


def hanging(answer: Answer) -> Iterator[str]:
    """Yield a line for each hanging task: agent, time without progress, waits, model and pod."""
    state = answer.state
    pods = {pod["pod_id"]: pod for workload in state["workload"] for pod in workload["pods"]}
    models = {model["model"]: model for model in state["litellm"]}
    for agent in state["agents"]:
        homes = {instance["id"]: instance["pod_id"] for instance in agent["instances"]}
        for task in agent["activity"]["active_task_ids"]:
            if not task["stalled"] and not task["last_known"]:
                continue
            parts = [f"{agent['key']} {task['id']}: {'lost' if task['last_known'] else 'stalled'}"]
            if task["progressed_at"]:
                age = answer.now - datetime.fromisoformat(task["progressed_at"])
                parts.append(f"no progress for {age.total_seconds():.0f} s")
            parts += [
                f"waits for {wait['kind']} {wait['name'] or ''}".strip() for wait in task["waits"]
            ]
            # A missing model or pod is unknown, which does not mean that it is well.
            if model := models.get(task["model"]):
                parts.append(f"model {model['model']} is {model['status']}")
            if pod := pods.get(homes.get(task["instance"])):
                parts.append(f"pod {pod['pod_id']} is {pod['reason'] or pod['status']}")
            yield ", ".join(parts)


def doubts(state: Json) -> Iterator[str]:
    """Yield a line for each source whose data may be wrong or incomplete."""
    for source in state["sources"]:
        if source["status"] in ("degraded", "stale", "failing"):
            since = source["last_ok_at"] or "never"
            yield f"source {source['key']} is {source['status']}; last success: {since}"
        elif source["status"] == "starting":
            yield f"source {source['key']} is starting; there may be more"


def main() -> None:
    """Print the report whenever it changes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--url", default=os.environ.get("TELEMETRON_URL", "http://127.0.0.1:8080"))
    parser.add_argument("--once", action="store_true", help="do not wait for changes")
    options = parser.parse_args()
    before = None
    for answer in states(options.url, os.environ.get("TELEMETRON_TOKEN")):
        report = [*doubts(answer.state), *hanging(answer)]
        if report != before:
            print("\n".join([f"revision {answer.state['revision']}", *report]), flush=True)
        if options.once:
            break
        before = report


if __name__ == "__main__":
    main()
