"""Telemetron as a process of its own, observing Kafka: what it shows, and what it logs."""

import json
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.ports import free_port
from tests.real.process import running, wait_until

SECONDS = 30
"""Within which everything must have been noticed, and recovered from."""
READ_SECONDS = 5
"""Within which the endpoint must answer, whatever happens to Kafka, on a machine that may stall."""

Entity = Mapping[str, Any]


class Observer:
    """Reads the document of one running Telemetron."""

    def __init__(self, port: int, log: Path) -> None:
        self._url = f"http://127.0.0.1:{port}/system/state"
        self._log = log

    def state(self) -> dict[str, Any]:
        """The document, now."""
        with urllib.request.urlopen(self._url, timeout=READ_SECONDS) as answer:
            document: dict[str, Any] = json.load(answer)
            return document

    def queues(self, source: str = "kafka") -> dict[tuple[str, str | None], Entity]:
        """By topic and group."""
        found = [queue for queue in self.state()["queues"] if queue["source"] == source]
        return {(queue["name"], queue["consumer_group"]): queue for queue in found}

    def queue(self, topic: str, group: str | None, source: str = "kafka") -> Entity:
        """One queue; empty where it is not shown."""
        return self.queues(source).get((topic, group), {})

    def source(self, name: str = "kafka") -> Entity:
        """One source."""
        return next(source for source in self.state()["sources"] if source["key"] == name)

    def await_queue(
        self,
        topic: str,
        group: str | None,
        true: Callable[[Entity], bool],
        *,
        source: str = "kafka",
    ) -> Entity:
        """The queue, once that is true of it; AssertionError tells how it is instead."""
        return _await(lambda: self.queue(topic, group, source), lambda queue: queue and true(queue))

    def await_shown(self, topic: str, group: str | None, **fields: Any) -> Entity:
        """The queue, once its fields are these."""
        return self.await_queue(topic, group, lambda queue: fields.items() <= queue.items())

    def await_queues(self, true: Callable[[Mapping[Any, Entity]], bool]) -> None:
        """Until that is true of the queues, by topic and group."""
        wait_until(lambda: true(self.queues()), seconds=SECONDS, what="the list of queues")

    def await_source(self, true: Callable[[Entity], bool], name: str = "kafka") -> Entity:
        """The source, once that is true of it."""
        return _await(lambda: self.source(name), true)

    def await_reason(self, reason: str, name: str = "kafka") -> Entity:
        """The source, once it has a problem with this reason."""
        return self.await_source(lambda source: reason in reasons(source), name)

    def await_ok(self, name: str = "kafka") -> Entity:
        """The source, once all is confirmed and nothing is wrong."""
        return self.await_source(lambda it: it["status"] == "ok" and not it["problems"], name)

    def task(self, path: str) -> tuple[int, dict[str, Any]]:
        """The status and the body of the answer about one task."""
        url = self._url.replace("/system/state", f"/system/tasks/{path}")
        try:
            with urllib.request.urlopen(url, timeout=READ_SECONDS) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            with error:
                return error.code, json.load(error)

    def logged(self) -> list[dict[str, Any]]:
        """Records at warning and above, so far; not that the status of a source has changed."""
        lines = [json.loads(line) for line in self._log.read_text().splitlines()]
        serious = [it for it in lines if it["level"].upper() not in ("INFO", "DEBUG", "TRACE")]
        return [line for line in serious if line["logger"] != "telemetron.store.source"]


def reasons(entity: Entity) -> set[str]:
    """Of its problems."""
    return {problem["reason"] for problem in entity.get("problems", ())}


def offsets(queue: Entity) -> list[int]:
    """Of the tasks that it shows, in their order."""
    return [task["offset"] for task in queue["tasks"]]


def ids(queue: Entity) -> list[str]:
    """Of the tasks that it shows, in their order."""
    return [task["id"] for task in queue["tasks"]]


@contextmanager
def observing(
    folder: Path, sources: Mapping[str, Any] | None, *, faults: int = 0, **env: str
) -> Iterator[Observer]:
    """A Telemetron with these sources; at its end no more was logged than a line for each fault."""
    port = free_port()
    config, log = folder / f"telemetron-{port}.yaml", folder / f"telemetron-{port}.log"
    config.write_text(json.dumps({"sources": sources} if sources else {}))
    command = [sys.executable, "-m", "telemetron", "serve", f"--config={config}"]
    with running(command, env={"SERVER_PORT": str(port), "LOG_LEVEL": "info", **env}, log=log):
        observer = Observer(port, log)
        wait_until(lambda: _answers(observer), seconds=SECONDS, what="Telemetron")
        yield observer
        assert len(observer.logged()) <= faults, observer.logged()


def source(servers: Sequence[str], topic: str, *groups: str, **keys: Any) -> dict[str, Any]:
    """A source with one queue for these groups, or all; `keys` are those of the queue."""
    named = {"groups": list(groups)} if groups else {}
    return cluster_source(servers, [{"topic": topic, **named, **keys}])


def cluster_source(servers: Sequence[str], queues: Sequence[Any], **keys: Any) -> dict[str, Any]:
    """A source of these queues; `keys` are those of the source."""
    return {"collector": "kafka", "bootstrap_servers": list(servers), "queues": queues, **keys}


def _answers(observer: Observer) -> bool:
    try:
        observer.state()
    except OSError:
        return False
    return True


def _await(look: Callable[[], Entity], true: Callable[[Entity], Any]) -> Entity:
    end = time.monotonic() + SECONDS
    while not true(seen := look()):
        assert time.monotonic() < end, f"after {SECONDS} s it is still {json.dumps(seen, indent=1)}"
        time.sleep(0.05)
    return seen
