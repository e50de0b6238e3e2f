"""The agent: what an application makes once, and asks for its tasks."""

from __future__ import annotations

import atexit
import os
import time
import uuid
from collections.abc import Iterable

from . import identity
from .activity import Activity, nothing
from .log import warn
from .task import Task
from .text import integer, label, labels, rfc3339, segment, text

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    import weakref

    from .endpoint import Endpoint
    from .reporter import Reporter

MAX_PARALLEL = 1_000_000
MAX_TOKEN = 65_536
"""Characters."""
EXIT_TIMEOUT = 1.0
"""Seconds that all goodbyes of a process may take together."""


class Agent:
    """One agent of this process; a daemon thread tells Telemetron what it does.

    url: Telemetron's base URL; default TELEMETRON_URL. Without one there is no thread and
    no network, and every call still works.
    namespace, pod_id: default POD_NAMESPACE (else the mounted namespace file) and POD_NAME.
    instance: default pod or host name and process id.
    interval: seconds between beats, 1 to 300.
    token: default TELEMETRON_TOKEN, else the content of TELEMETRON_TOKEN_FILE.

    No method raises. None waits for the network, but `close()`: one second at most.
    """

    def __init__(
        self,
        name: str,
        *,
        url: str | None = None,
        namespace: str | None = None,
        instance: str | None = None,
        pod_id: str | None = None,
        version: str | None = None,
        description: str | None = None,
        deployment_name: str | None = None,
        models: Iterable[str] = (),
        queues: Iterable[str] = (),
        max_parallel: int | None = None,
        interval: float = 5.0,
        token: str | None = None,
    ) -> None:
        self.name = segment(name) or "unnamed"
        self.pod_id = label(pod_id) or label(identity.pod_name())
        self.namespace = label(namespace) or label(identity.namespace())
        self._interval = _interval(interval)
        self._fixed_token = text(token, MAX_TOKEN)
        self._facts = {
            "namespace": self.namespace,
            "pod_id": self.pod_id,
            "version": label(version),
            "description": text(description),
            "deployment_name": label(deployment_name),
            "models": labels(models),
            "queues": labels(queues),
            "max_parallel_invocations": integer(max_parallel, 1, MAX_PARALLEL),
            "interval_seconds": self._interval,
        }
        self._endpoint = _endpoint(self.name, url or os.environ.get("TELEMETRON_URL"))
        self._host = segment(instance) or segment(self.pod_id) or identity.host()
        self._begin(segment(instance) or self._process())
        _open.add(self)
        if self._reporter:
            self._reporter.start()

    def task(
        self,
        id: object = None,
        *,
        parent_id: object = None,
        model: object = None,
        queue: object = None,
        partition: object = None,
        offset: object = None,
    ) -> Task:
        """Start a task: `with agent.task("t-1") as task:`, or call its `end()`.

        id: default a UUID. queue, partition, offset: where the task was taken from.
        """
        task = Task(
            self._activity,
            id,
            parent_id=parent_id,
            model=model,
            queue=queue,
            partition=partition,
            offset=offset,
        )
        if self._reporter:
            self._reporter.start()  # after a fork it runs from the first task on
        return task

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Say goodbye and report no more; the end of the process does it too.

        timeout: seconds to wait for the goodbye at most.
        """
        _open.discard(self)
        if self._reporter:
            self._reporter.close(timeout)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def _restart(self) -> None:
        """In a forked process: an instance of its own, with no tasks."""
        self._activity.detach()
        self._begin(self._process())

    def _process(self) -> str:
        return f"{self._host[:240]}-{os.getpid()}"

    def _begin(self, instance: str) -> None:
        self.instance = instance
        self.boot_id = uuid.uuid4().hex
        self._started_at = rfc3339(time.time())
        self._reporter = self._new_reporter()
        self._activity = Activity(self._reporter.change if self._reporter else nothing)

    def _new_reporter(self) -> Reporter | None:
        if self._endpoint is None:
            return None
        from .reporter import Reporter

        return Reporter(
            self._endpoint,
            name=self.name,
            instance=self.instance,
            namespace=self.namespace,
            interval=self._interval,
            token=self._token,
            state=self._state,
        )

    def _token(self) -> str | None:
        return self._fixed_token or identity.environment_token()

    def _state(self) -> tuple[dict[str, object], list[weakref.ref[Task]]]:
        tasks, outcomes, failure = self._activity.snapshot()
        head: dict[str, object] = {
            "instance": self.instance,
            "boot_id": self.boot_id,
            "started_at": self._started_at,
            **self._facts,
            "task_count": len(tasks),
            "outcomes": outcomes,
            "last_failure": failure,
        }
        return head, tasks


def _endpoint(name: str, url: str | None) -> Endpoint | None:
    if not url:
        return None
    from .endpoint import Endpoint

    try:
        return Endpoint(url)
    except (ValueError, TypeError, AttributeError):  # its text could quote a password
        warn("agent %r does not report: its url is no http or https URL", name)
        return None


def _interval(seconds: object) -> float:
    try:
        return max(1.0, min(300.0, float(seconds)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 5.0


_open: set[Agent] = set()
"""What the end of the process closes, and a fork restarts."""


def _at_exit() -> None:
    """All goodbyes side by side, in one second in all."""
    until = time.monotonic() + EXIT_TIMEOUT
    agents = list(_open)
    for agent in agents:
        agent.close(0)
    for agent in agents:
        agent.close(max(0.0, until - time.monotonic()))


def _after_fork_in_child() -> None:
    for agent in list(_open):
        agent._restart()


atexit.register(_at_exit)
getattr(os, "register_at_fork", dict)(after_in_child=_after_fork_in_child)  # not on Windows
