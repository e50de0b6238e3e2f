"""Trouble: how unwell an entity is by its own fields; 0 is well, more is worse.

What only a finding says, such as a backlog that grows, is not repeated here.
"""

from collections.abc import Callable, Mapping
from typing import Any

from telemetron.document import (
    Agent,
    Instance,
    ModelDeployment,
    Pod,
    Queue,
    SourceRow,
    Task,
    Workload,
)

_ENDED = ("Succeeded", "Failed")
_RESTING = (None, "Stable", "Empty")
_PASSING = (None, "ContainerCreating", "PodInitializing", "Terminating")
"""Reasons of pods that come and go; a finding says if they do so for too long."""
_PEOPLE = ("human", "auth")


def agent(one: Agent) -> int:
    """Silence is worst, then stalled tasks, then too many of them."""
    if one.status == "silent":
        return 4
    if any(task(each) == STALLED for each in one.activity.active_task_ids):
        return 3
    if one.silent_count:
        return 2
    return int(is_overloaded(one) or bool(one.problems))


def is_overloaded(one: Agent) -> bool:
    """Whether it has more tasks than it says that it can run at once."""
    return one.activity.task_count > one.max_parallel_invocations


def queue(one: Queue) -> int:
    """Work that nobody takes is worst, then a group that does not come to rest."""
    waits = (one.depth or one.lag or 0) > 0
    if waits and one.consumers == 0:
        return 3
    if waits and one.group_state not in _RESTING:
        return 2
    return int(one.open_transaction_since is not None or bool(one.problems))


def model(one: ModelDeployment) -> int:
    """By its status."""
    known = {"unhealthy": 3, "cooling_down": 2}
    return known.get(one.status, int(bool(one.problems)))


def workload(one: Workload) -> int:
    """Without a ready pod is worst, then with pods that are not well."""
    live = one.live
    lacks = live is not None and (live.ready or 0) < (live.desired or 0)
    if lacks and live is not None and live.ready == 0:
        return 4
    if any(map(pod, one.pods)):
        return 3
    if lacks or (live is not None and live.rollout == "stuck"):
        return 2
    return int(bool(one.problems))


def pod(one: Pod) -> int:
    """A pod that has ended is not unwell: a job's, or one that was evicted and replaced."""
    if one.reason in _PASSING and one.node_ready is not False:
        return 0
    return int(one.status not in _ENDED)


def source(one: SourceRow) -> int:
    """Whether it is out of sight, or only incomplete."""
    known = {"ok": 0, "off": 0, "degraded": 1, "starting": 2, "stale": 3, "failing": 4}
    return known.get(one.status, 1)


STALLED = 2


def task(one: Task) -> int:
    """A stalled task is worst, unless it waits for a person; then one that is last known."""
    if one.stalled and not (one.waits and one.waits[0].kind in _PEOPLE):
        return STALLED
    return int(one.last_known)


def instance(one: Instance) -> int:
    """Whether it is silent."""
    return int(one.status == "silent")


OF_SECTION: Mapping[str, Callable[[Any], int]] = {
    "agents": agent,
    "queues": queue,
    "litellm": model,
    "workload": workload,
}
OF_ITEM: Mapping[type, Callable[[Any], int]] = {Pod: pod, Task: task, Instance: instance}
