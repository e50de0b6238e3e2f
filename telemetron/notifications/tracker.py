"""The tracker: the findings that one receiver knows, and the edges that it does not know yet.

An edge is the begin or the end of a finding. A finding fires while a source of its root is in
sight. It is resolved when it is gone, and its sources were in sight all the time since it was last
raised. After a break, such as a restart, they must have been in sight for `Pace.grace`.
"""

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import datetime
from typing import NamedTuple

from msgspec import Struct
from msgspec.structs import replace

from telemetron.clock import Clock
from telemetron.diagnosis.rule import SEVERITIES
from telemetron.document import Finding
from telemetron.notifications.pace import DEFAULTS
from telemetron.notifications.sight import OWN, Sight

FIRED, RESOLVED = "fired", "resolved"
MAX_PAST = 1_000
"""Ends that are remembered, so that a finding that comes back has another identity."""


class Shown(NamedTuple):
    """A finding as it is shown now."""

    finding: Finding
    sources: tuple[str, ...]
    """The sources that observe its root."""
    labels: dict[str, str]
    """Stable names of its root."""


class Reported(Struct):
    """A finding that has fired and is not resolved."""

    finding: Finding
    """As it was shown last."""
    at: datetime
    """When it began: with the rule and the key its identity."""
    severity: str
    """The worst so far."""
    sources: tuple[str, ...]
    labels: dict[str, str]


class Edge(NamedTuple):
    """The begin or the end of a finding."""

    kind: str
    reported: Reported


class Past(Struct):
    """What a tracker has reported, as it is kept over a restart."""

    reported: dict[str, Reported] = {}
    ended: dict[str, datetime] = {}
    """By key of a resolved finding its identity, the oldest first."""


class Tracker:
    """The findings of one receiver; `wants` says which it wants."""

    def __init__(
        self,
        clock: Clock,
        sight: Sight,
        wants: Callable[[Finding], bool],
        past: Past | None = None,
        grace: float = DEFAULTS.grace,
    ) -> None:
        self.past = past or Past()
        self._clock = clock
        self._sight = sight
        self._wants = wants
        self._grace = grace
        self._shown: dict[str, Shown] = {}
        self._came: dict[str, float] = {}
        """When each finding was shown first, or again, in this process."""

    @property
    def reported(self) -> dict[str, Reported]:
        """The findings that fired and are not resolved, by key."""
        return self.past.reported

    @property
    def is_waiting(self) -> bool:
        """Whether time alone can make an edge."""
        return any(key not in self._shown for key in self.reported)

    def look(self, changed: Mapping[str, Shown | None]) -> None:
        """Note the findings that changed; None: it is no longer shown."""
        for key, shown in changed.items():
            if shown is None:
                self._shown.pop(key, None)
                continue
            if key not in self._shown:
                self._came[key] = self._clock.monotonic()
            self._shown[key] = shown
            if key in self.reported:
                self._update(key, shown)

    def edges(self) -> list[Edge]:
        """Return the edges since the last call, ends first; they count as reported from now on."""
        return [*self._resolved(), *self._fired()]

    def _update(self, key: str, shown: Shown) -> None:
        old = self.reported[key]
        severities = (old.severity, shown.finding.severity)
        worst = min(severities, key=_order)
        self.reported[key] = replace(
            old, finding=shown.finding, severity=worst, sources=shown.sources
        )

    def _fired(self) -> Iterator[Edge]:
        due = [
            shown
            for key, shown in self._shown.items()
            if key not in self.reported
            and self._wants(shown.finding)
            and self._is_in_sight(shown.sources)
        ]
        for finding, sources, labels in sorted(due, key=lambda one: one.finding.rank):
            at = self._identity(finding)
            reported = Reported(finding, at, finding.severity, sources, labels)
            self.reported[finding.key] = reported
            yield Edge(FIRED, reported)

    def _identity(self, finding: Finding) -> datetime:
        """Return when it began, but never the time of an earlier finding of the same key."""
        ended = self.past.ended.get(finding.key)
        for at in (finding.since, finding.raised_at):
            if at is not None and (ended is None or at > ended):
                return at
        return self._clock.now()

    def _is_in_sight(self, sources: Collection[str]) -> bool:
        """Return whether a source sees the root now, as the diagnosis believes any of them."""
        return not sources or any(self._sight.since(name) is not None for name in sources)

    def _resolved(self) -> Iterator[Edge]:
        for key in [key for key in self.reported if key not in self._shown and self._is_over(key)]:
            reported = self.reported.pop(key)
            self._came.pop(key, None)
            ended = self.past.ended
            ended.pop(key, None)
            ended[key] = reported.at
            if len(ended) > MAX_PAST:
                del ended[next(iter(ended))]
            yield Edge(RESOLVED, reported)

    def _is_over(self, key: str) -> bool:
        """Return whether it is gone for good, and not only out of sight."""
        now, came = self._clock.monotonic(), self._came.get(key)
        for name in (OWN, *self.reported[key].sources):
            since = self._sight.since(name)
            if since is None:
                return False
            if (came is None or since > came) and now - since < self._grace:
                return False
        return True


def _order(severity: str) -> int:
    """Return 0 for the worst; a severity of a later version is the least."""
    return SEVERITIES.index(severity) if severity in SEVERITIES else len(SEVERITIES)
