"""The turnover of an agent: how many of its tasks started and ended, counted from a delta."""

from collections.abc import Iterator
from typing import Any, NamedTuple

from telemetron.history.delta import Delta
from telemetron.normal import total


class Turnover(NamedTuple):
    """Counts of tasks. A task that came and went unseen counts if its instance reports its end."""

    started: int = 0
    ended: int = 0
    failed: int = 0
    unknown: int = 0
    """Ended tasks without a known outcome."""
    changed: int = 0
    """Tasks that were there before and after, with a change of their own."""

    def plus(self, other: "Turnover") -> "Turnover":
        """Return the turnover of both times together."""
        return Turnover(*map(total, zip(self, other, strict=True)))


def turnover(delta: Delta, is_sure: bool = True) -> Turnover:
    """Return the turnover of an agent between the two versions of a delta.

    `is_sure`: a task that is missing has ended. Otherwise it may not have been observed yet.
    """
    activity = delta.get("activity", {})
    changed, removed, added = _items(activity.get("active_task_ids", ()))
    reports = [one["status"] for one in _items(activity.get("ended", ()))[2]]
    outcomes = list(_outcomes(delta))
    finished = total(rose for _, rose in outcomes)
    known = max(finished, len(reports) - reports.count(None))
    failures = total(rose for name, rose in outcomes if name == "failed")
    failed = max(failures, reports.count("failed"))
    reported = max(finished, len(reports), _growth(activity.get("ended_count")))
    if not is_sure:
        return Turnover(len(added), reported, failed, reported - known, len(changed))
    ended = max(len(removed), reported)
    started = max(0, total((ended, _growth(activity.get("task_count")))))
    return Turnover(started, ended, failed, ended - known, len(changed))


def _items(change: Any) -> tuple[list[Any], list[Any], list[Any]]:
    """Return the changed, removed and added items of a list, without their numbers."""
    if len(change) > 2:
        _, changed, removed, added, _ = change
        return changed, [item for _, item in removed], [item for _, item in added]
    old, new = change or ((), ())  # two items share an identity
    return [], [one for one in old if one not in new], [one for one in new if one not in old]


def _growth(count: Any) -> int:
    """Return by how much a count grew; 0 if it did not change, or is new."""
    old, new = count or (0, 0)
    return new - old if old is not None and new is not None else 0


def _outcomes(delta: Delta) -> Iterator[tuple[str, int]]:
    """Yield each counter of outcomes that rose, and by how much.

    A counter that fell belongs to an instance that has restarted: it counts from zero.
    """
    instances = delta.get("instances", ())
    for _, instance in instances[1] if len(instances) > 2 else ():
        counters = instance.get("outcomes")
        for name, (old, new) in counters.items() if isinstance(counters, dict) else ():
            yield name, new - old if new >= old else new
