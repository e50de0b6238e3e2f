"""Celery: `instrument_celery(agent)`, once, and each task of the worker is seen.

Id, parent and queue are Celery's; the first step is the task's name. An attempt that is retried
counts as failed, under the class of what made it fail.
"""

from __future__ import annotations

from typing import Any

from .agent import Agent
from .log import guarded
from .text import text

ENDS = {"SUCCESS": "completed", "FAILURE": "failed", "RETRY": "failed"}
"""Every other state is `canceled`: REVOKED, IGNORED, REJECTED."""
HELD = "telemetron_task"
"""Attribute of a task's request, which lives as long as the attempt."""

_installed: set[Agent] = set()


@guarded
def instrument_celery(agent: Agent) -> None:
    """See every task that workers of this process, and those it forks, execute. Needs celery."""
    if agent in _installed:
        return
    from celery import signals

    _installed.add(agent)

    @guarded
    def started(*, task: Any, task_id: Any, **more: Any) -> None:
        request = task.request
        queue = (request.delivery_info or {}).get("routing_key")
        held = agent.task(task_id, parent_id=request.parent_id, queue=queue)
        held.step = text(task.name)
        setattr(request, HELD, held.__enter__())

    @guarded
    def ended(*, task: Any, state: Any, retval: Any, **more: Any) -> None:
        held = getattr(task.request, HELD, None)
        if held is None:
            return
        error = getattr(retval, "exc", None) or retval  # of a retry, what made it fail
        held.end(ENDS.get(state, "canceled"), error if isinstance(error, BaseException) else None)
        held.__exit__(None, None, None)

    @guarded
    def forked(**more: Any) -> None:
        agent.flush(0)  # seen from now on, not from its first task on

    @guarded
    def stopped(**more: Any) -> None:
        agent.close()  # a child process of the pool ends without running what atexit holds

    signals.task_prerun.connect(started, weak=False)
    signals.task_postrun.connect(ended, weak=False)
    signals.worker_process_init.connect(forked, weak=False)
    signals.worker_process_shutdown.connect(stopped, weak=False)
