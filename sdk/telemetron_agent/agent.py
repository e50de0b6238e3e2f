"""The agent: an application creates it once and starts its tasks with it."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import partialmethod
from typing import Any, TypeVar, overload

from . import identity, life
from . import record as records
from .life import EXIT_TIMEOUT, Key, Life
from .log import warn, warn_once
from .task import NULL, Task
from .text import integer, label, labels, segment, text

TYPE_CHECKING = False  # typing.TYPE_CHECKING without the import
if TYPE_CHECKING:
    from .endpoint import Endpoint

Function = TypeVar("Function", bound=Callable[..., Any])

MAX_PARALLEL = 1_000_000
MAX_TOKEN = 65_536
"""Characters."""


class Agent:
    """One agent of this process; a daemon thread reports it to Telemetron.

    url: Telemetron's base URL; default TELEMETRON_URL. Without one there is no thread and
    no network, and every call still works.
    namespace, pod_id: default POD_NAMESPACE (else the mounted namespace file) and POD_NAME
    (else the host name, if it is a pod's).
    version: default POD_VERSION, else `__version__` of the main module.
    instance: default pod or host name and process id.
    interval: seconds between beats, 1 to 300.
    token: default TELEMETRON_TOKEN, else the content of TELEMETRON_TOKEN_FILE.

    Agents of one name, namespace, server and instance in a process are one instance: they share
    a reporter, which sends a goodbye when the last of them is closed. A copy of an agent is the
    agent itself. A pickled agent becomes the agent of the process that loads it, without its token.

    No method raises. Only `close()` and `flush()` wait for the network, for one second.
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
        self._begin(
            name,
            url=url,
            namespace=namespace,
            instance=instance,
            pod_id=pod_id,
            version=version,
            description=description,
            deployment_name=deployment_name,
            models=models,
            queues=queues,
            max_parallel=max_parallel,
            interval=interval,
            token=token,
        )
        self._life.start()

    def _begin(self, name: str, *, pickled: bool = False, **given: Any) -> None:
        """Join the life of this instance, or begin it."""
        facts = _facts(given)
        self.name = segment(name) or "unnamed"
        self.pod_id = facts["pod_id"]
        self.namespace = facts["namespace"]
        endpoint = _endpoint(self.name, given["url"] or identity.environment("TELEMETRON_URL"))
        instance = segment(given["instance"])
        url = endpoint.place if endpoint and given["url"] else None  # without credentials
        self._given = {**given, "models": facts["models"], "queues": facts["queues"], "url": url}
        self._given["token"] = None
        self._key = Key(self.name, self.namespace, endpoint.place if endpoint else None, instance)
        self._life = life.find(self._key) or life.share(
            Life(
                self._key,
                endpoint,
                host=instance or segment(self.pod_id) or identity.host(),
                facts=facts,
                token=_token(given["token"]),
                given=self._given,
                pickled=pickled,
            )
        )
        self._life.join(self, facts)

    @property
    def instance(self) -> str:
        """The id of this instance; a fork changes it in the child."""
        return self._life.instance

    @property
    def boot_id(self) -> str:
        """The id of this life of the instance; a fork changes it in the child."""
        return self._life.boot_id

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
        (docs/tasks.md has the rule). A function, as with the decorator `@agent.task`, is returned
        so that each call becomes a task.
        parent_id: default the current task.
        model, queue, partition, offset: the model that it uses, and where it came from.
        """
        try:
            begin = self._life.begin_task
            if id is None or isinstance(id, (str, int)):
                return begin(id, **facts)
            record = records.read(id)
            if record is not None:
                return begin(**{**record._asdict(), **facts})
            if _is_function(id):
                from .function import wrap

                return wrap(begin, id)
            return begin(id, **facts)
        except Exception as error:  # a hostile argument, or the host's own limits
            warn_once(f"a task of agent {self.name!r}", error)
            return id if _is_function(id) else NULL

    def flush(self, timeout: float = 1.0) -> bool:
        """Send a beat now, for example before a serverless function is frozen.

        timeout: the most seconds to wait. Return whether the server accepted the beat.
        """
        return self._life.flush(timeout)

    def close(self, timeout: float = EXIT_TIMEOUT) -> None:
        """Send the goodbye and stop reporting; the end of the process does it too.

        timeout: the most seconds to wait for the goodbye.
        """
        self._life.leave(self, timeout)

    def __enter__(self) -> Agent:
        return self

    def __exit__(self, *error: object) -> None:
        self.close()

    def __copy__(self) -> Agent:
        return self

    def __deepcopy__(self, memo: object) -> Agent:
        return self

    def __reduce__(self) -> tuple[Any, ...]:
        return load, (self.name, self._given)


def load(name: str, given: dict[str, Any]) -> Agent:
    """Return this process's agent for a pickled one; a new one reports from its first task on."""
    agent = Agent.__new__(Agent)
    agent._begin(name, pickled=True, **given)
    others = (each for each in list(agent._life.holders) if each is not agent)
    return next(others, agent)


def _is_function(thing: object) -> bool:
    """Return whether the argument is a function to decorate."""
    return callable(thing) or isinstance(thing, (staticmethod, classmethod, partialmethod))


def _facts(given: dict[str, Any]) -> dict[str, Any]:
    """Return the fields of every beat from an agent's arguments."""
    return {
        "namespace": label(given["namespace"]) or label(identity.namespace()),
        "pod_id": label(given["pod_id"]) or label(identity.pod_name()),
        "version": label(given["version"]) or label(identity.version()),
        "description": text(given["description"]),
        "deployment_name": label(given["deployment_name"]),
        "models": labels(given["models"]),
        "queues": labels(given["queues"]),
        "max_parallel_invocations": integer(given["max_parallel"], 1, MAX_PARALLEL),
        "interval_seconds": _interval(given["interval"]),
    }


def _token(given: object) -> Callable[[], str | None]:
    """Return a function that gives the stripped token, or the environment's at each beat."""
    try:
        fixed = None if given is None else str(given).strip()[:MAX_TOKEN]
    except Exception:  # a caller's broken __str__
        fixed = None
    return lambda: fixed or identity.environment_token()


def _endpoint(name: str, url: str | None) -> Endpoint | None:
    if not url:
        return None
    from .endpoint import Endpoint

    try:
        return Endpoint(url.strip())
    except (ValueError, TypeError, AttributeError):  # the text could quote a password
        warn("agent %r does not report: its url is not an http or https URL", name)
        return None


def _interval(seconds: object) -> float:
    try:
        return max(1.0, min(300.0, float(seconds)))  # type: ignore[arg-type]
    except (TypeError, ValueError):
        return 5.0
