"""What Kafka's own client says of all groups, from one long-lived JVM."""

import json
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any, NamedTuple

from tests.real.kafka.broker import Cluster
from tests.real.process import wait_until

LOOK_SECONDS = 20
STOP_SECONDS = 10


class GroupTruth(NamedTuple):
    """One group, as Kafka's admin client describes it."""

    type: str
    state: str
    epoch: int | None
    members: list[tuple[str, dict[str, list[int]]]]
    """Client id, and partitions by topic."""
    lags: dict[str, dict[int, int]]
    """The end of the log less the commit, or a share group's own lag, where it is known."""

    def consumers(self, topic: str) -> int:
        """Members with partitions of a topic."""
        return sum(topic in topics for _, topics in self.members)


class Oracle:
    """Asks it."""

    def __init__(self, process: "subprocess.Popen[str]") -> None:
        self._in: IO[str] = process.stdin  # type: ignore[assignment]
        self._out: IO[str] = process.stdout  # type: ignore[assignment]

    def groups(self, prefix: str) -> dict[str, GroupTruth]:
        """Those whose names begin so, by name; looks again where one was going just then."""
        found: dict[str, Any] = {}

        def is_whole() -> bool:
            found.clear()
            found.update(self._look(prefix))
            return "error" not in found

        wait_until(is_whole, seconds=LOOK_SECONDS, what=f"groups {prefix}")
        return {name: _truth(group) for name, group in found.items()}

    def _look(self, prefix: str) -> dict[str, Any]:
        self._in.write(f"{prefix}\n")
        self._in.flush()
        line = self._out.readline()
        assert line, "the oracle has ended"
        found: dict[str, Any] = json.loads(line)
        return found


def _truth(group: dict[str, Any]) -> GroupTruth:
    members = sorted((it["client"], it["partitions"]) for it in group["members"])
    lags = {
        topic: {int(number): lag for number, lag in numbers.items()}
        for topic, numbers in group["lags"].items()
    }
    return GroupTruth(group["type"].lower(), group["state"], group["epoch"], members, lags)


@contextmanager
def oracle(cluster: Cluster) -> Iterator[Oracle]:
    """Ended with the context."""
    process = subprocess.Popen(
        cluster.program("GroupOracle.java"),
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Oracle(process)
    finally:
        process.communicate(timeout=STOP_SECONDS)
