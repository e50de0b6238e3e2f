"""The families of agents. Labels have stable names only, never a task, an instance or a text."""

from collections.abc import Iterable, Iterator
from typing import Any

from telemetron.document import Agent, Task
from telemetron.exposition.family import (
    Family,
    Samples,
    SectionSeries,
    counts,
    labels,
    moment,
    single,
    states,
)
from telemetron.exposition.finished import Finished

STATUSES = ("active", "idle", "silent", "declared")
WAITS = ("llm", "tool", "queue", "agent", "human", "auth", "other")
UNLISTED = "unlisted"
"""Counted, but not in the list of the document, so that its status or kind is not known."""

_AGENT = ("namespace", "agent")

FAMILIES = (
    Family("telemetron_agent_info", (*_AGENT, "deployment"), "Always 1; the agent's Deployment."),
    Family("telemetron_agent_status", (*_AGENT, "status"), "1 for the agent's status, else 0."),
    Family("telemetron_agent_instances", (*_AGENT, "status"), "Instances by status."),
    Family("telemetron_agent_tasks", (*_AGENT, "status"), "Active tasks by status."),
    Family("telemetron_agent_stalled_tasks", _AGENT, "Active tasks that make no progress."),
    Family("telemetron_agent_waits", (*_AGENT, "kind"), "Open waits of active tasks by kind."),
    Family("telemetron_agent_max_parallel_invocations", _AGENT, "Tasks it can run at once."),
    Family(
        "telemetron_agent_least_progress_timestamp_seconds",
        _AGENT,
        "Oldest time at which an active task last made progress.",
    ),
    Family(
        "telemetron_agent_tasks_finished_total",
        (*_AGENT, "outcome"),
        "Tasks that ended, by outcome, since Telemetron first saw the agent's instances.",
        "counter",
    ),
)


def series(finished: Finished) -> SectionSeries:
    """Return the series of agents; `finished` counts their tasks."""

    def samples(agent: Agent) -> Iterator[Samples]:
        activity = agent.activity
        yield ((f",{labels(deployment=agent.deployment_name)}", 1),)
        yield states("status", STATUSES, agent.status)
        yield counts("status", _instances(agent))
        yield counts("status", _tasks(agent))
        yield single(_stalled(agent))
        yield counts("kind", _waits(agent))
        yield single(agent.max_parallel_invocations)
        yield moment(activity.least_progressed_at)
        yield counts("outcome", finished.count(agent) or {})

    return SectionSeries(FAMILIES, _labels, samples, _worth)


def _labels(agent: Agent) -> str:
    return labels(namespace=agent.namespace, agent=agent.name)


def _instances(agent: Agent) -> dict[str, float]:
    """Return the instances by status; only the silent ones if the others cannot be counted."""
    if agent.instance_count is None:
        return {"silent": agent.silent_count}
    found = _tally([one.status for one in agent.instances], "active", "idle", "silent")
    found["silent"] = agent.silent_count
    return _completed(found, agent.instance_count)


def _tasks(agent: Agent) -> dict[str, float]:
    """Return the active tasks by status; those of silent instances are `last_known`."""
    tasks = agent.activity.active_task_ids
    found = _tally([_status(one) for one in tasks], "running", "waiting")
    return _completed(found, agent.activity.task_count)


def _status(task: Task) -> str:
    if task.last_known:
        return "last_known"
    return task.status if task.status in ("running", "waiting") else "unknown"


def _tally(values: Iterable[str], *always: str) -> dict[str, float]:
    """Count the values. A Counter takes four times as long for a few of them."""
    found: dict[str, float] = dict.fromkeys(always, 0)
    for value in values:
        found[value] = found.get(value, 0) + 1
    return found


def _completed(found: dict[str, float], total: int) -> dict[str, float]:
    """Add what the document counts, but does not list."""
    if more := total - sum(found.values()):
        found[UNLISTED] = more
    return found


def _stalled(agent: Agent) -> int | None:
    """Return how many tasks are stalled; None if there are tasks, and none reports progress."""
    known = [one.stalled for one in agent.activity.active_task_ids if one.stalled is not None]
    return sum(known) if known or not agent.activity.task_count else None


def _waits(agent: Agent) -> dict[str, float]:
    tasks = [one for one in agent.activity.active_task_ids if one.waits and not one.last_known]
    waits = [wait.kind for task in tasks for wait in task.waits]
    found = _tally([kind if kind in WAITS else "other" for kind in waits])
    return _completed(found, max(sum([task.wait_count for task in tasks]), len(waits)))


def _worth(agent: Agent) -> int:
    marks: tuple[Any, ...] = (agent.problems, _stalled(agent), agent.status == "silent")
    return max([worth for worth, mark in enumerate(marks, 1) if mark], default=0)
