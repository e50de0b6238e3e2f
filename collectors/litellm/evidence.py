"""Whether a deployment answers: judged by what was seen of its calls, and by nothing else."""

from collections.abc import Iterable
from datetime import datetime, timedelta
from typing import NamedTuple

from collectors.litellm.metrics import COOLDOWNS, FAILURES, SUCCESSES, Series
from telemetron.document import Cooldowns, ModelError

HEALTHY_SECONDS = 300.0


class Seen(NamedTuple):
    """What happened to one deployment between two looks."""

    succeeded: bool = False
    failure: Series | None = None
    """The most frequent one."""
    cooldowns: int = 0
    cooldown: Series | None = None
    ended_well: bool = False
    """Where some calls succeeded and some failed: the last one succeeded."""


class Cooling(NamedTuple):
    """A cooldown that may still last."""

    until: datetime
    """Its latest possible end."""
    sure_until: float
    """Its earliest possible end, monotonic: from then on nobody knows."""


class Evidence:
    """What was seen of one deployment so far."""

    def __init__(self, at: datetime) -> None:
        self.status = "unknown"
        self.since = at
        self.cooldowns = Cooldowns()
        self.last_error: ModelError | None = None
        self.cooling: Cooling | None = None
        self._succeeded_at: float | None = None
        self._is_failing = False

    def note(self, seen: Seen, now: float, at: datetime) -> None:
        """Something happened; `now` is monotonic, `at` the wall clock."""
        error = seen.failure or seen.cooldown
        if error:
            self.last_error = ModelError(error.error_class, error.status_code, at)
        if seen.cooldown:
            count = self.cooldowns.count + seen.cooldowns
            self.cooldowns = Cooldowns(count, at, seen.cooldown.status_code)
        if seen.succeeded:
            self._succeeded_at = now
        if seen.succeeded or error:
            self._is_failing = bool(error) and not seen.ended_well

    def cool(
        self, cooldown_seconds: float | None, last_look: float, now: float, at: datetime
    ) -> None:
        """It was cooled down at some time since the last look."""
        if cooldown_seconds is not None and last_look + cooldown_seconds > now:
            until = at + timedelta(seconds=cooldown_seconds)
            self.cooling = Cooling(until, last_look + cooldown_seconds)

    def judge(self, now: float, at: datetime) -> None:
        """What it all means now."""
        if self.cooling and now >= self.cooling.sure_until:
            self.cooling = None
        status = self._status(now)
        if status != self.status:
            self.status, self.since = status, at

    def _status(self, now: float) -> str:
        if self.cooling:
            return "cooling_down"
        if self._is_failing:
            return "unhealthy"
        if self._succeeded_at is not None and now - self._succeeded_at < HEALTHY_SECONDS:
            return "healthy"
        return "unknown"


def seen(rises: Iterable[tuple[Series, float]], state: float | None) -> Seen:
    """What the rises of one deployment's counters say; `state` 0: the last call succeeded."""
    succeeded = False
    failures: list[tuple[float, Series]] = []
    cooldowns: list[tuple[float, Series]] = []
    for series, rise in rises:
        if series.kind == SUCCESSES:
            succeeded = True
        elif series.kind == FAILURES:
            failures.append((rise, series))
        elif series.kind == COOLDOWNS:
            cooldowns.append((rise, series))
    return Seen(
        succeeded=succeeded,
        failure=_most(failures),
        cooldowns=round(sum(rise for rise, _ in cooldowns)),
        cooldown=_most(cooldowns),
        ended_well=succeeded and state == 0,
    )


def _most(counted: list[tuple[float, Series]]) -> Series | None:
    """The most frequent; of equals always the same."""
    return max(counted, key=lambda one: (one[0], str(one[1])))[1] if counted else None
