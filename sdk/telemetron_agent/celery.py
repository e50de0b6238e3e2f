"""Celery: `instrument_celery(agent)` once reports each task of the worker.

Id, parent and queue are Celery's; the first step is the task's name. An attempt that is retried,
replaced or requeued has no outcome: the task continues, and counts once. If the worker kills a
process (a hard time limit, a revocation) or loses it, its main process reports the outcome.
"""

from __future__ import annotations

from typing import Any
from weakref import WeakSet

from .agent import Agent
from .log import guarded
from .task import Task, current
from .text import text

ENDS = {"SUCCESS": "completed", "FAILURE": "failed", "REJECTED": "failed"}
"""Every other state is `canceled`: REVOKED, IGNORED."""
KILLED = ("TimeLimitExceeded", "WorkerLostError")
"""Failures of a process that could not report them."""
HELD = "telemetron_task"
"""The attribute of a task's request, which lives as long as the attempt."""
PARENT = "telemetron_parent_id"
"""The header of a retry with the parent: Celery gives the task itself as its parent."""

_installed: set[Agent] = set()


@guarded
def instrument_celery(agent: Agent) -> None:
    """Report every task that workers of this process and its forks execute. Needs celery."""
    if agent in _installed:
        return
    from celery import signals

    _installed.add(agent)
    again: WeakSet[Task] = WeakSet()
    """Attempts that published their task again: retries, and `Task.replace`."""

    @guarded
    def started(*, task: Any, task_id: Any, **more: Any) -> None:
        request = task.request
        queue = (request.delivery_info or {}).get("routing_key")
        parent = getattr(request, PARENT, None) or request.parent_id
        held = agent.task(task_id, parent_id=parent, queue=queue)
        held.step = text(task.name)
        setattr(request, HELD, held.__enter__())

    @guarded
    def ended(*, task: Any, state: Any, retval: Any, **more: Any) -> None:
        held = getattr(task.request, HELD, None)
        if held is None:
            return
        requeued = state == "REJECTED" and getattr(retval, "requeue", False)
        if state == "RETRY" or requeued or held in again:
            held.forget()
        held.end(ENDS.get(state, "canceled"), retval if isinstance(retval, BaseException) else None)
        held.__exit__(None, None, None)

    @guarded
    def failed(*, task_id: Any, exception: Any, **more: Any) -> None:
        if type(exception).__name__ in KILLED:
            agent.task(task_id).end("failed", exception)

    @guarded
    def revoked(*, request: Any, **more: Any) -> None:
        queue = (request.delivery_info or {}).get("routing_key")
        agent.task(request.id, parent_id=request.parent_id, queue=queue).end("canceled")

    @guarded
    def published(*, headers: Any = None, **more: Any) -> None:
        here = current()
        if headers and headers.get("id") == here.id:
            again.add(here)
            if here.parent_id:
                headers[PARENT] = here.parent_id

    @guarded
    def forked(**more: Any) -> None:
        agent.flush(0)  # report now, not with the first task

    @guarded
    def stopped(**more: Any) -> None:
        agent.close()  # a child process of the pool runs no atexit functions

    signals.before_task_publish.connect(published, weak=False)
    signals.task_prerun.connect(started, weak=False)
    signals.task_postrun.connect(ended, weak=False)
    signals.task_failure.connect(failed, weak=False)
    signals.task_revoked.connect(revoked, weak=False)
    signals.worker_process_init.connect(forked, weak=False)
    signals.worker_process_shutdown.connect(stopped, weak=False)
