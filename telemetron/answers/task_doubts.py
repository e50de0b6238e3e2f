"""The doubts about an answer: everything that could know a task and was not looked at, and why."""

from collections.abc import Collection, Iterator, Mapping
from typing import Any

from telemetron.answers.task_sightings import Sightings
from telemetron.document import Agent, Queue, SourceRow
from telemetron.history.place import moment
from telemetron.history.timeline import NAME, Timeline
from telemetron.search import SearchResult

HEARTBEATS = "heartbeats"
SECTIONS = {"agents", "queues"}
ACTIVE = "activity.active_task_ids"

Json = dict[str, Any]
Feeds = Mapping[str, Collection[str]]
"""The sections that each collector writes; empty: unknown."""


def of_sources(rows: Collection[SourceRow], feeds: Feeds) -> Iterator[Json]:
    """Yield each source of agents or queues whose values are not all current.

    Another source that is off is no part of the system that this Telemetron observes.
    """
    for row in rows:
        wrote = feeds.get(row.collector, ())
        counts = row.collector == HEARTBEATS or (bool(SECTIONS.intersection(wrote)) or not wrote)
        is_used = row.status != "off" or row.collector == HEARTBEATS
        if row.status != "ok" and counts and is_used and row.collector != NAME:
            reasons = sorted({one.reason for one in row.problems})
            yield _doubt(row.key, " ".join(["it is", row.status, *map("({})".format, reasons)]))


def of_agents(sightings: Sightings) -> Iterator[Json]:
    """Yield each agent whose list of active tasks is cut."""
    for agent in sightings.entities("agents"):
        if count := cut(agent):
            listed = len(agent.activity.active_task_ids)
            yield _doubt(f"agents/{agent.key}", f"{listed} of {count} active tasks are listed")


def cut(agent: Agent) -> int:
    """Return how many active tasks an agent has if not all are listed, else 0."""
    return (agent.truncated or {}).get(ACTIVE, 0)


def of_queues(sightings: Sightings, results: Mapping[str, SearchResult]) -> Iterator[Json]:
    """Yield each queue with pending tasks that neither the document nor a search has shown."""
    for queue in sightings.entities("queues"):
        if queue.source not in results and (why := _unlisted(queue)):
            yield _doubt(f"queues/{queue.key}", why)
    for source, result in results.items():
        yield from (_doubt(source, why) for why in result.unchecked)


def _unlisted(queue: Queue) -> str | None:
    if queue.depth is None:
        return "the number of its pending tasks is not known"
    listed = len(queue.tasks)
    return f"{listed} of {queue.depth} pending tasks are listed" if queue.depth > listed else None


def of_history(timeline: Timeline, is_complete: bool) -> Iterator[Json]:
    """Yield that the history does not reach back to the first observation, if so."""
    if not is_complete:
        oldest = timeline.oldest()
        at = timeline.resolve(str(oldest), moment(0)).at if oldest else None
        since = f"; it begins at {moment(at):%Y-%m-%dT%H:%M:%SZ}" if at is not None else ""
        yield _doubt("history", f"some steps are no longer kept, or were not read{since}")


def _doubt(source: str, why: str) -> Json:
    return {"of": source, "why": why}
