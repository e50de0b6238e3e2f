"""The past of a few entities: changes of their status, without tasks that come and go."""

from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import msgspec

from telemetron.answers.brief.survey import Id, Survey, ends
from telemetron.document import Finding
from telemetron.history import queries
from telemetron.history.delta import MEASURES
from telemetron.history.selection import Selection
from telemetron.history.timeline import Timeline

FIELDS = {
    *("status", "reason", "rollout", "ready", "desired", "node_ready", "restarts", "image"),
    *("consumers", "group_state", "consumer_group", "max_pods", "pod_max_cpu", "pod_max_ram"),
    *("models", "queues", "version", "lives", "upstream_model", "provider", "partitions"),
    *("tpm_max", "rpm_max", "status_code"),
}
"""Fields whose change may be a cause or a symptom; the last component of their path."""
CHURN = ("activity", "lagging", "members", "tasks")
"""Fields that change all the time while all is well."""
OF_PODS = FIELDS - {"ready", "status"}
"""`reason` says more of a pod."""
BEFORE, AFTER = timedelta(minutes=5), timedelta(minutes=1)
"""How far from the onset of a finding a change may be."""
MOST_ENTITIES = 12
# Of all kinds: the search for a rare kind could walk through the whole history of an agent.
STATE = Selection(MEASURES["none"])
# Each entity's newest changes that are looked at; most changes of an agent are of its tasks.
MOST_LOOKED_AT = 40
MOST_CHANGES = 60


class Window(NamedTuple):
    """A time, both ends included; None: open."""

    start: datetime | None = None
    end: datetime | None = None

    def has(self, at: datetime) -> bool:
        """Whether the time is within."""
        return not (self.start and at < self.start) and not (self.end and at > self.end)


class Asked(NamedTuple):
    """The entities whose changes to look for, and when."""

    ids: Sequence[Id]
    windows: Sequence[Window] = ()
    own: int = 0
    """How many of the first ones are concerned themselves."""


class PastChange(NamedTuple):
    """One field that changed; `old` and `new` are as in the document.

    If the same field of several items changed in the same way, `items` is their number, and the
    field is that of the first.
    """

    at: datetime
    id: Id
    field: str
    old: Any
    new: Any
    items: int = 1


def onset(survey: Survey, findings: Sequence[Finding]) -> Asked:
    """Return what to ask about the time at which these findings began.

    Their own entities come first, then those whose state changed last after that time.
    """
    times = [(one.since or one.raised_at, one.raised_at or one.since) for one in findings]
    windows = [Window(start - BEFORE, end + AFTER) for start, end in times if start and end]
    if not windows:
        return Asked([])
    own = [id for finding in findings for id in ends(finding)]
    first = min(window.start for window in windows if window.start)
    known = [id for id in dict.fromkeys(own) if survey.get(id)]
    ids = list(dict.fromkeys([*known, *_changed_since(survey, first)]))[:MOST_ENTITIES]
    return Asked(ids, windows, len(known))


def _changed_since(survey: Survey, start: datetime) -> list[Id]:
    """Return entities whose state changed since then, the earliest first, without agents."""
    found = [
        (fragment.entity.updated_at, (section, fragment.entity.key))
        for section in ("workload", "litellm", "queues")
        for fragment in survey.snapshot.sections[section].rope
        if fragment.change.at >= start
    ]
    return [id for _, id in sorted(found)]


def changes(timeline: Timeline, asked: Asked, until: datetime) -> list[PastChange]:
    """Return the changes, the first to look at first; call it in the thread of the history.

    Within windows the first entity's come first, and the earliest; otherwise the newest.
    """
    found: list[PastChange] = []
    for id in asked.ids:
        try:
            body = queries.entity_history(timeline, id, None, STATE, MOST_LOOKED_AT, until)
        except queries.UnknownKeyError:  # not recorded yet
            continue
        for change in msgspec.json.decode(body)["changes"]:
            found += _of(id, change)
    return ordered([one for one in found if one.at <= until], asked)


def ordered(found: Iterable[PastChange], asked: Asked) -> list[PastChange]:
    """Return the changes within the windows in their order, those of alike items as one."""
    alike: dict[tuple[Any, ...], PastChange] = {}
    for one in sorted(found, key=lambda one: (one.at, one.field)):
        if not asked.windows or any(window.has(one.at) for window in asked.windows):
            list_, _, rest = one.field.partition("/")
            name = rest.rpartition("/")[2]
            same = (one.at, one.id, list_, name if "/" in rest else "", str(one.old), str(one.new))
            first = alike.setdefault(same, one._replace(items=0))
            alike[same] = first._replace(items=first.items + 1)
    if not asked.windows:
        return list(alike.values())[: -MOST_CHANGES - 1 : -1]
    own = set(asked.ids[: asked.own])
    return sorted(alike.values(), key=lambda one: (one.id not in own, one.at))[:MOST_CHANGES]


def _of(id: Id, change: dict[str, Any]) -> Iterator[PastChange]:
    if change["at"] is None:
        return
    at = datetime.fromisoformat(change["at"])
    if change["change"] != "changed":
        yield PastChange(at, id, change["change"], None, None)
        return
    for path, one in change.get("fields", {}).items():
        list_, name = path.partition("/")[0], path.rpartition("/")[2]
        if list_ in CHURN:
            continue
        if "added" in one or "removed" in one:
            yield PastChange(at, id, path, *_came_or_went(one))
        elif name in (OF_PODS if list_ == "pods" else FIELDS) and not _is_work(one):
            yield PastChange(at, id, path, one["old"], one["new"])


def _is_work(one: dict[str, Any]) -> bool:
    """Whether an agent only took or ended a task."""
    return {str(one["old"]), str(one["new"])} == {"active", "idle"}


def _came_or_went(one: dict[str, Any]) -> tuple[Any, Any]:
    """Return the status of an item that was removed, or added."""
    old, new = (one.get(word) for word in ("removed", "added"))
    return _status(old, "removed"), _status(new, "added")


def _status(item: dict[str, Any] | None, word: str) -> Any:
    return item and (item.get("reason") or item.get("status") or word)
