"""Follows the state and tells, of each task that hangs, where it is: a reader in Python alone.

python examples/reader.py [--url URL] [--once]
The read token, where the server wants one, in TELEMETRON_TOKEN.
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
from urllib.request import Request, urlopen

Json = dict[str, Any]


class Answer(NamedTuple):
    """A state, and the moment it was true: ages are told against the server's clock."""

    state: Json
    now: datetime


def states(url: str, token: str | None = None) -> Iterator[Answer]:
    """The state now, and whenever it has changed. Asks again when the server does not answer."""
    place = ""
    while True:
        try:
            request = Request(f"{url}/system/state?since={place}&wait=30s")
            if token:
                request.add_header("Authorization", f"Bearer {token}")
            with urlopen(request, timeout=40) as answer:
                now = parsedate_to_datetime(answer.headers["Date"])
                place = answer.headers["ETag"].removeprefix('W/"').removesuffix('"')
                yield Answer(json.load(answer), now)
        except HTTPError as error:
            if error.code != 304:  # nothing new within the 30 seconds
                raise
        except (URLError, OSError, ValueError):
            time.sleep(1)


def hanging(answer: Answer) -> Iterator[str]:
    """A line for each task that does not get on: who, for how long, waiting for what, where."""
    state = answer.state
    pods = {pod["pod_id"]: pod for workload in state["workload"] for pod in workload["pods"]}
    models = {model["model"]: model for model in state["litellm"]}
    for agent in state["agents"]:
        homes = {instance["id"]: instance["pod_id"] for instance in agent["instances"]}
        for task in agent["activity"]["active_task_ids"]:
            if not task["stalled"] and not task["last_known"]:
                continue
            said = [f"{agent['key']} {task['id']}: {'lost' if task['last_known'] else 'stalled'}"]
            if task["progressed_at"]:
                age = answer.now - datetime.fromisoformat(task["progressed_at"])
                said.append(f"no progress for {age.total_seconds():.0f} s")
            said += [
                f"waits for {wait['kind']} {wait['name'] or ''}".strip() for wait in task["waits"]
            ]
            # Joins; what is not there is not known, which is not the same as well.
            if model := models.get(task["model"]):
                said.append(f"model {model['model']} is {model['status']}")
            if pod := pods.get(homes.get(task["instance"])):
                said.append(f"pod {pod['pod_id']} is {pod['reason'] or pod['status']}")
            yield ", ".join(said)


def doubts(state: Json) -> Iterator[str]:
    """What of the state is not to be relied on."""
    for source in state["sources"]:
        if source["status"] in ("degraded", "stale", "failing"):
            since = source["last_ok_at"] or "never"
            yield f"source {source['key']} is {source['status']}; last right: {since}"
        elif source["status"] == "starting":
            yield f"source {source['key']} is starting; there may be more"


def main() -> None:
    """Print a report whenever it is another one than before."""
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
