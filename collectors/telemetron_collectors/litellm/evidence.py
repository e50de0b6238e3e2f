"""The status of one deployment, judged only by the results of its calls."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from telemetron.document import Cooldowns, ModelError
from telemetron_collectors.litellm.fault import is_callers
from telemetron_collectors.litellm.metrics import COOLDOWNS, FAILURES, Series

HEALTHY_SECONDS = 300.0


class Observation(NamedTuple):
    """Results of one deployment's calls between two polls."""

    succeeded: bool = False
    """The provider answered a call; answers from the proxy's cache do not count."""
    failure: Series | None = None
    """The most frequent failure that was not the caller's fault."""
    cooldowns: int = 0
    cooldown: Series | None = None
    ended_well: bool = False
    """If some calls succeeded and some failed: the last one succeeded."""
    refused: bool = False
    """The router refused calls that this deployment could have served."""
    doubtful: bool = False
    """Some calls failed, and the metrics do not show whose fault that was."""


class Cooling(NamedTuple):
    """A cooldown that may still last."""

    until: datetime
    """Its latest possible end."""
    sure_until: float
    """Its earliest possible end, monotonic; from then on it may have ended."""


class Evidence:
    """All observations of one deployment. Times are monotonic unless they are datetimes."""

    def __init__(self, at: datetime) -> None:
        self.status = "unknown"
        self.since = at
        self.cooldowns = Cooldowns()
        self.last_error: ModelError | None = None
        self.cooling: Cooling | None = None
        self.sees_successes = True
        """Whether the metrics would show a success."""
        self._succeeded_at: float | None = None
        self._failed_at: float | None = None
        """When the last call failed; None if none did, or if one has succeeded since."""
        self._refused_at: float | None = None
        self._spent_at: float | None = None

    def add(self, seen: Observation, now: float, at: datetime) -> None:
        """Add an observation; `now` is monotonic, `at` the wall clock."""
        error = seen.failure or seen.cooldown
        if error:
            self.last_error = ModelError(error.error_class, error.status_code, at)
        if seen.cooldown:
            count = (self.cooldowns.count or 0) + seen.cooldowns
            self.cooldowns = Cooldowns(count, at, seen.cooldown.status_code)
        if seen.succeeded:
            self._succeeded_at, self._refused_at = now, None
        elif seen.refused:
            self._refused_at = now
        elif seen.doubtful:
            self._succeeded_at = None
        if seen.succeeded or error:
            self._failed_at = now if error and not seen.ended_well else None

    def cool(
        self, cooldown_seconds: float | None, last_poll: float, now: float, at: datetime
    ) -> None:
        """Add a cooldown that began at some time since the last poll.

        A cooldown that may end before the next poll is only counted. Otherwise the status of a
        deployment with many short cooldowns would change twice in each interval.
        """
        if cooldown_seconds is not None and cooldown_seconds > 2 * (now - last_poll):
            until = at + timedelta(seconds=cooldown_seconds)
            self.cooling = Cooling(until, last_poll + cooldown_seconds)

    def note_budget(self, is_spent: bool, now: float) -> None:
        """Note whether the budget is spent."""
        if not is_spent:
            self._spent_at = None
        elif self._spent_at is None:
            self._spent_at = now

    def is_spent(self, *, strictly: bool) -> bool:
        """Return whether the spent budget stops calls.

        If not `strictly`, some callers may have no budget, and a later success proves it.
        """
        if self._spent_at is None:
            return False
        return strictly or self._succeeded_at is None or self._succeeded_at <= self._spent_at

    def is_refused(self, now: float) -> bool:
        """Return whether calls were refused recently and none succeeded since."""
        return _is_recent(self._refused_at, now)

    def judge(self, now: float, at: datetime, *, is_answering: bool, is_spent: bool) -> None:
        """Set the status; unless `is_answering`, the proxy has not answered for too long."""
        if self.cooling and now >= self.cooling.sure_until:
            self.cooling = None
        status = self._status(now, is_spent) if is_answering else "unknown"
        if status != self.status:
            self.status, self.since = status, at

    def changes_at(self, now: float) -> float | None:
        """Return the next time at which the status may change without a new observation."""
        times = [
            at + HEALTHY_SECONDS
            for at in (self._succeeded_at, self._refused_at, self._failed_at)
            if at is not None
        ]
        if self.cooling:
            times.append(self.cooling.sure_until)
        return min((time for time in times if time > now), default=None)

    def _is_failing(self, now: float) -> bool:
        """Return whether the last call failed; without counted successes, for five minutes only."""
        return self._failed_at is not None and (
            self.sees_successes or _is_recent(self._failed_at, now)
        )

    def _status(self, now: float, is_spent: bool) -> str:
        if self.cooling:
            return "cooling_down"
        if self._is_failing(now) or is_spent or self.is_refused(now):
            return "unhealthy"
        return "healthy" if _is_recent(self._succeeded_at, now) else "unknown"


def _is_recent(then: float | None, now: float) -> bool:
    return then is not None and now - then < HEALTHY_SECONDS


def observe(
    rises: Iterable[tuple[Series, float]], *, succeeded: bool, ended_well: bool, refused: bool
) -> Observation:
    """Turn the rises of one deployment's counters into an observation."""
    rises = list(rises)
    failed = [(rise, one) for one, rise in rises if one.kind == FAILURES and not is_callers(one)]
    failures = [(rise, one) for rise, one in failed if one.error_class or one.status_code]
    cooldowns = [(rise, one) for one, rise in rises if one.kind == COOLDOWNS]
    return Observation(
        succeeded=succeeded,
        failure=_most(failures),
        cooldowns=round(sum(rise for rise, _ in cooldowns)),
        cooldown=_most(cooldowns),
        ended_well=succeeded and ended_well,
        refused=refused,
        doubtful=len(failures) < len(failed),
    )


def _most(counted: list[tuple[float, Series]]) -> Series | None:
    """Return the most frequent series; the choice among equals is stable."""
    return max(counted, key=lambda one: (one[0], str(one[1])))[1] if counted else None
