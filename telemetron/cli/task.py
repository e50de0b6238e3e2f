"""`telemetron task`: the place of one task, as text for a terminal, or as JSON.

All text is escaped first, because others wrote much of it.
"""

import json
from collections.abc import Iterator, Mapping
from datetime import datetime
from typing import Any
from urllib.parse import quote

from telemetron.cli import output
from telemetron.client import fetch
from telemetron.text import cut, printable

PATH = "/system/tasks/"
MAX_LINE = 200
RUN = ("agent", "instance", "status", "step", "model", "why")
WAITING = ("queue", "consumer_group", "partition", "offset", "priority", "invoked_by", "problem")
ENDED = ("agent", "instance", "status", "error", "why")
POD = ("pod_id", "status", "reason", "message", "node")
STEP = ("event", "in", "instance", "step", "status", "error", "why")

Json = Mapping[str, Any]


def show(url: str, token: str | None, id: str, query: Mapping[str, str]) -> None:
    """Write where the task is. Raises FetchError."""
    response = fetch(url, token, PATH + quote(id, safe="", errors="surrogateescape"), query)
    if not output.is_terminal():
        output.write(response.body, nl=False)
        return
    try:
        found = lines(json.loads(response.body), response.now)
        text = [cut(printable(line), MAX_LINE) for line in found]
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        output.fail_unexpected(error)
    output.write("\n".join(text))


def lines(answer: Json, now: datetime) -> Iterator[str]:
    """Yield the lines of an answer, the worst first; ages are relative to `now`."""
    yield from _places(answer, now)
    yield from _relations(answer)
    for step in answer.get("timeline", ()):
        yield f"  {_age(step['at'], now)} ago  {_values(step, STEP)}"
    for name, count in answer.get("truncated", {}).items():
        yield f"… {name}: {'more' if count is None else count} in all"


def _places(answer: Json, now: datetime) -> Iterator[str]:
    several = f"  ({answer['several']} tasks have this id)" if "several" in answer else ""
    yield f"{answer['id']}  {answer['where']}{several}"
    for finding in answer.get("findings", ()):
        yield f"{finding['severity']}  {finding['rule']}  {finding['summary']}"
    for name in ("lost", "active"):
        for run in answer.get(name, ()):
            yield from _run(name, run, now)
    for one in answer.get("waiting", ()):
        yield f"waiting  {_values(one, WAITING)}{_ahead(one)}{_ages(one, now, 'submitted_at')}"
        yield f"  {_consumers(one)}"
    for one in answer.get("consumed", ()):
        yield f"consumed  {_values(one, WAITING)}"
    for one in answer.get("ended", ()):
        yield f"ended  {_values(one, ENDED)}{_ages(one, now, 'started_on', 'ended_at', 'left_at')}"


def _relations(answer: Json) -> Iterator[str]:
    for one in answer.get("blocked_by", ()):
        yield f"blocked by  {_blocker(one)}"
    for name in ("parents", "children"):
        if answer.get(name):
            yield f"{name}  " + ", ".join(f"{it['id']} {it['where']}" for it in answer[name])
    for one in answer.get("unchecked", ()):
        yield f"not looked at  {one['of']}: {one['why']}"
    if answer.get("nearest"):
        yield f"similar  {', '.join(answer['nearest'])}"


def _run(name: str, run: Json, now: datetime) -> Iterator[str]:
    ages = _ages(run, now, "started_on", "progressed_at", "silent_since", "lost_at")
    yield f"{name}  {_values(run, RUN)}{'  stalled' if run.get('stalled') else ''}{ages}"
    for wait in run.get("waits", ()):
        since = f"  {_age(wait['since'], now)}" if "since" in wait else ""
        yield f"  waits for {_values(wait, ('kind', 'name', 'by_task', 'status'))}{since}"
    if pod := run.get("pod"):
        ready = "" if pod.get("ready") is not False else "  not ready"
        restarts = f"  restarts {pod['restarts']}" if pod.get("restarts") else ""
        yield f"  pod {_values(pod, POD)}{ready}{restarts}"


def _consumers(one: Json) -> str:
    members = [_values(it, ("client_id", "host")) for it in one.get("consumed_by", ())]
    agents = f"; agents {', '.join(one['agents'])}" if one.get("agents") else ""
    count = one.get("consumers", "?")
    return f"consumers {count}{' (' + ', '.join(members) + ')' if members else ''}{agents}"


def _ahead(one: Json) -> str:
    if "ahead" not in one:
        return ""
    return f"  {'at most ' if one.get('ahead_exact') is False else ''}{one['ahead']} ahead"


def _blocker(one: Json) -> str:
    of = f"  ({one['task']} waits)" if "task" in one else ""
    cycle = "  in a cycle" if one.get("cycle") else ""
    return _values(one, ("kind", "name", "by_task", "where", "status")) + of + cycle


def _values(one: Json, names: tuple[str, ...]) -> str:
    """Return the values that there are, in one line."""
    return "  ".join(str(one[name]) for name in names if one.get(name) not in (None, ""))


def _ages(one: Json, now: datetime, *names: str) -> str:
    words = {name: name.removesuffix("_at").removesuffix("_on").replace("_", " ") for name in names}
    return "".join(f"  {words[n]} {_age(one[n], now)} ago" for n in names if one.get(n))


def _age(at: str, now: datetime) -> str:
    return output.duration((now - datetime.fromisoformat(at)).total_seconds())
