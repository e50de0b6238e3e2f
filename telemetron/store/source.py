"""One configured source: its status, its problems, and when its scopes were confirmed."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from loguru import logger

from telemetron.clock import Clock, Timer
from telemetron.document import SourceProblem, SourceRow
from telemetron.reason import REASONS
from telemetron.store.part import Part
from telemetron.text import one_line

MAX_PROBLEMS = 32
MAX_KNOWN = 256
# Kinds of problems that are always kept: there is at most one for each scope.
BOUNDED_BY_SCOPES = ("failure", "trouble")
# A source with such a problem is never `ok`, even if its values (null) are correct.
UNANSWERED = ("Unreachable", "Timeout", "Unauthorized")
MAX_MESSAGE = 500


class Scope(NamedTuple):
    """A part of the source that can fail by itself."""

    deadline: float
    """Monotonic time at which it is stale unless it is confirmed again."""
    confirmed_at: datetime | None
    in_trouble: bool = False
    """The last observation failed."""


class Source:
    """The state machine behind one row of `sources`; calls `changed` when the row may differ.

    It is `off` until `load` or `start`. A timer makes it `stale`, so a collector that hangs is
    noticed.
    """

    def __init__(
        self,
        name: str,
        collector: str,
        clock: Clock,
        changed: Callable[["Source"], None] = lambda source: None,
    ) -> None:
        self.name = name
        self.collector = collector
        self.clock = clock
        self.parts: dict[tuple[str, str], Part] = {}
        self.entities = 0
        self.restarts = 0
        self.events: Counter[str] = Counter()
        self.status = "off"
        self.since = clock.now()
        self.last_ok_at: datetime | None = None
        self.max_age_seconds: float | None = None
        self.address: str | None = None
        self.agent_rank = 0
        self.problems: dict[tuple[str, str], SourceProblem] = {}
        """By kind (`failure`, `trouble` of a scope, refused `part` or `group`) and name."""
        self._only_counted: dict[tuple[str, str], str] = {}
        """The scopes of further problems, which are only counted."""
        self._changed = changed
        self._scopes: dict[str, Scope] = {}
        self._first_deadline = 0.0
        """Monotonic time at which it is stale unless a scope was named."""
        self._running = False
        self._complete = False
        self._timer: Timer | None = None

    def load(self, patience_seconds: float) -> None:
        """Begin the import of the collector; after `patience_seconds` the source is `stale`."""
        self._running = True
        self._first_deadline = self.clock.monotonic() + patience_seconds
        self._update()

    def start(
        self, max_age_seconds: float, address: str | None = None, agent_rank: int = 0
    ) -> None:
        """Start a run of the collector; it must confirm something within `max_age_seconds`."""
        self.agent_rank = agent_rank
        self.max_age_seconds = max_age_seconds
        self.address = address and one_line(address, MAX_MESSAGE)
        self._running = True
        self._first_deadline = self.clock.monotonic() + max_age_seconds
        self._changed(self)
        self._update()

    def fail(self, reason: str, message: str) -> None:
        """Record why the collector does not run."""
        self._running = False
        self.report("failure", "", "", reason, message)
        self._update()

    def stop(self) -> None:
        """Cancel the timer."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def expect(self, scopes: Iterable[str]) -> None:
        """Replace the scopes of the source; see `Output.expect`."""
        known, deadline = self._scopes, self._deadline()
        self._scopes = {name: known.get(name, Scope(deadline, None)) for name in scopes}
        for name in known.keys() - self._scopes.keys():
            self.resolve("trouble", name)
        self._update()

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        """Confirm a scope; see `Output.confirm`."""
        self._scopes[scope] = Scope(self._deadline(), self.clock.now(), reason in UNANSWERED)
        if reason is not None:
            self.report("trouble", scope, scope, reason, message)
        elif self.problems:
            self.resolve("trouble", scope)
        if self._running:
            self.resolve("failure", "")
        if self.status != "ok" or reason in UNANSWERED:
            self._update()

    def trouble(self, scope: str, reason: str, message: str) -> None:
        """Record why a scope cannot be observed; see `Output.trouble`."""
        known = self._scopes.get(scope) or Scope(self._deadline(), None)
        self._scopes[scope] = known._replace(in_trouble=True)
        self.report("trouble", scope, scope, reason, message)
        self._update()

    def report(self, kind: str, what: str, scope: str, reason: str, message: str) -> None:
        """Add or replace the problem of one thing: a scope, a part, a group.

        Raises ValueError if the reason is not one of `telemetron.reason`.
        """
        if reason not in REASONS:
            raise ValueError(f"unknown reason {reason!r}; telemetron.reason has {sorted(REASONS)}")
        old = self.problems.get((kind, what))
        since = old.since if old and old.reason == reason else self.clock.now()
        new = SourceProblem(
            one_line(scope, MAX_MESSAGE), reason, one_line(message, MAX_MESSAGE), since
        )
        room = kind in BOUNDED_BY_SCOPES or len(self.problems) < MAX_KNOWN
        if new == old:
            return
        if old or room:
            self._only_counted.pop((kind, what), None)
            self.problems[kind, what] = new
        else:
            self._only_counted[kind, what] = new.scope
        self._changed(self)

    def resolve(self, kind: str, what: str) -> None:
        """End the problem of one thing, if it has one."""
        count = self.problem_count
        self.problems.pop((kind, what), None)
        self._only_counted.pop((kind, what), None)
        if self.problem_count < count:
            self._changed(self)

    @property
    def problem_count(self) -> int:
        """The number of all problems, listed or not."""
        return len(self.problems) + len(self._only_counted)

    def replace_refusals(
        self, scope: str, listed: Container[str], refused: Mapping[str, str]
    ) -> None:
        """Replace the refusals of a scope's parts; `refused` has a message for each."""
        shown = one_line(scope, MAX_MESSAGE)
        scopes = {at: problem.scope for at, problem in self.problems.items()} | self._only_counted
        for (kind, what), of in scopes.items():
            if kind == "part" and what not in refused and (what in listed or of == shown):
                self.resolve("part", what)
        for what, message in refused.items():
            self.report("part", what, scope, "Refused", message)

    def row(self) -> SourceRow:
        """Return its row in the document."""
        listed = sorted(self.problems.items(), key=_severity)[:MAX_PROBLEMS]
        order = sorted([problem for _, problem in listed], key=_order)
        count = self.problem_count
        return SourceRow(
            key=self.name,
            collector=self.collector,
            status=self.status,
            since=self.since,
            max_age_seconds=self.max_age_seconds if self.max_age_seconds != inf else None,
            last_ok_at=self.last_ok_at,
            entities=self.entities,
            problems=order,
            truncated={"problems": count} if count > len(order) else None,
            address=self.address,
        )

    def _deadline(self) -> float:
        if self.max_age_seconds is None:
            raise RuntimeError(f"source {self.name}: start() must be called first")
        return self.clock.monotonic() + self.max_age_seconds

    def _update(self) -> None:
        now = self.clock.monotonic()
        status = self._status(now)
        if status == "stale":
            self._report_unconfirmed(now)
        last_ok_at = None if status in ("ok", "off") else self._all_confirmed_at()
        if (status, last_ok_at) != (self.status, self.last_ok_at):
            if status != self.status:
                self._log(status)
                self.since = self.clock.now()
            self.status, self.last_ok_at = status, last_ok_at
            self._changed(self)
        self._set_timer(now)

    def _log(self, status: str) -> None:
        """Log a change of status; a normal start only at DEBUG."""
        line = f"source {self.name}: {status} (was {self.status})"
        listed = self.row().problems
        reason = listed[0].reason if listed else None
        log = logger.bind(source=self.name, status=status, reason=reason)
        if status in ("ok", "starting", "off"):
            is_start = self.status in ("off", "starting")
            log.log("DEBUG" if is_start else "INFO", "{}", line)
        else:
            problems = "; ".join(f"{one.reason}: {one.message}" for one in listed[:3])
            log.warning("{}{}", line, f": {problems}" if problems else "")

    def _report_unconfirmed(self, now: float) -> None:
        late = [name for name, scope in self._scopes.items() if scope.deadline <= now]
        for name in late:
            if ("trouble", name) not in self.problems:
                self.report("trouble", name, name, "Unconfirmed", REASONS["Unconfirmed"])
        if not late and ("failure", "") not in self.problems:
            self.report("failure", "", "", "Unconfirmed", REASONS["Unconfirmed"])

    def _status(self, now: float) -> str:
        if not self._running:
            return "failing" if ("failure", "") in self.problems else "off"
        if (
            min((scope.deadline for scope in self._scopes.values()), default=self._first_deadline)
            <= now
        ):
            return "stale"
        if self._scopes and all(scope.confirmed_at for scope in self._scopes.values()):
            self._complete = True
        if not self._complete:
            return "starting"
        is_degraded = ("failure", "") in self.problems or any(
            scope.in_trouble for scope in self._scopes.values()
        )
        return "degraded" if is_degraded else "ok"

    def _all_confirmed_at(self) -> datetime | None:
        """Return the time of the oldest confirmation; None if a scope was never confirmed."""
        times = [scope.confirmed_at for scope in self._scopes.values()]
        known = [at for at in times if at]
        return min(known) if known and len(known) == len(times) else None

    def _set_timer(self, now: float) -> None:
        """Update again at the next deadline; confirmations until then set no timer."""
        self.stop()
        deadlines = [scope.deadline for scope in self._scopes.values()] or [self._first_deadline]
        ahead = [deadline for deadline in deadlines if now < deadline < inf]
        if ahead and self._running:
            self._timer = self.clock.call_later(min(ahead) - now, self._update)


def _order(problem: SourceProblem) -> tuple[str, str, str]:
    return problem.scope, problem.reason, problem.message


def _severity(item: tuple[tuple[str, str], SourceProblem]) -> tuple[Any, ...]:
    """Sort problems of the whole source or a scope before those of one part."""
    (kind, _), problem = item
    return (kind not in BOUNDED_BY_SCOPES, *_order(problem))
