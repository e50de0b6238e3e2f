"""One configured source: which of its scopes were confirmed when, and what its status is."""

from collections import Counter
from collections.abc import Callable, Container, Iterable, Mapping
from datetime import datetime
from math import inf
from typing import Any, NamedTuple

from loguru import logger

from telemetron.clock import Clock, Timer
from telemetron.document import SourceProblem, SourceRow
from telemetron.reason import REASONS
from telemetron.store.check import text
from telemetron.store.part import Part

MAX_PROBLEMS = 32
MAX_KNOWN = 256
BOUNDED_BY_SCOPES = ("failure", "trouble")
# Never beside `ok`, even if what the collector shows (null) is true.
UNANSWERED = ("Unreachable", "Timeout", "Unauthorized")
MAX_MESSAGE = 500


class Scope(NamedTuple):
    """A part of the source that can fail by itself."""

    deadline: float
    """Monotonic time until which the promise holds."""
    confirmed_at: datetime | None
    in_trouble: bool = False
    """The last look at it failed."""


class Source:
    """The state machine behind one row of `sources`; `changed` is called when the row may differ.

    `off` until `start`; a timer, not the next poll, makes it `stale`.
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
        self.problems: dict[tuple[str, str], SourceProblem] = {}
        """By kind (`failure`, `trouble` of a scope, hidden `part` or `group`) and name."""
        self._unkept: dict[tuple[str, str], str] = {}
        """The scopes of further problems, which are only counted."""
        self._changed = changed
        self._scopes: dict[str, Scope] = {}
        self._patience = 0.0
        self._running = False
        self._complete = False
        self._timer: Timer | None = None

    def load(self, patience_seconds: float) -> None:
        """The collector is being imported; it has `patience_seconds` until it is `stale`."""
        self._running = True
        self._patience = self.clock.monotonic() + patience_seconds
        self._judge()

    def start(self, max_age_seconds: float, address: str | None = None) -> None:
        """The collector runs; it has `max_age_seconds` to confirm something."""
        self.max_age_seconds = max_age_seconds
        self.address = address and text(address, MAX_MESSAGE)
        self._running = True
        self._patience = self.clock.monotonic() + max_age_seconds
        self._changed(self)
        self._judge()

    def fail(self, reason: str, message: str) -> None:
        """The collector does not run."""
        self._running = False
        self._report("failure", "", "", reason, message)
        self._judge()

    def stop(self) -> None:
        """No timer is left behind."""
        if self._timer:
            self._timer.cancel()
            self._timer = None

    def expect(self, scopes: Iterable[str]) -> None:
        """The source consists of these scopes from now on; see `Output.expect`."""
        known, promise = self._scopes, self._promise()
        self._scopes = {name: known.get(name, Scope(promise, None)) for name in scopes}
        for name in known.keys() - self._scopes.keys():
            self._forget("trouble", name)
        self._judge()

    def confirm(self, scope: str = "", *, reason: str | None = None, message: str = "") -> None:
        """All that is shown of the scope is true now; see `Output.confirm`."""
        self._scopes[scope] = Scope(self._promise(), self.clock.now(), reason in UNANSWERED)
        if reason is not None:
            self._report("trouble", scope, scope, reason, message)
        elif self.problems:
            self._forget("trouble", scope)
        if self._running:
            self._forget("failure", "")
        if self.status != "ok" or reason in UNANSWERED:
            self._judge()

    def trouble(self, scope: str, reason: str, message: str) -> None:
        """The scope cannot be observed; see `Output.trouble`."""
        known = self._scopes.get(scope) or Scope(self._promise(), None)
        self._scopes[scope] = known._replace(in_trouble=True)
        self._report("trouble", scope, scope, reason, message)
        self._judge()

    def refuse(self, kind: str, what: str, scope: str, reason: str, message: str) -> None:
        """One part or group (`kind`) is not shown."""
        self._report(kind, what, scope, reason, message)

    def accept(self, kind: str, what: str) -> None:
        """The part or group is shown again, or gone."""
        if self.problem_count:
            self._forget(kind, what)

    @property
    def problem_count(self) -> int:
        """All its problems, kept or not."""
        return len(self.problems) + len(self._unkept)

    def settle(self, scope: str, listed: Container[str], refused: Mapping[str, str]) -> None:
        """A scope was replaced: of its parts these are refused, with the reason, and no others."""
        shown = text(scope, MAX_MESSAGE)
        scopes = {at: problem.scope for at, problem in self.problems.items()} | self._unkept
        for (kind, what), of in scopes.items():
            if kind == "part" and what not in refused and (what in listed or of == shown):
                self._forget("part", what)
        for what, message in refused.items():
            self.refuse("part", what, scope, "Refused", message)

    def row(self) -> SourceRow:
        """What the document says of it."""
        listed = sorted(self.problems.items(), key=_gravity)[:MAX_PROBLEMS]
        order = sorted([problem for _, problem in listed], key=_place)
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

    def _promise(self) -> float:
        if self.max_age_seconds is None:
            raise RuntimeError(f"source {self.name} was not started")
        return self.clock.monotonic() + self.max_age_seconds

    def _report(self, kind: str, what: str, scope: str, reason: str, message: str) -> None:
        if reason not in REASONS:
            raise ValueError(f"{reason!r} is no reason; telemetron.reason has {sorted(REASONS)}")
        old = self.problems.get((kind, what))
        since = old.since if old and old.reason == reason else self.clock.now()
        new = SourceProblem(text(scope, MAX_MESSAGE), reason, text(message, MAX_MESSAGE), since)
        room = kind in BOUNDED_BY_SCOPES or len(self.problems) < MAX_KNOWN
        if new == old:
            return
        if old or room:
            self._unkept.pop((kind, what), None)
            self.problems[kind, what] = new
        else:
            self._unkept[kind, what] = new.scope
        self._changed(self)

    def _forget(self, kind: str, what: str) -> None:
        count = self.problem_count
        self.problems.pop((kind, what), None)
        self._unkept.pop((kind, what), None)
        if self.problem_count < count:
            self._changed(self)

    def _judge(self) -> None:
        now = self.clock.monotonic()
        status = self._status(now)
        if status == "stale":
            self._say_unconfirmed(now)
        last_ok_at = None if status in ("ok", "off") else self._known_good()
        if (status, last_ok_at) != (self.status, self.last_ok_at):
            if status != self.status:
                self._log(status)
                self.since = self.clock.now()
            self.status, self.last_ok_at = status, last_ok_at
            self._changed(self)
        self._arm(now)

    def _log(self, status: str) -> None:
        """Log a change of status; that a source becomes `ok` after its start is no news."""
        line = f"source {self.name}: {status} (was {self.status})"
        if status in ("ok", "starting", "off"):
            is_start = self.status in ("off", "starting")
            logger.log("DEBUG" if is_start else "INFO", "{}", line)
        else:
            problems = "; ".join(f"{one.reason}: {one.message}" for one in self.row().problems[:3])
            logger.warning("{}{}", line, f": {problems}" if problems else "")

    def _say_unconfirmed(self, now: float) -> None:
        late = [name for name, scope in self._scopes.items() if scope.deadline <= now]
        for name in late:
            if ("trouble", name) not in self.problems:
                self._report("trouble", name, name, "Unconfirmed", REASONS["Unconfirmed"])
        if not late and ("failure", "") not in self.problems:
            self._report("failure", "", "", "Unconfirmed", REASONS["Unconfirmed"])

    def _status(self, now: float) -> str:
        if not self._running:
            return "failing" if ("failure", "") in self.problems else "off"
        if min((scope.deadline for scope in self._scopes.values()), default=self._patience) <= now:
            return "stale"
        if self._scopes and all(scope.confirmed_at for scope in self._scopes.values()):
            self._complete = True
        if not self._complete:
            return "starting"
        is_degraded = ("failure", "") in self.problems or any(
            scope.in_trouble for scope in self._scopes.values()
        )
        return "degraded" if is_degraded else "ok"

    def _known_good(self) -> datetime | None:
        """The time at which all scopes had been confirmed."""
        times = [scope.confirmed_at for scope in self._scopes.values()]
        known = [at for at in times if at]
        return min(known) if known and len(known) == len(times) else None

    def _arm(self, now: float) -> None:
        """Judge again when the next promise breaks; a confirmation in between costs no timer."""
        self.stop()
        deadlines = [scope.deadline for scope in self._scopes.values()] or [self._patience]
        ahead = [deadline for deadline in deadlines if now < deadline < inf]
        if ahead and self._running:
            self._timer = self.clock.call_later(min(ahead) - now, self._judge)


def _place(problem: SourceProblem) -> tuple[str, str, str]:
    return problem.scope, problem.reason, problem.message


def _gravity(known: tuple[tuple[str, str], SourceProblem]) -> tuple[Any, ...]:
    """What hinders the whole source or a scope before what hides one part."""
    (kind, _), problem = known
    return (kind not in BOUNDED_BY_SCOPES, *_place(problem))
