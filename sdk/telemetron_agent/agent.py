"""The agent: what an application makes once, and asks for its tasks."""

from __future__ import annotations

import atexit
import os
import time
import uuid
from collections.abc import Callable, Iterable
from functools import partial
from typing import Any, TypeVar, overload

from . import identity
from . import record as records
from .activity import Activity, nothing
from .log import warn, warn_once
from .task import NULL, Task
from .text import integer, label, labels, rfc3339, segment, text

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    import threading

    from .endpoint import Endpoint
    from .reporter import Reporter, State

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_PARALLEL = 1_000_000
MAX_TOKEN = 65_536
"""Characters."""
EXIT_TIMEOUT = 1.0
"""Seconds that all goodbyes of a process may take together."""


class Agent:
    """One agent of this process; a daemon thread tells Telemetron what it does.

    url: Telemetron's base URL; default TELEMETRON_URL. Without one there is no thread and
    no network, and every call still works.
    namespace, pod_id: default POD_NAMESPACE (else the mounted namespace file) and POD_NAME
    (else the host name, where that is a pod's).
    version: default POD_VERSION, else `__version__` of the main module.
    instance: default pod or host name and process id.
    interval: seconds between beats, 1 to 300.
    token: default TELEMETRON_TOKEN, else the content of TELEMETRON_TOKEN_FILE.

    No method raises. None waits for the network, but `close()` and `flush()`: one second.
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
            "version": label(version) or label(identity.version()),
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

    @overload
    def task(self, id: Function, /) -> Function: ...  # type: ignore[overload-overlap]

    @overload
    def task(
        self,
        id: object = None,
        *,
        parent_id: object = None,
        model: object = None,
        queue: object = None,
        partition: object = None,
        offset: object = None,
    ) -> Task: ...

    def task(self, id: Any = None, **facts: Any) -> Any:
        """Start a task: `with agent.task("t-1") as task:`, or call its `end()`.

        id: default a UUID. A record of a Kafka topic gives id, queue, partition and offset
        (docs/tasks.md has the rule). Of a function, as the decorator `@agent.task`, each call
        becomes a task.
        parent_id: default the task that is current here.
        model, queue, partition, offset: what it uses, and where it was taken from.
        """
        try:
            if id is None or isinstance(id, (str, int)):
                return self._start(id, **facts)
            record = records.read(id)
            if record is not None:
                return self._start(**{**record._asdict(), **facts})
            if callable(id) or isinstance(id, (staticmethod, classmethod)):
                from .function import wrap

                return wrap(self._start, id)
            return self._start(id, **facts)
        except Exception as error:  # a hostile argument, or the host's own limits
            warn_once(f"a task of agent {self.name!r}", error)
            return NULL

    def _start(self, id: object = None, **facts: Any) -> Task:
        reporter = self._reporter
        task = Task(self._activity, id, **facts)
        if reporter and not reporter.started:
            reporter.start()  # after a fork it runs from the first task on
        return task

    def flush(self, timeout: float = 1.0) -> bool:
        """Tell now what is not told yet, as before a serverless function is frozen.

        timeout: seconds to wait for the server's answer at most. True once it took a beat.
        """
        return self._reporter.flush(timeout) if self._reporter else False

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

    def _rest(self) -> None:
        """A process that only forks does not work itself: goodbye until its first task."""
        if self._reporter and self._reporter.started and not self._activity.used:
            self._reporter.close(0)
            self._begin(self.instance, after=self._reporter.done)

    def _process(self) -> str:
        return f"{self._host[:240]}-{os.getpid()}"

    def _begin(self, instance: str, after: threading.Event | None = None) -> None:
        """A life: what its reporter tells is its own, also while the next one begins."""
        self.instance = instance
        self.boot_id = uuid.uuid4().hex
        self._activity = Activity(nothing)
        life = {"instance": instance, "boot_id": self.boot_id, "started_at": rfc3339(time.time())}
        state = partial(_state, {**life, **self._facts}, self._activity)
        self._reporter = self._new_reporter(state, after)
        if self._reporter:
            self._activity.changed = self._reporter.change

    def _new_reporter(self, state: State, after: threading.Event | None) -> Reporter | None:
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
            state=state,
            after=after,
        )

    def _token(self) -> str | None:
        return self._fixed_token or identity.environment_token()


def _state(head: dict[str, object], activity: Activity, most: int) -> tuple[dict[str, object], Any]:
    """A beat's head, and the `most` oldest tasks."""
    tasks, told = activity.snapshot(most)
    return {**head, **told}, tasks


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


def _after_fork_in_parent() -> None:
    for agent in list(_open):
        agent._rest()


atexit.register(_at_exit)
getattr(os, "register_at_fork", dict)(  # not on Windows
    after_in_child=_after_fork_in_child, after_in_parent=_after_fork_in_parent
)
